"""What a pool survives: restarts, terminated backends, silent wires, servers that became read-only."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import TextClause, make_url, text

from holdfast import AsyncDatabase, Database
from holdfast.errors import ConnectionFailed, ConnectionLost, ReadOnly
from tests.conftest import SESSION_NUMBER, end_session, without_driver
from tests.servers.own_server import OwnServer, own_server
from tests.servers.wire import DOWN, VANISH, Wire
from tools.servers import MARIADB, POSTGRESQL

ASYNC = ["asyncpg", "psycopg"]
ASYNC_ON = [(POSTGRESQL, "asyncpg"), (POSTGRESQL, "psycopg"), (MARIADB, "asyncmy")]
OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


@pytest.fixture(scope="module", params=[POSTGRESQL, MARIADB], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    with own_server(request.param) as started:
        yield started


postgresql_alone = pytest.mark.parametrize("server", [POSTGRESQL], indirect=True, ids=lambda kind: kind.name)
mariadb_alone = pytest.mark.parametrize("server", [MARIADB], indirect=True, ids=lambda kind: kind.name)
each_async = pytest.mark.parametrize(
    ("server", "driver"), ASYNC_ON, indirect=["server"], ids=[driver for _, driver in ASYNC_ON]
)


def through(driver: str, url: str) -> str:
    return url.replace("://", f"+{driver}://", 1)


def driver_of(url: str) -> str:
    return re.split("[+:]", url)[1]


def kind_of(url: str) -> str:
    return re.split("[+:]", url)[0]


def terminate_others(url: str) -> None:
    """End all sessions of the database, and wait until they are gone."""
    with Database(url) as db, db.session() as session:
        others = session.scalars(text(OTHERS[kind_of(url)])).all()
    for number in others:
        end_session(url, number)


def warm(pool: Any, count: int) -> None:
    """Let so many connections be idle."""
    for connection in [pool.acquire() for _ in range(count)]:
        pool.release(connection)


async def warm_async(pool: Any, count: int) -> None:
    for connection in [await pool.acquire() for _ in range(count)]:
        await pool.release(connection)


def pid_of(db: Database) -> int:
    with db.session() as session:
        return session.scalar(question(db))  # type: ignore[no-any-return]


async def pid_of_async(db: AsyncDatabase) -> int:
    async with db.session() as session:
        return await session.scalar(question(db))  # type: ignore[no-any-return]


def question(db: Database | AsyncDatabase) -> TextClause:
    return text(SESSION_NUMBER[db._opened.backend.capabilities.server])


# ------------------------------------------------------------------------ backends that ended


def test_terminated_backends_are_noticed_before_they_are_lent(wired_url: str) -> None:
    with Database(wired_url) as db:
        warm(db.pool, 4)
        terminate_others(wired_url)

        assert [pid_of(db) > 0 for _ in range(4)] == [True] * 4
        stats = db.pool.stats()
    assert (stats.in_use, stats.waiting, stats.size) == (0, 0, stats.opened - stats.closed)


async def test_terminated_backends_are_noticed_before_they_are_lent_async(async_wired_url: str) -> None:
    async with AsyncDatabase(async_wired_url) as db:
        await warm_async(db.pool, 4)
        terminate_others(
            without_driver(async_wired_url)
        )  # the loop has no chance to read their ends meanwhile

        assert [await pid_of_async(db) > 0 for _ in range(4)] == [True] * 4
        stats = db.pool.stats()
    assert (stats.in_use, stats.waiting, stats.size) == (0, 0, stats.opened - stats.closed)


# ------------------------------------------------------------------------ restarts


class Gauge:
    """Counts how many connections are being opened at once, around a driver's own connect."""

    def __init__(self, driver: Any) -> None:
        self._connect = driver.connect
        self._lock = threading.Lock()
        self.now = self.most = 0
        driver.connect = self.connect_async if asyncio.iscoroutinefunction(driver.connect) else self.connect

    def _count(self, step: int) -> None:
        with self._lock:
            self.now += step
            self.most = max(self.most, self.now)

    def connect(self) -> Any:
        self._count(1)
        try:
            return self._connect()
        finally:
            self._count(-1)

    async def connect_async(self) -> Any:
        self._count(1)
        try:
            return await self._connect()
        finally:
            self._count(-1)


