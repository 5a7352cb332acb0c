"""The pool on real servers: what it tells of itself, whom it serves, and what it takes back."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from holdfast import AsyncDatabase, Database
from holdfast.clock import ManualClock
from holdfast.drivers import open_driver
from holdfast.errors import InvalidRequestError, PoolerDetected, PoolTimeout
from holdfast.observe import PoolWaited
from holdfast.pool import AsyncPool, BlockingPool, PoolSettings
from tests.conftest import ask, mariadb, open_mariadb, with_database
from tests.servers.conftest import Bounced

HERE = __file__
SMALL: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}


def line_of(words: str) -> int:
    """The line of this file that ends in these words, as a comment."""
    with open(HERE, encoding="utf-8") as source:  # noqa: PTH123
        return next(number for number, line in enumerate(source, 1) if line.rstrip().endswith(f"# {words}"))


def through(driver: str, url: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://")


# ------------------------------------------------------------------------ what it tells


def test_statistics_name_the_line_that_holds_longest(database_url: str) -> None:
    with Database(database_url) as db, db.begin() as session:
        session.execute(text("SELECT 1"))  # the longest
        stats = db.pool.stats()

        assert stats.longest is not None
        assert (stats.longest.filename, stats.longest.line) == (HERE, line_of("the longest"))
        assert stats.longest.function == "test_statistics_name_the_line_that_holds_longest"
        assert (stats.size, stats.in_use, stats.idle, stats.opened, stats.limit) == (1, 1, 0, 1, 15)
        assert f"{HERE}:{stats.longest.line}" in str(stats)


async def test_statistics_name_the_line_that_holds_longest_async(async_database_url: str) -> None:
    async with AsyncDatabase(async_database_url) as db, db.begin() as session:
        await asyncio.sleep(0)
        await session.execute(text("SELECT 1"))  # the longest, awaited
        stats = db.pool.stats()

        assert stats.longest is not None
        assert (stats.longest.filename, stats.longest.line) == (HERE, line_of("the longest, awaited"))


def test_statistics_become_json(database_url: str) -> None:
    with Database(database_url) as db, db.session() as session:
        for _ in range(100):
            session.execute(text("SELECT 1"))
        told = json.loads(json.dumps(dataclasses.asdict(db.pool.stats())))

    assert told["lent"] == told["wait"]["samples"] == told["use"]["samples"] == 100
    assert 0 < told["use"]["p50_seconds"] <= told["use"]["p99_seconds"]
    assert told["wait"]["p99_seconds"] == 0.0
    assert told["create"]["samples"] == told["opened"] == 1
    assert told["longest"] is None


def test_a_wait_is_measured(sqlite_url: str) -> None:
    with Database(sqlite_url, **SMALL) as db:
        heard: list[PoolWaited] = []
        db.observers.add(lambda event: heard.append(event) if isinstance(event, PoolWaited) else None)
        connection = db.pool.acquire()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(db.pool.acquire)
            until(lambda: db.pool.stats().waiting == 1)
            db.pool.release(connection)
            db.pool.release(waiting.result(30))

        wait = db.pool.stats().wait
    assert len(heard) == 1
    assert wait.p99_seconds == heard[0].duration_seconds > 0


# ------------------------------------------------------------------------ time-outs


def test_a_timeout_names_who_holds_and_what_to_do(database_url: str) -> None:
    with Database(database_url, pool_timeout=0, **SMALL) as db, db.begin() as first:
        first.execute(text("SELECT 1"))  # the holder
        with pytest.raises(PoolTimeout) as caught, db.session() as second:
            second.execute(text("SELECT 1"))

        told = str(caught.value)
        assert f"{HERE}:{line_of('the holder')}" in told
        assert "db.pool.advice()" in told
        assert "1 in use" in told
        assert vars(caught.value)["holders"][0].line == line_of("the holder")
        assert db.pool.stats().timeouts == 1


async def test_a_timeout_names_who_holds_and_what_to_do_async(async_database_url: str) -> None:
    async with AsyncDatabase(async_database_url, pool_timeout=0, **SMALL) as db, db.begin() as first:
        await first.execute(text("SELECT 1"))  # the async holder
        with pytest.raises(PoolTimeout) as caught:
            async with db.session() as second:
                await second.execute(text("SELECT 1"))

        told = str(caught.value)
        assert f"{HERE}:{line_of('the async holder')}" in told
        assert "await db.pool.advice()" in told
        assert db.pool.stats().timeouts == 1


def test_a_timeout_tells_holders_at_one_line_together_the_longest_first(sqlite_url: str) -> None:
    with Database(sqlite_url, pool_size=20, max_overflow=0, pool_timeout=0) as db:
        lent = [db.pool.acquire() for _ in range(20)]  # twenty at once

        with pytest.raises(PoolTimeout) as caught:
            db.pool.acquire()

        holders = vars(caught.value)["holders"]
        assert len(holders) == 20
        assert f"20 × {HERE}:{line_of('twenty at once')}" in str(caught.value)
        assert [one.seconds for one in holders] == sorted((one.seconds for one in holders), reverse=True)
        for connection in lent:
            db.pool.release(connection)


# ------------------------------------------------------------------------ lost sessions


def test_a_lost_session_is_told_with_the_line_that_borrowed(database_url: str) -> None:
    with Database(database_url, **SMALL) as db:
        session = db.session()
        session.begin()
        session.execute(text("SELECT 1"))  # the lost one

        with pytest.warns(ResourceWarning, match=f"test_pool_servers.py:{line_of('the lost one')}"):  # noqa: PT031
            del session
            gc.collect()

        with db.session() as other:
            assert other.scalar(text("SELECT 2")) == 2
        assert (db.pool.stats().in_use, db.pool.stats().closed) == (0, 1)


async def test_a_lost_session_is_told_with_the_line_that_borrowed_async(async_database_url: str) -> None:
    async with AsyncDatabase(async_database_url, **SMALL) as db:
        session = db.session()
        session.begin()
        await session.execute(text("SELECT 1"))  # the one lost on a loop

        with pytest.warns(ResourceWarning, match=f"test_pool_servers.py:{line_of('the one lost on a loop')}"):  # noqa: PT031
            del session
            gc.collect()

        async with db.session() as other:
            assert await other.scalar(text("SELECT 2")) == 2
        assert (db.pool.stats().in_use, db.pool.stats().closed) == (0, 1)


def test_a_connection_lost_while_its_thread_is_inside_the_pool_is_buried_by_the_next(sqlite_url: str) -> None:
    """A garbage collector may find a lost session at any allocation, also under the pool's own lock."""
    with Database(sqlite_url, pool_size=2, max_overflow=0) as db:
        lost, kept = db.pool.acquire(), db.pool.acquire()
        with db.pool._lock:
            db.pool.abandon(lost)
        assert db.pool.stats().in_use == 2

        db.pool.release(kept)

        assert (db.pool.stats().in_use, db.pool.stats().closed) == (0, 1)


