"""Every driver passes the suite of `holdfast.testing`, on a real server.

Rule: the server's URL comes from the environment; without it the test is skipped, and under CI it
fails.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from holdfast.drivers import open_driver
from holdfast.errors import (
    BadUrl,
    ConnectionFailed,
    DatabaseBusy,
    DriverMissing,
    HoldfastError,
    InvalidRequestError,
    LockTimeout,
    NotSupported,
    SerializationFailure,
)
from holdfast.pool import AsyncPool, BlockingPool, PoolSettings
from holdfast.runner import AsyncRunner, SyncRunner
from holdfast.steps import command, execute, fetch
from holdfast.testing.conformance import checks_of, exercise, exercise_async


def through(library: str, url: str) -> str:
    """Ask for a driver by name."""
    return url.replace("postgresql://", f"postgresql+{library}://", 1)


ON_SQLITE = checks_of("sqlite")
ON_POSTGRESQL = checks_of("postgresql")
ON_MARIADB = checks_of("mariadb")


@pytest.mark.parametrize("name", ON_SQLITE)
@pytest.mark.parametrize("place", ["memory", "file"])
def test_sqlite_conforms(name: str, place: str, tmp_path: Any) -> None:
    url = "sqlite://" if place == "memory" else f"sqlite:///{tmp_path}/a.db"

    assert exercise(open_driver(url, asynchronous=False), only=name) == [name]


@pytest.mark.parametrize("name", ON_POSTGRESQL)
def test_psycopg_conforms(name: str, postgresql_url: str) -> None:
    driver = open_driver(postgresql_url, asynchronous=False)

    assert exercise(driver, only=name) == [name]


@pytest.mark.parametrize("scheme", ["mariadb", "mysql"])
@pytest.mark.parametrize("name", ON_MARIADB)
def test_pymysql_conforms(name: str, scheme: str, mariadb_url: str) -> None:
    driver = open_driver(mariadb_url.replace("mariadb", scheme, 1), asynchronous=False)

    assert exercise(driver, only=name) == [name]


@pytest.mark.parametrize("scheme", ["mariadb", "mysql"])
@pytest.mark.parametrize("name", ON_MARIADB)
async def test_asyncmy_conforms(name: str, scheme: str, mariadb_url: str) -> None:
    driver: Any = open_driver(mariadb_url.replace("mariadb", scheme, 1), asynchronous=True)

    assert await exercise_async(driver, only=name) == [name]


@pytest.mark.parametrize("name", ON_POSTGRESQL)
@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_async_drivers_conform(name: str, library: str, postgresql_url: str) -> None:
    driver: Any = open_driver(through(library, postgresql_url), asynchronous=True)

    assert await exercise_async(driver, only=name) == [name]


# ------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("postgres://u:hunter2@h/db", BadUrl, "postgresql://"),
        ("postgresql://u:hunter2@h:abc/db", BadUrl, "form of a URL"),
        ("postgresql://u:hun/ter2", BadUrl, "form of a URL"),
        ("postgresql+asyncpg://u:hunter2@h/db", BadUrl, "postgresql+psycopg://"),
        ("postgresql+pg8000://u:hunter2@h/db", BadUrl, "postgresql+psycopg://"),
        ("postgresql://u:hunter2@h/db?colour=red", BadUrl, "'colour'"),
        ("sqlite://u:hunter2@h/x", BadUrl, "no host"),
        ("sqlite:///x?mode=ro", BadUrl, "uri=true"),
        ("sqlite:///x?timeout=soon", BadUrl, "timeout=5"),
        ("hunter2://x", BadUrl, "unknown"),
        ("mysql+mysqldb://u:hunter2@h/db", BadUrl, "mysql+pymysql://"),
        ("mariadb+asyncmy://u:hunter2@h/db", BadUrl, "mariadb+pymysql://"),
        ("mariadb://u:hunter2@h/db?colour=red", BadUrl, "'colour'"),
        ("mariadb://u:hunter2@h/db?charset=latin1", BadUrl, "utf8mb4"),
        ("mariadb://u:hunter2@h/db?sql_mode=ANSI", BadUrl, "sql_mode"),
        ("mongodb://u:hunter2@h/db", NotSupported, "later release"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(
    url: str, kind: type[HoldfastError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        open_driver(url, asynchronous=False)

    told = "".join(traceback.format_exception(caught.value))
    assert says in told
    assert "hunter2" not in told.replace("hunter2://", "") or url.startswith("hunter2")
    assert "ter2" not in told or url.startswith("hunter2")


def test_a_missing_library_is_told_with_the_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holdfast.drivers.asyncpg_", None)

    with pytest.raises(DriverMissing, match=r"pip install 'holdfast\[postgresql\]'"):
        open_driver("postgresql://h/db", asynchronous=True)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_refused_connection_is_told_without_its_password(asynchronous: bool, unused_tcp_port: int) -> None:
    url = f"postgresql://u:hunter2@127.0.0.1:{unused_tcp_port}/db?connect_timeout=5"

    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1") as caught:
        connect(open_driver(url, asynchronous=asynchronous))

    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_options_of_the_url_reach_the_server(asynchronous: bool, postgresql_url: str) -> None:
    options = "application_name=tour&connect_timeout=5&sslmode=prefer"
    driver = open_driver(f"{postgresql_url}?{options}", asynchronous=asynchronous)

    assert connect(driver, "SELECT current_setting('application_name')")[0][0] == "tour"


def test_a_file_that_is_no_database_is_told(tmp_path: Any) -> None:
    (tmp_path / "bad.db").write_bytes(b"x" * 5000)

    with pytest.raises(ConnectionFailed, match="NOTADB"):
        connect(open_driver(f"sqlite:///{tmp_path}/bad.db", asynchronous=False))


def test_sqlite_has_its_settings(tmp_path: Any) -> None:
    connection = open_driver(f"sqlite:///{tmp_path}/a.db", asynchronous=False).connect()

    settings = [
        connection.fetch(f"PRAGMA {name}", (), False)[0][0]
        for name in ("foreign_keys", "journal_mode", "synchronous", "busy_timeout")
    ]

    assert settings == [1, "wal", 1, 5000]
    connection.close()


def test_the_dialect_learns_from_the_first_connection(postgresql_url: str) -> None:
    driver = open_driver(postgresql_url, asynchronous=False)
    connection = driver.connect()

    version = connection.fetch("SHOW server_version_num", (), False)[0][0]

    assert driver.dialect.server_version_info == (int(version) // 10000, int(version) % 10000)
    assert driver.dialect.default_schema_name == "public"
    assert driver.capabilities.server_version == driver.dialect.server_version_info
    connection.close()


def connect(driver: Any, sql: str = "SELECT 1") -> Any:
    """Open a connection and ask one thing, blocking or async."""
    if not asyncio.iscoroutinefunction(driver.connect):
        connection = driver.connect()
        try:
            return connection.fetch(sql, (), False)
        finally:
            connection.close()
    return asyncio.run(_connect(driver, sql))


async def _connect(driver: Any, sql: str) -> Any:
    connection = await driver.connect()
    try:
        return await connection.fetch(sql, (), False)
    finally:
        await connection.close()


# ------------------------------------------------------------------- two sessions racing


def test_a_busy_sqlite_database_is_told(tmp_path: Any) -> None:
    with two_runners(f"sqlite:///{tmp_path}/a.db?timeout=0.01") as (one, two):
        one(command("CREATE TABLE t (a INTEGER)"))
        one(command("BEGIN IMMEDIATE"))

        with pytest.raises(DatabaseBusy):
            two(execute("INSERT INTO t VALUES (1)"))


def test_a_stale_snapshot_of_sqlite_asks_for_a_replay(tmp_path: Any) -> None:
    with two_runners(f"sqlite:///{tmp_path}/a.db?timeout=0.01") as (one, two):
        one(command("CREATE TABLE t (a INTEGER)"))
        one(command("BEGIN"))
        one(fetch("SELECT * FROM t"))
        two(execute("INSERT INTO t VALUES (1)"))

        with pytest.raises(SerializationFailure):
            one(execute("INSERT INTO t VALUES (2)"))


def test_conflicts_on_postgresql_are_told_apart(postgresql_url: str) -> None:
    with two_runners(postgresql_url) as (one, two):
        one(command("CREATE TABLE t (a INTEGER)"))
        one(command("INSERT INTO t VALUES (1), (2)"))
        for runner in (one, two):
            runner(command("BEGIN ISOLATION LEVEL SERIALIZABLE"))
            runner(fetch("SELECT sum(a) FROM t"))
        one(execute("UPDATE t SET a = 5 WHERE a = 1"))
        two(execute("UPDATE t SET a = 6 WHERE a = 2"))
        one(command("COMMIT"))

        with pytest.raises(SerializationFailure):
            two(command("COMMIT"))
        one(command("BEGIN"))
        one(execute("UPDATE t SET a = 7 WHERE a = 5"))
        with pytest.raises(LockTimeout):
            two(fetch("SELECT * FROM t WHERE a = 5 FOR UPDATE NOWAIT"))


@contextmanager
def two_runners(url: str) -> Iterator[tuple[SyncRunner, SyncRunner]]:
    driver = open_driver(url, asynchronous=False)
    pool = BlockingPool(driver)
    one, two = SyncRunner(pool, driver.translate), SyncRunner(pool, driver.translate)
    yield one, two
    one.close()
    two.close()
    pool.close()


# ------------------------------------------------------------- cut wires, cancellation, forks


def test_a_ping_finds_a_dead_connection(postgresql_url: str) -> None:
    driver = open_driver(postgresql_url, asynchronous=False)
    pool = BlockingPool(driver, PoolSettings(pool_pre_ping=True))
    runner = SyncRunner(pool, driver.translate)
    before = runner(fetch("SELECT pg_backend_pid()"))[0][0]
    killer = driver.connect()
    killer.fetch("SELECT pg_terminate_backend($1::INTEGER, 5000)", (before,), False)

    after = runner(fetch("SELECT pg_backend_pid()"))[0][0]

    assert after != before
    assert pool.stats().size == 1
    pool.close()
    killer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_leaves_the_parents_connections_alone(postgresql_url: str) -> None:
    driver = open_driver(postgresql_url, asynchronous=False)
    pool = BlockingPool(driver)
    runner = SyncRunner(pool, driver.translate)
    runner(command("BEGIN"))

    child = os.fork()
    if child == 0:
        runner.discard()
        fresh = SyncRunner(pool, driver.translate)
        os._exit(0 if fresh(fetch("SELECT 7")) == [(7,)] and pool.stats().size == 1 else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert runner(fetch("SELECT 8")) == [(8,)]
    assert runner.connection.in_transaction
    runner.close()
    pool.close()


SLOW = "SELECT pg_sleep(60)"
SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE query = $1::TEXT AND state = 'active' AND datname = current_database()"


@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_cancelled_statement_leaves_a_clean_connection(
    library: str, begun: bool, postgresql_url: str
) -> None:
    driver: Any = open_driver(through(library, postgresql_url), asynchronous=True)
    pool = AsyncPool(driver)
    runner = AsyncRunner(pool, driver.translate)
    watcher = AsyncRunner(pool, driver.translate)
    if begun:
        await runner(command("BEGIN"))
    before = (await runner(fetch("SELECT pg_backend_pid()")))[0][0]

    task = asyncio.create_task(runner(fetch(SLOW)))
    while not (await watcher(fetch(SLEEPERS, (SLOW,))))[0][0]:  # noqa: ASYNC110 - the server is asked
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await watcher(fetch(SLEEPERS, (SLOW,))))[0][0] == 0
    assert (pool.stats().in_use, pool.stats().idle) == (0, 2)
    pids = {(await connection.fetch("SELECT pg_backend_pid()", (), False))[0][0] for connection in idle(pool)}
    assert before in pids
    await pool.close()


def idle(pool: AsyncPool) -> list[Any]:
    return [member.connection for member in pool._state.idle]


def test_a_pool_follows_its_program_to_a_new_loop(postgresql_url: str) -> None:
    driver: Any = open_driver(through("psycopg", postgresql_url), asynchronous=True)
    pool = AsyncPool(driver)

    async def ask() -> int:
        rows = await AsyncRunner(pool, driver.translate)(fetch("SELECT 1"))
        return len(rows)

    assert [asyncio.run(ask()), asyncio.run(ask())] == [1, 1]
    asyncio.run(pool.close())


async def test_two_loops_at_once_are_refused(tmp_path: Any) -> None:
    driver = open_driver(f"sqlite:///{tmp_path}/a.db", asynchronous=True)
    pool = AsyncPool(driver)
    await pool.release(await pool.acquire())

    with pytest.raises(InvalidRequestError, match="two event loops"):
        await asyncio.to_thread(lambda: asyncio.run(pool.acquire()))

    await pool.close()
