"""Where a pool ends: a fork, an event loop, a thread's lock, a cancelled closing, one connection in memory."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from holdfast import AsyncDatabase, Database
from holdfast.clock import ManualClock
from holdfast.drivers import open_driver
from holdfast.pool import AsyncPool, PoolSettings
from tests.servers.test_pool_servers import backends, until
from tests.servers.wire import DOWN, VANISH, Wire

PID = text("SELECT pg_backend_pid()")
ONE = text("SELECT 1")
ASYNC = ["asyncpg", "psycopg"]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def through(driver: str, url: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://")


def succeeds_in_a_child(work: Callable[[], bool]) -> bool:
    """Run it in a forked child, which ends without cleaning up, as a killed worker does."""
    child = os.fork()
    if child == 0:
        ended = 1
        try:
            ended = 0 if work() else 2
        finally:
            os._exit(ended)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ------------------------------------------------------------------------ forks


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_begins_with_an_empty_pool_and_the_parent_goes_on(database_url: str) -> None:
    with Database(database_url) as db:
        with db.session() as session:
            session.execute(text("CREATE TABLE things (a INTEGER)"))
            session.commit()
        spare = db.pool.acquire()
        with db.begin() as session:
            session.execute(text("INSERT INTO things VALUES (1)"))
            db.pool.release(spare)  # one is lent in a transaction, and one is idle

            def work() -> bool:
                with db.session() as mine:
                    # The parent's row is not committed, and its connection is not used.
                    seen = mine.scalar(text("SELECT count(*) FROM things"))
                return (seen, db.pool.stats().opened, db.pool.stats().in_use) == (0, 1, 0)

            assert succeeds_in_a_child(work)
            session.execute(text("INSERT INTO things VALUES (2)"))

        with db.session() as session:
            assert session.scalar(text("SELECT count(*) FROM things")) == 2
        assert (db.pool.stats().size, db.pool.stats().in_use) == (2, 0)


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_is_born_while_a_thread_holds_the_lock_can_borrow(sqlite_url: str) -> None:
    with Database(sqlite_url) as db:

        def work() -> bool:
            with db.session() as session:
                return session.scalar(ONE) == 1

        with db.pool._lock:
            assert succeeds_in_a_child(work)


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("driver", ASYNC)
def test_a_child_s_loop_opens_its_own_and_the_parent_s_goes_on(driver: str, postgresql_url: str) -> None:
    db = AsyncDatabase(through(driver, postgresql_url))

    async def ask() -> Any:
        async with db.session() as session:
            return await session.scalar(PID)

    with asyncio.Runner() as runner:
        before = runner.run(ask())

        assert succeeds_in_a_child(lambda: asyncio.run(ask()) != before)

        assert runner.run(ask()) == before
        runner.run(db.close())


# ------------------------------------------------------------------------ loops


@pytest.mark.parametrize("driver", ASYNC)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_was_left_on_a_loop_that_ended_is_cut(driver: str, postgresql_url: str) -> None:
    db = AsyncDatabase(through(driver, postgresql_url))

    async def leave_some() -> Any:
        lent, idle = await db.pool.acquire(), await db.pool.acquire()
        await db.pool.release(idle)
        return lent

    left = asyncio.run(leave_some())

    async def ask() -> Any:
        async with db.session() as session:
            return await session.scalar(ONE)

    with asyncio.Runner() as runner:
        assert runner.run(ask()) == 1
        assert (db.pool.stats().size, db.pool.stats().opened) == (1, 1)
        assert not left.usable
        until(lambda: backends(postgresql_url) == 1)
        runner.run(db.close())
    del left
    gc.collect()  # asyncpg complains of its closed loop here, where nobody minds


def test_a_memory_database_begins_empty_on_another_loop() -> None:
    """Its rows live in its connection, and that hangs on the loop that ended."""
    db = AsyncDatabase("sqlite://")

    async def make() -> None:
        async with db.begin() as session:
            await session.execute(text("CREATE TABLE things (a INTEGER)"))

    async def count_tables() -> Any:
        async with db.session() as session:
            found = await session.scalar(text("SELECT count(*) FROM sqlite_master"))
        await db.close()
        return found

    asyncio.run(make())

    assert asyncio.run(count_tables()) == 0


# ------------------------------------------------------------------------ another thread's garbage


@pytest.mark.parametrize("driver", ASYNC)
async def test_a_session_that_another_thread_collects_is_thrown_away_on_the_loop(
    driver: str, postgresql_url: str
) -> None:
    """A collector runs in whatever thread allocates; a loop that is watched refuses what is not done on its own."""
    asyncio.get_running_loop().set_debug(True)
    async with AsyncDatabase(
        through(driver, postgresql_url), pool_size=1, max_overflow=0, pool_timeout=5
    ) as db:
        lost = [db.session()]
        lost[0].begin()
        await lost[0].execute(ONE)
        waiting = asyncio.create_task(db.pool.acquire())
        while not db.pool.stats().waiting:  # noqa: ASYNC110 - each turn of the loop lets the task begin
            await asyncio.sleep(0)

        with pytest.warns(ResourceWarning, match="A session was lost"):
            await asyncio.to_thread(lambda: (lost.clear(), gc.collect()))
        await db.pool.release(await waiting)

        assert (db.pool.stats().in_use, db.pool.stats().closed) == (0, 1)


# ------------------------------------------------------------------------ one in memory


def test_threads_share_the_one_connection_of_a_memory_database_in_turn() -> None:
    with Database("sqlite://", pool_size=8) as db:
        with db.begin() as session:
            session.execute(text("CREATE TABLE things (a INTEGER)"))

        def work(number: int) -> None:
            with db.begin() as session:
                session.execute(text("INSERT INTO things VALUES (:a)"), {"a": number})

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(100)))
        with db.session() as session:
            found = session.scalar(text("SELECT count(*) FROM things"))

        assert (found, db.pool.stats().opened, db.pool.stats().closed) == (100, 1, 0)


# ------------------------------------------------------------------------ the lock


def test_while_one_connects_others_borrow_and_return(sqlite_url: str) -> None:
    with Database(sqlite_url) as db:
        first = db.pool.acquire()
        connect = db._opened.driver.connect
        reached, answered = threading.Event(), threading.Event()

        def connect_slowly() -> Any:
            reached.set()
            answered.wait(30)
            return connect()

        db._opened.driver.connect = connect_slowly
        with ThreadPoolExecutor(2) as threads:
            slow = threads.submit(db.pool.acquire)
            assert reached.wait(30)

            threads.submit(db.pool.release, first).result(30)
            again = threads.submit(db.pool.acquire).result(30)

            assert again is first
            assert (db.pool.stats().opening, slow.done()) == (1, False)
            answered.set()
            db.pool.release(slow.result(30))
        db.pool.release(first)
        assert db.pool.stats().idle == 2


# ------------------------------------------------------------------------ cancelled closings


async def test_a_closing_that_is_cancelled_leaves_none_open(postgresql_url: str) -> None:
    """To part politely from a silent server takes time, and meanwhile the task is cancelled."""
    clock = ManualClock()
    settings = PoolSettings(pool_size=1, max_overflow=3, pool_max_idle=60)
    with Wire(postgresql_url) as wire:
        pool = AsyncPool(open_driver(wire.through("asyncpg"), asynchronous=True), settings, clock=clock)
        connections = [await pool.acquire() for _ in range(4)]
        for connection in connections:
            await pool.release(connection)
        last = await pool.acquire()
        wire.arm(DOWN, 0, VANISH)
        clock.advance(60)

        task = asyncio.create_task(pool.release(last))
        while pool.stats().size > 1:  # noqa: ASYNC110 - each turn of the loop lets the task begin
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert [connection.usable for connection in connections] == [False, False, False, True]
        assert (pool.stats().in_use, pool.stats().idle) == (0, 1)
        last.terminate()
        await asyncio.sleep(0)  # in which asyncpg lets go of its sockets
