"""The systems measured, by server; each opens itself, answers the workloads by name, and closes.

A class has ``name``, ``door`` ("blocking" or "async"), ``stamp`` (how it writes a moment into SQLite),
``open(place)``, ``close()``, ``values(object, names)`` and ``values_of_post(object, names)`` for the checks,
``load_members()`` before an update, and one method for each workload it can do; async ones are coroutines.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

BARE = "driver"

MODULES: dict[str, tuple[str, ...]] = {
    "postgresql": (
        "bare_psycopg:BarePsycopg",
        "bare_asyncpg:BareAsyncpg",
        "holdfast_blocking:HoldfastBlocking",
        "holdfast_async:HoldfastAsync",
        "sqlalchemy_blocking:SqlalchemyBlocking",
        "sqlalchemy_blocking:SqlalchemyAutocommit",
        "sqlalchemy_async:SqlalchemyAsync",
        "sqlalchemy_async:SqlalchemyAsyncAutocommit",
    ),
    "mariadb": (
        "bare_pymysql:BarePymysql",
        "bare_asyncmy:BareAsyncmy",
        "holdfast_blocking:HoldfastBlocking",
        "holdfast_async:HoldfastAsync",
        "sqlalchemy_blocking:SqlalchemyBlocking",
        "sqlalchemy_blocking:SqlalchemyAutocommit",
        "sqlalchemy_async:SqlalchemyAsync",
        "sqlalchemy_async:SqlalchemyAsyncAutocommit",
    ),
    "sqlite": (
        "bare_sqlite:BareSqlite",
        "bare_hop:BareHop",
        "holdfast_blocking:HoldfastBlocking",
        "holdfast_async:HoldfastAsync",
        "sqlalchemy_blocking:SqlalchemyBlocking",
        "sqlalchemy_async:SqlalchemyAsync",
        "aiosqlite_:Aiosqlite",
    ),
}


def find(server: str) -> list[tuple[str, Any]]:
    """Import the classes of a server's systems; one that cannot be imported is given as its error."""
    found: list[tuple[str, Any]] = []
    for line in MODULES[server]:
        module, name = line.split(":")
        try:
            found.append((name, getattr(import_module(f"bench.systems.{module}"), name)))
        except Exception as error:  # not installed, or not built yet
            found.append((name, error))
    return found