def test_after_a_restart_all_are_served_and_few_connect_at_once(server: OwnServer) -> None:
    with Database(server.url, pool_size=8, max_overflow=0, pool_max_connecting=2) as db:
        warm(db.pool, 8)
        server.stop()
        with pytest.raises(ConnectionFailed):
            pid_of(db)
        server.start()
        gauge = Gauge(db._opened.driver)

        with ThreadPoolExecutor(16) as threads:
            pids = list(threads.map(lambda _: pid_of(db), range(64)))

        stats = db.pool.stats()
    assert all(pids)
    assert gauge.most <= 2
    assert (stats.in_use, stats.waiting, stats.opening) == (0, 0, 0)
    assert stats.size == stats.opened - stats.closed <= 8


@each_async
async def test_after_a_restart_all_are_served_and_few_connect_at_once_async(
    driver: str, server: OwnServer
) -> None:
    url = through(driver, server.url)
    async with AsyncDatabase(url, pool_size=8, max_overflow=0, pool_max_connecting=2) as db:
        await warm_async(db.pool, 8)
        server.stop()
        with pytest.raises(ConnectionFailed):
            await pid_of_async(db)
        server.start()
        gauge = Gauge(db._opened.driver)

        pids = await asyncio.gather(*(pid_of_async(db) for _ in range(64)))

        stats = db.pool.stats()
    assert all(pids)
    assert gauge.most <= 2
    assert (stats.in_use, stats.waiting, stats.opening) == (0, 0, 0)
    assert stats.size == stats.opened - stats.closed <= 8


def test_a_restart_under_load_loses_no_connection_and_the_work_goes_on(server: OwnServer) -> None:
    """Statements under way may fail, and say so; nothing hangs, and no place is lost."""
    with Database(server.url, pool_size=4, max_overflow=0) as db:
        stop = threading.Event()
        done, failed = [0] * 8, [0] * 8

        def work(number: int) -> None:
            while not stop.is_set():
                try:
                    pid_of(db)
                    done[number] += 1
                except (ConnectionLost, ConnectionFailed):
                    failed[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        server.restart()
        before = sum(done)
        try:
            wait_until(lambda: sum(done) >= before + 100)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)

        stats = db.pool.stats()
    assert (stats.in_use, stats.waiting, stats.opening) == (0, 0, 0)
    assert stats.size == stats.opened - stats.closed <= 4


# ------------------------------------------------------------------------ silent wires