# ------------------------------------------------------------------------ taking back


def test_a_connection_comes_back_without_its_transaction(database_url: str) -> None:
    with Database(database_url) as db:
        connection = db.pool.acquire()
        connection.command("BEGIN")

        db.pool.release(connection)

        assert db.pool.acquire() is connection
        assert not connection.in_transaction
        db.pool.release(connection)


async def test_a_connection_comes_back_without_its_transaction_async(async_database_url: str) -> None:
    async with AsyncDatabase(async_database_url) as db:
        connection = await db.pool.acquire()
        await connection.command("BEGIN")

        await db.pool.release(connection)

        assert await db.pool.acquire() is connection
        assert not connection.in_transaction
        await db.pool.release(connection)


def test_a_connection_whose_transaction_cannot_be_ended_is_not_lent_again(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        connection = db.pool.acquire()
        connection.command("BEGIN")
        pid = connection.fetch("SELECT pg_backend_pid()", (), False)[0][0]
        with psycopg.connect(postgresql_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        db.pool.release(connection)

        assert (db.pool.stats().idle, db.pool.stats().closed) == (0, 1)


# ------------------------------------------------------------------------ idle too long


def test_a_quiet_pool_gives_its_overflow_back_to_the_server(postgresql_url: str) -> None:
    clock = ManualClock()
    settings = PoolSettings(pool_size=1, max_overflow=3, pool_max_idle=60)
    pool = BlockingPool(open_driver(postgresql_url, asynchronous=False), settings, clock=clock)
    for connection in [pool.acquire() for _ in range(4)]:
        pool.release(connection)
    assert pool.stats().idle == 4

    clock.advance(60)
    pool.release(pool.acquire())

    assert pool.stats().idle == 1
    until(lambda: backends(postgresql_url) == 1)
    pool.close()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_quiet_pool_gives_its_overflow_back_to_the_server_async(
    driver: str, postgresql_url: str
) -> None:
    clock = ManualClock()
    settings = PoolSettings(pool_size=1, max_overflow=3, pool_max_idle=60)
    pool = AsyncPool(open_driver(through(driver, postgresql_url), asynchronous=True), settings, clock=clock)
    for connection in [await pool.acquire() for _ in range(4)]:
        await pool.release(connection)
    assert pool.stats().idle == 4

    clock.advance(60)
    await pool.release(await pool.acquire())

    assert pool.stats().idle == 1
    until(lambda: backends(postgresql_url) == 1)
    await pool.close()


def backends(url: str) -> int:
    """How many others are connected to the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert found is not None
    return found[0]  # type: ignore[no-any-return]


def test_a_connection_that_is_too_old_is_replaced(postgresql_url: str) -> None:
    clock = ManualClock()
    pool = BlockingPool(
        open_driver(postgresql_url, asynchronous=False), PoolSettings(pool_recycle=100), clock=clock
    )
    first = pool.acquire()
    pool.release(first)
    clock.advance(100)
    assert pool.acquire() is first
    pool.release(first)

    clock.advance(1)

    second = pool.acquire()
    assert second is not first
    assert (pool.stats().opened, pool.stats().closed) == (2, 1)
    pool.release(second)
    pool.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("pool_size", 0), ("pool_timeout", -1), ("pool_max_idle", -2), ("pool_max_connecting", 0)],
)
def test_settings_that_make_no_sense_are_refused_with_what_to_write(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name} must be .*`{name}="):
        Database("sqlite://", **{name: value})


# ------------------------------------------------------------------------ many waiters


async def test_thousands_of_cancelled_waiters_leak_nothing_and_the_rest_keep_their_order(
    sqlite_url: str,
) -> None:
    async with AsyncDatabase(sqlite_url, **SMALL) as db:
        pool = db.pool
        held = await pool.acquire()
        served: list[int] = []

        async def wait(number: int) -> None:
            connection = await pool.acquire()
            served.append(number)
            await pool.release(connection)

        tasks = [asyncio.create_task(wait(number)) for number in range(4000)]
        while pool.stats().waiting < 4000:  # noqa: ASYNC110 - each turn of the loop lets tasks begin
            await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if number % 4 != 3:
                task.cancel()
        # In the same turn of the loop: the cancelled still stand in the queue, the first three in a row.
        await pool.release(held)
        await asyncio.gather(*tasks, return_exceptions=True)

        assert served == list(range(3, 4000, 4))
        stats = pool.stats()
    assert (stats.waiting, stats.in_use, stats.size) == (0, 0, 1)
    assert not pool._state.waiters


async def test_a_task_cancelled_after_it_was_served_passes_its_connection_on(sqlite_url: str) -> None:
    async with AsyncDatabase(sqlite_url, **SMALL) as db:
        held = await db.pool.acquire()
        first, second = (asyncio.create_task(db.pool.acquire()) for _ in range(2))
        while db.pool.stats().waiting < 2:  # noqa: ASYNC110 - each turn of the loop lets tasks begin
            await asyncio.sleep(0)

        await db.pool.release(held)
        first.cancel()

        assert await second is held
        assert first.cancelled()
        await db.pool.release(held)
        assert (db.pool.stats().in_use, db.pool.stats().idle) == (0, 1)


async def test_a_task_cancelled_while_it_opens_lets_the_next_open(postgresql_url: str) -> None:
    async with AsyncDatabase(postgresql_url, pool_max_connecting=1) as db:
        first, second = (asyncio.create_task(db.pool.acquire()) for _ in range(2))
        while db.pool.stats().waiting < 1:  # noqa: ASYNC110 - each turn of the loop lets tasks begin
            await asyncio.sleep(0)

        first.cancel()

        await db.pool.release(await second)
        stats = db.pool.stats()
    assert (stats.opening, stats.in_use, stats.idle, stats.failed) == (0, 0, 1, 1)


def test_hundreds_of_timed_out_threads_leak_nothing(sqlite_url: str) -> None:
    with Database(sqlite_url, pool_timeout=0.05, **SMALL) as db:
        held = db.pool.acquire()

        def wait(_: int) -> str:
            try:
                db.pool.acquire()
            except PoolTimeout:
                return "timed out"
            return "served"

        with ThreadPoolExecutor(200) as threads:
            ends = list(threads.map(wait, range(200)))

        assert set(ends) == {"timed out"}
        stats = db.pool.stats()
        assert (stats.waiting, stats.timeouts, stats.in_use) == (0, 200, 1)
        db.pool.release(held)
        assert db.pool.acquire() is held
        db.pool.release(held)


def test_threads_are_served_in_the_order_they_came(sqlite_url: str) -> None:
    with Database(sqlite_url, **SMALL) as db:
        held = db.pool.acquire()
        served: list[int] = []

        def wait(number: int) -> None:
            connection = db.pool.acquire()
            served.append(number)
            db.pool.release(connection)

        threads = []
        for number in range(50):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            until(lambda number=number: db.pool.stats().waiting == number + 1)  # type: ignore[misc]
        db.pool.release(held)
        for thread in threads:
            thread.join(30)

    assert served == list(range(50))


def test_a_closed_pool_refuses_who_waits(sqlite_url: str) -> None:
    db = Database(sqlite_url, **SMALL)
    held = db.pool.acquire()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(db.pool.acquire)
        until(lambda: db.pool.stats().waiting == 1)
        db.close()
        error = waiting.exception(30)
    db.pool.release(held)

    assert type(error).__name__ == "PoolClosed"
    assert db.pool.stats().size == 0


def until(holds: Any, seconds: float = 30) -> None:
    """Look again until it holds."""
    for _ in range(int(seconds / 0.002)):
        if holds():
            return
        threading.Event().wait(0.002)
    raise AssertionError("it never held")


# ------------------------------------------------------------------------ advice


@pytest.fixture
def limited(postgresql_url: str) -> Iterator[tuple[str, Any]]:
    """A role of its own, and a connection that may change its limit."""
    name = f"holdfast_limited_{os.getpid()}"
    with psycopg.connect(postgresql_url, autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS {name}")
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'limited'")
        yield (
            postgresql_url.replace(
                "://" + postgresql_url.split("://")[1].split("@", maxsplit=1)[0], f"://{name}:limited"
            ),
            admin,
        )
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [name]
        )
        admin.execute(f"DROP ROLE {name}")


MOST = {"postgresql": "SHOW max_connections", "mariadb": "SELECT @@max_connections"}


def test_advice_leaves_room_for_others_and_shares_it_among_instances(wired_url: str) -> None:
    with Database(wired_url) as db:
        alone, shared = db.pool.advice(), db.pool.advice(instances=40)
        with db.session() as session:
            most = int(session.scalar(text(MOST[wired_url.partition(":")[0]])) or 0)

    assert 1 <= alone.pool_size + alone.max_overflow <= most
    assert 40 * (shared.pool_size + shared.max_overflow) <= most
    assert f"takes {most} connections" in str(alone)
    assert "40 instances" in str(shared)


def test_advice_counts_other_clients_and_not_its_own(wired_url: str) -> None:
    with Database(wired_url) as db:
        held = [db.pool.acquire() for _ in range(3)]
        before = others_told(db.pool.advice())
        others = [open_other(wired_url) for _ in range(4)]
        after = others_told(db.pool.advice())
        for connection in others:
            connection.close()
        for connection in held:
            db.pool.release(connection)

    assert after >= before + 4 - 1  # another test's client may leave meanwhile


def open_other(url: str) -> Any:
    """A client that is not of this program, as far as the server can tell."""
    if url.startswith("mariadb"):
        return open_mariadb(with_database(url, "information_schema"))
    return psycopg.connect(url, application_name="others")


def others_told(advice: Any) -> int:
    words = advice.reasons[0].split("other clients hold ")[1]
    return int(words.split(",")[0])


def test_advice_says_what_was_assumed_of_the_cores(wired_url: str) -> None:
    with Database(wired_url) as db:
        assumed, said = db.pool.advice(), db.pool.advice(server_cores=16)

    assert "this machine's" in str(assumed)
    assert said.pool_size == 33
    assert "16 cores (as you say)" in str(said)


@pytest.mark.parametrize(("limit", "size"), [(4, 4), (1, 1)])
def test_advice_keeps_within_the_limit_of_the_role(limit: int, size: int, limited: tuple[str, Any]) -> None:
    url, admin = limited
    role = url.split("://")[1].split(":")[0]
    admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT {limit}")

    with Database(url) as db:
        advice = db.pool.advice(server_cores=16)

    assert (advice.pool_size, advice.max_overflow) == (size, 0)
    assert f"this role may have {limit}" in str(advice)


def test_advice_keeps_within_the_limit_of_a_mariadb_user(mariadb_url: str, mariadb_server: str) -> None:
    name = f"limited_{os.getpid()}"
    place = make_url(mariadb_url)
    with mariadb(mariadb_server) as admin:
        ask(admin, f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'l' WITH MAX_USER_CONNECTIONS 4")
        ask(admin, f"GRANT SELECT ON {place.database}.* TO {name}@'127.0.0.1'")
        url = place.set(username=name, password="l").render_as_string(hide_password=False)
        with Database(url) as db:
            advice = db.pool.advice(server_cores=16)
        ask(admin, f"DROP USER {name}@'127.0.0.1'")

    assert (advice.pool_size, advice.max_overflow) == (4, 0)
    assert "this role may have 4" in str(advice)


def test_advice_says_so_when_there_is_no_room(wired_url: str) -> None:
    with Database(wired_url) as db:
        advice = db.pool.advice(instances=100_000)

    assert (advice.pool_size, advice.max_overflow) == (1, 0)
    assert "PgBouncer" in str(advice)


def test_advice_is_given_though_the_pool_is_exhausted(wired_url: str) -> None:
    with Database(wired_url, pool_timeout=0, **SMALL) as db:
        held = db.pool.acquire()

        assert db.pool.advice().pool_size >= 1

        db.pool.release(held)
        assert db.pool.stats().opened == 1


def test_advice_grows_with_the_waits_it_measured(wired_url: str) -> None:
    with Database(wired_url, pool_size=2, max_overflow=0) as db:
        sleep = "sleep" if wired_url.startswith("mariadb") else "pg_sleep"

        def work(_: int) -> None:
            with db.session() as session:
                session.execute(text(f"SELECT {sleep}(0.01)"))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(120)))
        advice = db.pool.advice(server_cores=8)

    assert advice.pool_size > 2
    assert "waited" in str(advice)


def test_behind_a_pooler_advice_is_about_the_pooler_and_the_waits(bounced: Bounced) -> None:
    """What the server has left is the pooler's affair; forty instances do not change what one needs."""
    with Database(bounced.url, pooler="transaction", pool_size=2, max_overflow=0) as db:
        before = db.pool.advice(instances=40, server_cores=8)

        def work(_: int) -> None:
            with db.session() as session:
                session.execute(text("SELECT pg_sleep(0.01)"))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(120)))
        after = db.pool.advice(instances=40, server_cores=8)

    assert before.pool_size == 2
    assert "`default_pool_size` of about 17" in str(before)
    assert after.pool_size > 2


async def test_behind_a_pooler_that_was_found_advice_is_about_it_too(bounced: Bounced) -> None:
    with pytest.warns(PoolerDetected):
        async with AsyncDatabase(bounced.url) as db:
            advice = await db.pool.advice(server_cores=8)

    assert "`default_pool_size`" in str(advice)


async def test_advice_is_awaited_on_a_loop(async_database_url: str) -> None:
    async with AsyncDatabase(async_database_url) as db:
        advice = await db.pool.advice(instances=2)

        assert advice.pool_size >= 1
        assert str(advice).startswith(f"pool_size={advice.pool_size}, max_overflow={advice.max_overflow}\n- ")


def test_sqlite_has_one_writer_and_memory_one_connection(sqlite_url: str) -> None:
    with Database(sqlite_url) as file, Database("sqlite://") as memory:
        assert "one writer" in str(file.pool.advice())
        assert (memory.pool.advice().pool_size, memory.pool.advice().max_overflow) == (1, 0)


def test_advice_for_no_instance_is_refused(sqlite_url: str) -> None:
    with Database(sqlite_url) as db, pytest.raises(InvalidRequestError, match="instances"):
        db.pool.advice(instances=0)
