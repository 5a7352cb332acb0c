"""A database URL, understood: which server, which driver.

Rule: no text of this file repeats the URL, since a mistyped one can hold its password anywhere.
"""

from __future__ import annotations

import sqlalchemy
from sqlalchemy.engine import URL

from holdfast.errors import BadUrl, NotSupported

LATER = ("mongodb", "redis", "oracle", "mssql")


def parse(url: str | URL) -> URL:
    """Read a URL in SQLAlchemy's forms.

    Raises:
        BadUrl: where it is none; the text holds nothing of the URL but its scheme.
    """
    if isinstance(url, URL):
        return url
    if not isinstance(url, str):
        raise BadUrl(reason=f"it is of type {type(url).__name__}, not a text")
    if url.startswith("postgres:"):
        raise BadUrl(
            reason="the scheme `postgres` has another name",
            mend="Write `postgresql://` instead of `postgres://`.",
        )
    parsed = _make(url)
    if parsed is None:
        raise BadUrl(reason="it does not have the form of a URL, or its port is no number")
    return parsed


def _make(url: str) -> URL | None:
    try:
        return sqlalchemy.make_url(url)
    except Exception:  # its text repeats the URL, password and all
        return None


def choose(url: URL, *, asynchronous: bool) -> str:
    """Name the driver for a URL: sqlite, psycopg, asyncpg, pymysql or asyncmy."""
    backend, _, driver = url.drivername.partition("+")
    if backend in LATER:
        raise NotSupported(feature=f"The server {backend}")
    by_driver = _TABLE.get(backend)
    if by_driver is None:
        raise BadUrl(reason=f"the scheme {_safe(backend)} is unknown")
    if driver not in by_driver:
        known = ", ".join(f"`{backend}+{name}://`" for name in by_driver if name)
        raise BadUrl(
            reason=f"the driver {_safe(driver)} is unknown",
            mend=f"Write `{backend}://`, or one of {known}.",
        )
    blocking, async_ = by_driver[driver]
    chosen = async_ if asynchronous else blocking
    if chosen is None:
        has, is_, other = (
            ("an async", "blocking", "AsyncDatabase")
            if blocking is None
            else ("a blocking", "async", "Database")
        )
        named = "".join(
            f" or `{backend}+{name}://`" for name, pair in by_driver.items() if name and pair[asynchronous]
        )
        raise BadUrl(
            reason=f"{driver} has only {has} side, and this database is {is_}",
            mend=f"Write `{backend}://`{named}, or use `{other}(url)`.",
        )
    return chosen


_MYSQL: dict[str, tuple[str | None, str | None]] = {
    "": ("pymysql", "asyncmy"),
    "pymysql": ("pymysql", None),
    "asyncmy": (None, "asyncmy"),
}
_TABLE: dict[str, dict[str, tuple[str | None, str | None]]] = {
    "sqlite": {"": ("sqlite", "sqlite"), "pysqlite": ("sqlite", "sqlite"), "aiosqlite": ("sqlite", "sqlite")},
    "postgresql": {
        "": ("psycopg", "asyncpg"),
        "psycopg": ("psycopg", "psycopg"),
        "psycopg_async": ("psycopg", "psycopg"),
        "asyncpg": (None, "asyncpg"),
    },
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}


def _safe(word: str) -> str:
    return word if word.isidentifier() and len(word) < 20 else "given"
