"""A place behind PgBouncer: the same empty database, through the pooler and without it.

``./dev test`` says in ``HOLDFAST_TEST_PGBOUNCER_URL`` where it is: in transaction mode, before the PostgreSQL of
``HOLDFAST_TEST_POSTGRESQL_URL``, for any name of a database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.conftest import OWN_SCHEMAS, with_database
from tools import servers

PGBOUNCER = servers.PGBOUNCER.variable


@dataclass(frozen=True)
class Bounced:
    """One database by two ways: through the pooler, and straight to the server."""

    url: str
    direct: str
    version: tuple[int, ...]

    def start_over(self) -> None:
        """Let PgBouncer end its server connections, and all that was left in them."""
        console(self.url, f'RECONNECT "{self.url.rpartition("/")[2]}"')

    @property
    def keeps_prepared_statements(self) -> bool:
        return self.version >= (1, 21)

    def through(self, driver: str) -> str:
        return self.url.replace("postgresql://", f"postgresql+{driver}://", 1)


def _absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def pgbouncer_server() -> str:
    """The URL of PgBouncer itself."""
    url = os.environ.get(PGBOUNCER)
    if not url:
        _absent(f"no PgBouncer: run ./dev test, or set {PGBOUNCER}")
    return str(url)


@pytest.fixture(scope="session")
def _bounced_database(pgbouncer_server: str, postgresql_server: str) -> Iterator[Bounced]:
    """A database of this worker's own, whose server connections no test cuts: PgBouncer keeps them."""
    name = f"holdfast_bounced_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        yield Bounced(
            with_database(pgbouncer_server, name),
            with_database(postgresql_server, name),
            _version(pgbouncer_server),
        )
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _version(url: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(console(url, "SHOW VERSION")))[:2])


def console(url: str, command: str) -> list[tuple[Any, ...]]:
    """Say something to PgBouncer itself, whose console knows only plain queries."""
    with psycopg.connect(with_database(url, "pgbouncer"), autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(command)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def bounced(_bounced_database: Bounced) -> Bounced:
    """The database behind PgBouncer, empty."""
    with psycopg.connect(_bounced_database.direct, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '10s'")
        schemas = [f'"{name}"' for (name,) in connection.execute(OWN_SCHEMAS)]
        with connection.transaction():
            if schemas:
                connection.execute(f"DROP SCHEMA {', '.join(schemas)} CASCADE")
            connection.execute("CREATE SCHEMA public")
    return _bounced_database


@pytest.fixture(scope="module")
def session_pooled(postgresql_server: str) -> Iterator[str]:
    """A PgBouncer of this module's own, in session mode."""
    programs = servers.find_programs(servers.PGBOUNCER)
    if programs is None:
        _absent("no PgBouncer's program is installed here")
    assert programs is not None
    with servers.throwaway(servers.PGBOUNCER, programs, postgresql_server) as place:
        yield with_database(servers.PGBOUNCER.url(place), servers.SESSION_MODE)
