"""Places for tests: an own, empty database for each test, on SQLite and on PostgreSQL.

``./dev test`` says in ``HOLDFAST_TEST_POSTGRESQL_URL`` where a server is.  Each pytest worker makes one database
there, and each test that asks for it gets it empty.  Without a server these tests are skips that say so; under
``CI`` they are failures.

``database_url`` runs a test on every server; the blocking and the async doors both take it.
``async_database_url`` runs it on every async driver as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

POSTGRESQL = "HOLDFAST_TEST_POSTGRESQL_URL"
OWN_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
OTHER_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def pytest_report_header() -> str:
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


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(scope="session")
def postgresql_server() -> str:
    """The URL of the server itself; for what needs several databases or roles."""
    url = os.environ.get(POSTGRESQL)
    if url:
        return url
    reason = f"no PostgreSQL server: run ./dev test, or set {POSTGRESQL}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def _worker_database(postgresql_server: str) -> Iterator[str]:
    """One database per pytest worker, made at its first use and dropped at its end."""
    import psycopg

    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"holdfast_test_{worker}_{os.getpid()}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        yield with_database(postgresql_server, name)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


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


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database on each server in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql+asyncpg", "postgresql+psycopg"])
def async_database_url(request: pytest.FixtureRequest) -> str:
    """An empty database for each async driver in turn."""
    server, _, driver = request.param.partition("+")
    url: str = request.getfixturevalue(f"{server}_url")
    return url.replace(f"{server}://", f"{request.param}://", 1) if driver else url


def with_database(url: str, name: str) -> str:
    """Point a URL at another database of the same server."""
    return re.sub(r"^(\w[\w+]*://[^/?]*)(/[^?]*)?", rf"\1/{name}", url, count=1)
