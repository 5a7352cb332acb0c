"""Places for tests: an own, empty database for each test, on SQLite, PostgreSQL and MariaDB.

``./dev test`` says in ``HOLDFAST_TEST_POSTGRESQL_URL`` and ``HOLDFAST_TEST_MARIADB_URL`` where a server is.  Each pytest worker makes one database
there, and each test that asks for it gets it empty.  Without a server these tests are skips that say so; under
``CI`` they are failures.

``database_url`` runs a test on every server; the blocking and the async doors both take it.
``async_database_url`` runs it on every async driver as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

POSTGRESQL = "HOLDFAST_TEST_POSTGRESQL_URL"
MARIADB = "HOLDFAST_TEST_MARIADB_URL"
OWN_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
OTHER_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def pytest_report_header() -> list[str]:
    return [_describe_postgresql(), _describe_mariadb()]


def _describe_mariadb() -> str:
    if not os.environ.get(MARIADB):
        return f"servers: no MariaDB; ./dev test brings one, or set {MARIADB}"
    try:
        with mariadb(os.environ[MARIADB]) as connection:
            return f"servers: MariaDB {connection.get_server_info()} on {connection.host}:{connection.port}"
    except pymysql.MySQLError as error:
        return f"servers: MariaDB does not answer: {error}"


def _describe_postgresql() -> str:
    if not os.environ.get(POSTGRESQL):
        return f"servers: no PostgreSQL; ./dev test brings one, or set {POSTGRESQL}"
    import psycopg

    try:
        with psycopg.connect(os.environ[POSTGRESQL], connect_timeout=10) as connection:
            info = connection.info
            return f"servers: PostgreSQL {info.parameter_status('server_version')} on {info.host}:{info.port}"
    except psycopg.OperationalError as error:
        return f"servers: PostgreSQL does not answer: {error}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    nightly = os.environ.get("HOLDFAST_NIGHTLY")
    for item in items:
        if item.get_closest_marker("nightly") and not nightly:
            item.add_marker(pytest.mark.skip(reason="the long form; set HOLDFAST_NIGHTLY=1"))
        if "postgresql_url" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgresql)
        if "mariadb_url" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mariadb)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(scope="session")
def postgresql_server() -> str:
    """The URL of the server itself; for what needs several databases or roles."""
    return _server_of(POSTGRESQL, "PostgreSQL")


@pytest.fixture(scope="session")
def mariadb_server() -> str:
    """The URL of the server itself, with the name of a database that holds nothing."""
    return _server_of(MARIADB, "MariaDB")


def _server_of(variable: str, name: str) -> str:
    url = os.environ.get(variable)
    if url:
        return url
    reason = f"no {name} server: run ./dev test, or set {variable}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def _worker_database(postgresql_server: str) -> Iterator[str]:
    """One database per pytest worker, made at its first use and dropped at its end."""
    name = f"holdfast_test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"
    with own_database(postgresql_server, name) as url:
        yield url


@pytest.fixture
def postgresql_url(_worker_database: str) -> str:
    """A database that nobody is connected to and that holds nothing but an empty schema ``public``."""
    import psycopg

    with psycopg.connect(_worker_database, autocommit=True) as connection:
        connection.execute(OTHER_SESSIONS)
        schemas = [f'"{name}"' for (name,) in connection.execute(OWN_SCHEMAS)]
        with connection.transaction():
            if schemas:
                connection.execute(f"DROP SCHEMA {', '.join(schemas)} CASCADE")
            connection.execute("CREATE SCHEMA public")
    return _worker_database


@contextmanager
def mariadb(url: str) -> Iterator[pymysql.Connection[Any]]:
    """A bare connection, in autocommit mode."""
    connection = open_mariadb(url)
    try:
        yield connection
    finally:
        connection.close()


def open_mariadb(url: str) -> pymysql.Connection[Any]:
    place = sa.make_url(url)
    return pymysql.connect(
        host=place.host,
        port=place.port or 3306,
        user=place.username,
        password=place.password or "",
        database=place.database,
        autocommit=True,
    )


def ask(connection: pymysql.Connection[Any], sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


@pytest.fixture(scope="session")
def _worker_mariadb(mariadb_server: str) -> Iterator[str]:
    """One database per pytest worker, made at its first use and dropped at its end."""
    name = f"holdfast_test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"
    with own_database(mariadb_server, name) as url:
        yield url


@pytest.fixture
def mariadb_url(_worker_mariadb: str) -> str:
    """A database that nobody is connected to and that holds nothing."""
    with mariadb(_worker_mariadb) as connection:
        others = (
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (number,) in ask(connection, others):
            with suppress(pymysql.MySQLError):  # it went by itself
                ask(connection, f"KILL {number}")
        while ask(connection, others):  # its locks last until its rollback is done
            pass
        ask(connection, "SET foreign_key_checks = 0")
        for kind, name in ask(
            connection,
            "SELECT IF(table_type = 'VIEW', 'VIEW', IF(table_type = 'SEQUENCE', 'SEQUENCE', 'TABLE')), table_name"
            " FROM information_schema.tables WHERE table_schema = DATABASE()",
        ):
            ask(connection, f"DROP {kind} `{name}`")
    return _worker_mariadb


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each server in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg", "mariadb+asyncmy"])
def async_database_url(request: pytest.FixtureRequest) -> str:
    """An empty database for each async driver in turn."""
    server, _, driver = request.param.partition("+")
    url: str = request.getfixturevalue(f"{server}_url")
    return url.replace(f"{server}://", f"{request.param}://", 1) if driver else url


@contextmanager
def own_database(server: str, name: str) -> Iterator[str]:
    """A database of that name for as long as the block runs."""
    if server.startswith("mariadb"):
        with mariadb(server) as connection:
            ask(connection, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        yield with_database(server, name)
        with mariadb(server) as connection:
            ask(connection, f"DROP DATABASE `{name}`")
        return
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        yield with_database(server, name)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def with_database(url: str, name: str) -> str:
    """Point a URL at another database of the same server."""
    return re.sub(r"^(\w[\w+]*://[^/?]*)(/[^?]*)?", rf"\1/{name}", url, count=1)


def without_driver(url: str) -> str:
    """The URL that names no driver."""
    return re.sub(r"^(\w+)\+\w+://", r"\1://", url)


def end_session(url: str, number: int) -> None:
    """End a session of PostgreSQL or MariaDB from outside, and wait until it is gone."""
    if url.startswith("mariadb"):
        with mariadb(without_driver(url)) as connection:
            ask(connection, f"KILL {number}")
            while ask(connection, f"SELECT id FROM information_schema.processlist WHERE id = {number}"):
                pass
        return
    import psycopg

    with psycopg.connect(without_driver(url), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [number])


SESSION_NUMBER = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT CONNECTION_ID()"}
"""What a session asks for the number by which others know it."""


@pytest.fixture(params=["postgresql", "mariadb"])
def wired_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each server that is reached by a wire."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["postgresql+asyncpg", "postgresql+psycopg", "mariadb+asyncmy"])
def async_wired_url(request: pytest.FixtureRequest) -> str:
    """The same for each async driver."""
    server = request.param.partition("+")[0]
    url = str(request.getfixturevalue(f"{server}_url"))
    return url.replace(f"{server}://", f"{request.param}://", 1)