@pytest.fixture
def short_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a fifth of a second, so that a test need not wait five."""
    monkeypatch.setattr("holdfast.pool.blocking.PING_SECONDS", 0.2)
    monkeypatch.setattr("holdfast.pool.asynchronous.PING_SECONDS", 0.2)


@pytest.mark.usefixtures("short_ping")
def test_a_half_open_connection_is_found_by_pre_ping(wired_url: str) -> None:
    with Wire(wired_url) as wire, Database(wire.url, pool_pre_ping=True) as db:
        before = pid_of(db)
        wire.arm(DOWN, 0, VANISH)

        assert pid_of(db) != before
        assert (db.pool.stats().closed, db.pool.stats().size) == (1, 1)


@pytest.mark.usefixtures("short_ping")
async def test_a_half_open_connection_is_found_by_pre_ping_async(async_wired_url: str) -> None:
    with Wire(without_driver(async_wired_url)) as wire:
        async with AsyncDatabase(wire.through(driver_of(async_wired_url)), pool_pre_ping=True) as db:
            before = await pid_of_async(db)
            wire.arm(DOWN, 0, VANISH)

            assert await pid_of_async(db) != before
            assert (db.pool.stats().closed, db.pool.stats().size) == (1, 1)


@pytest.mark.usefixtures("short_ping")
def test_one_lost_connection_makes_the_others_suspect(wired_url: str) -> None:
    """The other one is half-open: no look would find it, and nobody asked for a ping."""
    with Wire(wired_url) as wire, Database(wire.url) as db:
        warm(db.pool, 2)
        with pytest.raises(ConnectionLost), db.begin() as session:  # noqa: PT012 - the whole block must raise
            pid = session.scalar(question(db))
            end_session(wired_url, pid)
            session.scalar(question(db))
        wire.arm(DOWN, 0, VANISH)

        assert pid_of(db) > 0
        assert db.pool.stats().closed == 2


@pytest.mark.usefixtures("short_ping")
async def test_one_lost_connection_makes_the_others_suspect_async(async_wired_url: str) -> None:
    with Wire(without_driver(async_wired_url)) as wire:
        async with AsyncDatabase(wire.through(driver_of(async_wired_url))) as db:
            await warm_async(db.pool, 2)
            with pytest.raises(ConnectionLost):  # noqa: PT012 - the whole block must raise
                async with db.begin() as session:
                    pid = await session.scalar(question(db))
                    end_session(without_driver(async_wired_url), pid)
                    await session.scalar(question(db))
            wire.arm(DOWN, 0, VANISH)

            assert await pid_of_async(db) > 0
            assert db.pool.stats().closed == 2


# ------------------------------------------------------------------------ read-only servers


def make_table(db: Database) -> None:
    with db.session() as session:
        session.execute(text("CREATE TABLE IF NOT EXISTS pool_writes (a INTEGER)"))
        session.commit()


def write(db: Database, **scope: Any) -> int:
    with db.begin(**scope) as session:
        session.execute(text("INSERT INTO pool_writes VALUES (1)"))
        return session.scalar(question(db))  # type: ignore[no-any-return]


async def write_async(db: AsyncDatabase, **scope: Any) -> int:
    async with db.begin(**scope) as session:
        await session.execute(text("INSERT INTO pool_writes VALUES (1)"))
        return await session.scalar(question(db))  # type: ignore[no-any-return]


def test_a_transaction_that_is_read_only_by_its_own_wish_evicts_nobody(wired_url: str) -> None:
    with Database(wired_url) as db:
        make_table(db)
        before = pid_of(db)

        with pytest.raises(ReadOnly):
            write(db, read_only=True)

        assert pid_of(db) == before
        assert (write(db), db.pool.stats().closed) == (before, 0)


async def test_a_transaction_that_is_read_only_by_its_own_wish_evicts_nobody_async(
    async_wired_url: str,
) -> None:
    with Database(without_driver(async_wired_url)) as blocking:
        make_table(blocking)
    async with AsyncDatabase(async_wired_url) as db:
        before = await pid_of_async(db)

        with pytest.raises(ReadOnly):
            await write_async(db, read_only=True)

        assert await pid_of_async(db) == before
        assert (await write_async(db), db.pool.stats().closed) == (before, 0)


@postgresql_alone
def test_a_server_that_refuses_writes_by_default_is_left_for_another(server: OwnServer) -> None:
    with Database(server.url) as db:
        make_table(db)
        before = write(db)
        server.ask("ALTER SYSTEM SET default_transaction_read_only = on")
        server.ask("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: server.ask("SHOW default_transaction_read_only") == [("on",)])
            with pytest.raises(ReadOnly):  # noqa: PT012 - the loop ends with the error
                while True:  # the old connection hears of the change at one of its next statements
                    write(db)
        finally:
            server.ask("ALTER SYSTEM RESET default_transaction_read_only")
            # What the pool asks next must still find the server read-only.
        assert pid_of(db) != before
        server.ask("SELECT pg_reload_conf()")
        wait_until(lambda: server.ask("SHOW default_transaction_read_only") == [("off",)])
        assert db.pool.stats().closed == 1


@postgresql_alone
def test_a_primary_that_became_a_standby_is_left_for_another(server: OwnServer) -> None:
    with Database(server.url) as db:
        make_table(db)
        server.demote()
        standby = pid_of(db)

        with pytest.raises(ReadOnly):
            write(db)

        assert pid_of(db) != standby
        server.ask("SELECT pg_promote()")
        assert write(db) > 0


@postgresql_alone
@pytest.mark.parametrize("driver", ASYNC)
async def test_a_primary_that_became_a_standby_is_left_for_another_async(
    driver: str, server: OwnServer
) -> None:
    with Database(server.url) as blocking:
        make_table(blocking)
    async with AsyncDatabase(through(driver, server.url)) as db:
        server.demote()
        standby = await pid_of_async(db)

        with pytest.raises(ReadOnly):
            await write_async(db)

        assert await pid_of_async(db) != standby
        server.ask("SELECT pg_promote()")
        assert await write_async(db) > 0


@pytest.fixture
def replica(server: OwnServer) -> Iterator[str]:
    """The URL of a user whom ``read_only`` stops, which makes of a primary what a failover leaves of it."""
    server.ask("CREATE USER writer@'127.0.0.1' IDENTIFIED BY 'w'")
    server.ask("GRANT SELECT, INSERT, CREATE ON *.* TO writer@'127.0.0.1'")
    yield str(make_url(server.url).set(username="writer", password="w").render_as_string(hide_password=False))
    server.ask("SET GLOBAL read_only = 0")
    server.ask("DROP USER writer@'127.0.0.1'")


@mariadb_alone
def test_a_mariadb_that_became_a_replica_is_left_for_another(server: OwnServer, replica: str) -> None:
    with Database(replica) as db:
        make_table(db)
        before = write(db)
        server.ask("SET GLOBAL read_only = 1")

        with pytest.raises(ReadOnly) as caught:
            write(db)

        assert caught.value.errno == 1290
        assert pid_of(db) != before
        server.ask("SET GLOBAL read_only = 0")
        assert write(db) > 0
        assert db.pool.stats().closed == 1


@mariadb_alone
async def test_a_mariadb_that_became_a_replica_is_left_for_another_async(
    server: OwnServer, replica: str
) -> None:
    with Database(replica) as blocking:
        make_table(blocking)
    async with AsyncDatabase(replica) as db:
        before = await write_async(db)
        server.ask("SET GLOBAL read_only = 1")

        with pytest.raises(ReadOnly):
            await write_async(db)

        assert await pid_of_async(db) != before
        server.ask("SET GLOBAL read_only = 0")
        assert await write_async(db) > 0


def wait_until(holds: Any, seconds: float = 30) -> None:
    """Look again until it holds."""
    for _ in range(int(seconds / 0.01)):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never held")


# ------------------------------------------------------------------------ keepalives

KEEPALIVES = ("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def options_of(fileno: int) -> list[int]:
    duplicate = socket.socket(fileno=socket.dup(fileno))
    with duplicate:
        return [
            duplicate.getsockopt(
                socket.SOL_SOCKET if name.startswith("SO") else socket.IPPROTO_TCP, getattr(socket, name)
            )
            for name in KEEPALIVES
        ]


SETTINGS = [
    ("", [1, 30, 10, 3, 30000]),
    ("?keepalives_idle=7&keepalives_interval=2&keepalives_count=5&tcp_user_timeout=9000", [1, 7, 2, 5, 9000]),
    ("?keepalives=0&tcp_user_timeout=0", [0, None, None, None, 0]),
]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux names these options so")
@pytest.mark.parametrize(("query", "expected"), SETTINGS)
def test_a_dead_peer_is_looked_for_as_the_url_says(query: str, expected: list[Any], wired_url: str) -> None:
    with Database(wired_url + query) as db:
        connection = db.pool.acquire()
        raw = connection.raw
        found = options_of(raw._sock.fileno() if kind_of(wired_url) == "mariadb" else raw.fileno())
        db.pool.release(connection)

    assert [a for a, b in zip(found, expected, strict=True) if b is not None] == [
        b for b in expected if b is not None
    ]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux names these options so")
@pytest.mark.parametrize(("query", "expected"), SETTINGS)
async def test_a_dead_peer_is_looked_for_as_the_url_says_async(
    query: str, expected: list[Any], async_wired_url: str
) -> None:
    async with AsyncDatabase(async_wired_url + query) as db:
        connection = await db.pool.acquire()
        raw = connection.raw
        psycopg = driver_of(async_wired_url) == "psycopg"
        fileno = raw.fileno() if psycopg else raw._transport.get_extra_info("socket").fileno()
        found = options_of(fileno)
        await db.pool.release(connection)

    assert [a for a, b in zip(found, expected, strict=True) if b is not None] == [
        b for b in expected if b is not None
    ]
