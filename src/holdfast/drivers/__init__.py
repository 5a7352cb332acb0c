"""One file per driver, behind one protocol; a driver's errors become ours here.

Rule: a driver's library is imported when a URL asks for it, and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal, overload

from sqlalchemy.engine import URL

from holdfast.drivers import pooler as poolers
from holdfast.drivers import urls
from holdfast.drivers.protocol import AsyncConnection, AsyncDriver, Connection, Driver
from holdfast.errors import DriverMissing

# name, asynchronous -> module, class, library
_FILES: dict[tuple[str, bool], tuple[str, str, str]] = {
    ("sqlite", False): ("sqlite", "SqliteDriver", "sqlite3"),
    ("sqlite", True): ("sqlite", "SqliteDriver", "sqlite3"),
    ("psycopg", False): ("psycopg_", "PsycopgDriver", "psycopg"),
    ("psycopg", True): ("psycopg_", "PsycopgAsyncDriver", "psycopg"),
    ("asyncpg", True): ("asyncpg_", "AsyncpgDriver", "asyncpg"),
    ("pymysql", False): ("pymysql_", "PymysqlDriver", "pymysql"),
    ("asyncmy", True): ("asyncmy_", "AsyncmyDriver", "asyncmy"),
}
_EXTRAS = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql",
    "asyncpg": "postgresql",
    "pymysql": "mariadb",
    "asyncmy": "mariadb",
}


@overload
def open_driver(
    url: str | URL,
    *,
    asynchronous: Literal[False],
    options: Mapping[str, Any] | None = None,
    pooler: str | None = None,
) -> Driver: ...
@overload
def open_driver(
    url: str | URL,
    *,
    asynchronous: bool,
    options: Mapping[str, Any] | None = None,
    pooler: str | None = None,
) -> Driver | AsyncDriver: ...
def open_driver(
    url: str | URL,
    *,
    asynchronous: bool,
    options: Mapping[str, Any] | None = None,
    pooler: str | None = None,
) -> Driver | AsyncDriver:
    """Choose the driver for a URL; nothing is connected yet.

    An async database gets a *blocking* driver where ``driver.threaded`` is true.
    ``options`` are arguments of the driver's connect call, and SQLAlchemy's ``json_serializer``
    and ``json_deserializer``.
    ``pooler`` is the mode of a pooler before the server, "transaction" or "session"; None finds it out.

    Raises:
        BadUrl: for an unknown scheme, driver or query option.
        InvalidRequestError: for a pooler that cannot be.
        DriverMissing: where the library is not installed.
        NotSupported: for a server of a later release.
    """
    parsed = urls.parse(url)
    chosen = urls.choose(parsed, asynchronous=asynchronous)
    poolers.check(pooler, server=parsed.get_backend_name())
    module, name, library = _FILES[chosen, asynchronous]
    found = _import(module)
    if isinstance(found, ImportError):
        raise DriverMissing(library=library, extra=_EXTRAS[library], orig=found)
    more = {"pooler": pooler} if parsed.get_backend_name() == "postgresql" else {}
    driver: Driver | AsyncDriver = getattr(found, name)(parsed, options or {}, **more)
    return driver


def _import(module: str) -> Any:
    try:
        return importlib.import_module(f"holdfast.drivers.{module}")
    except ImportError as error:
        return error


__all__ = ["AsyncConnection", "AsyncDriver", "Connection", "Driver", "open_driver"]
