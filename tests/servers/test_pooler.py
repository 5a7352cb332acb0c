"""Behind PgBouncer: what the drivers do, what the detector finds, what is told when the mode is not used.

Rule: which server connection serves a transaction is chosen by the test, by holding others; PgBouncer lends the
one that was last given back.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import ForeignKey, literal_column, text

from holdfast import AsyncDatabase, Database, DeclarativeBase, Mapped, mapped_column, relationship, select
from holdfast.drivers import open_driver
from holdfast.errors import (
    ConnectionFailed,
    DataError,
    PoolerDetected,
    PreparedStatementLost,
    StartupParameterRefused,
    StatementTimeout,
)
from holdfast.testing.conformance import exercise, exercise_async
from tests.servers.conftest import Bounced
from tests.servers.test_drivers import ON_POSTGRESQL
from tools.servers import BOUNCED

# They set a time-out for the session, leave a temporary table behind, or end the server's process.
OF_A_SESSION = {
    "a_statement_that_takes_too_long_is_cut",
    "text_statements_tell_their_shape",
    "many_repetitions_survive_a_change_of_the_table",
    "z_a_dead_connection_is_told",
}
SHARED = [name for name in ON_POSTGRESQL if name not in OF_A_SESSION]
DEADLINE_SECONDS = 15
PROCESS = text("SELECT pg_backend_pid()")


# ------------------------------------------------------------------------------- drivers


@pytest.mark.parametrize("name", SHARED)
def test_psycopg_conforms_behind_a_pooler(name: str, bounced: Bounced) -> None:
    bounced.start_over()  # its tables are temporary, and one client alone gets one server connection

    assert exercise(open_driver(bounced.url, asynchronous=False, pooler="transaction"), only=name) == [name]


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_async_drivers_conform_behind_a_pooler(name: str, library: str, bounced: Bounced) -> None:
    bounced.start_over()
    driver: Any = open_driver(bounced.through(library), asynchronous=True, pooler="transaction")

    assert await exercise_async(driver, only=name) == [name]


@pytest.mark.parametrize("mode", ["transaction", None])
@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_only_without_the_mode_are_statements_prepared(
    library: str, mode: Any, bounced: Bounced
) -> None:
    url = bounced.direct.replace("postgresql://", f"postgresql+{library}://", 1)
    async with AsyncDatabase(url, pooler=mode) as db, db.begin() as session:
        for number in range(20):
            await session.execute(select(literal_column(str(number % 2))))

        named = await session.scalar(text("SELECT count(*) FROM pg_prepared_statements"))

    assert (named > 0) is (mode is None)


@pytest.mark.parametrize(
    ("library", "wish"), [("asyncpg", {"statement_cache_size": 10}), ("psycopg", {"prepare_threshold": 0})]
)
async def test_a_wish_for_prepared_statements_is_kept(library: str, wish: Any, bounced: Bounced) -> None:
    url = bounced.direct.replace("postgresql://", f"postgresql+{library}://", 1)
    async with AsyncDatabase(url, pooler="transaction", connect_args=wish) as db, db.begin() as session:
        for _ in range(3):
            await session.execute(select(literal_column("1")))

        assert await session.scalar(text("SELECT count(*) FROM pg_prepared_statements"))


async def test_a_value_that_asyncpg_refuses_leaves_no_server_connection_taken(bounced: Bounced) -> None:
    driver: Any = open_driver(bounced.through("asyncpg"), asynchronous=True, pooler="transaction")
    connections = [await driver.connect() for _ in range(BOUNCED + 1)]
    *wrong, right = connections

    for connection in wrong:
        with pytest.raises(Exception, match="invalid input") as caught:
            await connection.fetch("SELECT $1::INTEGER", ("x",), False)
        assert isinstance(driver.translate(caught.value, "", ("x",)), DataError)

    async with asyncio.timeout(DEADLINE_SECONDS):
        assert [tuple(row) for row in await right.fetch("SELECT $1::INTEGER", (1,), False)] == [(1,)]
    for connection in connections:
        await connection.close()


async def test_asyncpgs_own_questions_set_nothing_beyond_a_transaction(bounced: Bounced) -> None:
    with psycopg.connect(bounced.direct, autocommit=True) as direct:
        direct.execute("CREATE TYPE mood AS ENUM ('well', 'ill')")
    driver: Any = open_driver(bounced.through("asyncpg"), asynchronous=True, pooler="transaction")
    connection = await driver.connect()
    said: list[str] = []
    connection.raw.add_query_logger(lambda record: said.append(" ".join(record.query.split())))

    await connection.fetch("SELECT 'well'::mood", (), False)
    await connection.close()

    switches = [place for place, sql in enumerate(said) if "set_config('jit'" in sql]
    assert switches
    assert said.index("BEGIN") < switches[0] <= switches[-1] < said.index("COMMIT")


# ------------------------------------------------------------------------------- the mistake


class Another:
    """Another client's transaction that keeps one server connection for as long as the block runs."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, prepare_threshold=None)

    def __enter__(self) -> int:
        row = self._connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row
        return int(row[0])

    def __exit__(self, *_: object) -> None:
        self._connection.rollback()
        self._connection.close()


def repeat(session: Any) -> list[int]:
    """Ask what psycopg would prepare by itself, at the sixth time."""
    return [session.scalars(select(literal_column("1"))).one() for _ in range(7)]


def test_without_the_mode_psycopg_loses_its_statements(bounced: Bounced) -> None:
    if bounced.keeps_prepared_statements:
        pytest.skip("this PgBouncer carries prepared statements along")
    with (
        Database(bounced.url, pooler="session") as one,
        Database(bounced.url, pooler="session") as two,
        one.session() as first,
        two.session() as second,
    ):
        assert repeat(first) == [1] * 7
        with pytest.raises(PreparedStatementLost) as caught:  # both name it _pg3_0
            repeat(second)

    assert caught.value.sqlstate == "42P05"
    assert 'pooler="transaction"' in str(caught.value)
    bounced.start_over()


async def test_without_the_mode_asyncpg_loses_its_statements(bounced: Bounced) -> None:
    if bounced.keeps_prepared_statements:
        pytest.skip("this PgBouncer carries prepared statements along")
    async with AsyncDatabase(bounced.url, pooler="session") as db, db.session() as session:
        await session.scalar(select(literal_column("1")))
        with Another(bounced.url), pytest.raises(PreparedStatementLost) as caught:
            await session.scalar(select(literal_column("1")))

    assert caught.value.sqlstate == "26000"
    bounced.start_over()


@pytest.mark.parametrize("pooler", ["transaction", None])
def test_with_the_mode_psycopg_loses_none(pooler: Any, bounced: Bounced) -> None:
    with quiet(), Database(bounced.url, pooler=pooler) as one, Database(bounced.url, pooler=pooler) as two:
        assert repeat(one.session()) == [1] * 7
        assert repeat(two.session()) == [1] * 7


@pytest.mark.parametrize("pooler", ["transaction", None])
async def test_with_the_mode_asyncpg_loses_none(pooler: Any, bounced: Bounced) -> None:
    with quiet():
        async with AsyncDatabase(bounced.url, pooler=pooler) as db, db.session() as session:
            before = await session.scalar(PROCESS)
            with Another(bounced.url) as process:
                assert process == before
                assert await session.scalar(PROCESS) != before


# ------------------------------------------------------------------------------- the detector


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoolerDetected)
        yield


async def ask_often(url: str, *, asynchronous: bool, times: int = 3) -> str | None:
    """Let a database open several connections; answer the mode that it found."""
    if not asynchronous:
        with Database(url) as db:
            for number in range(times):
                with db.begin() as session:
                    session.scalar(PROCESS)
                    if number:
                        with db.begin() as other:  # on another connection
                            other.scalar(PROCESS)
            return db._opened.driver.pooler.mode  # type: ignore[union-attr]
    async with AsyncDatabase(url) as db:

        async def ask() -> None:
            async with db.begin() as session:
                await session.scalar(PROCESS)

        await ask()
        await asyncio.gather(*[ask() for _ in range(times)])
        return db._opened.driver.pooler.mode  # type: ignore[union-attr]


FACES = pytest.mark.parametrize(
    ("library", "asynchronous"), [("psycopg", False), ("psycopg", True), ("asyncpg", True)]
)


def by(library: str, url: str) -> str:
    return url.replace("postgresql://", f"postgresql+{library}://", 1)


@FACES
async def test_transaction_mode_is_recognised_and_told_once(
    library: str, asynchronous: bool, bounced: Bounced
) -> None:
    with pytest.warns(PoolerDetected) as told:
        mode = await ask_often(by(library, bounced.url), asynchronous=asynchronous)

    assert mode == "transaction"
    assert len(told) == 1
    warning: Any = told[0].message
    assert (warning.mode, warning.code) == ("transaction", "pooler-detected")
    assert 'Database(url, pooler="transaction")' in str(warning)


@FACES
async def test_transaction_mode_is_recognised_while_others_are_at_work(
    library: str, asynchronous: bool, bounced: Bounced
) -> None:
    with Another(bounced.url), Another(bounced.url), pytest.warns(PoolerDetected):
        assert await ask_often(by(library, bounced.url), asynchronous=asynchronous, times=1) == "transaction"


@FACES
async def test_connections_opened_together_all_keep_to_what_one_of_them_found(
    library: str, asynchronous: bool, bounced: Bounced
) -> None:
    bounced.start_over()
    driver: Any = open_driver(by(library, bounced.url), asynchronous=asynchronous)

    with pytest.warns(PoolerDetected) as told:
        connections = await open_together(driver, 8, asynchronous=asynchronous)
    for connection in connections:
        for _ in range(7):  # what psycopg would prepare by itself
            answer = connection.fetch("SELECT 1", (), False)
            if asynchronous:
                await answer
        closed = connection.close()
        if asynchronous:
            await closed

    assert len(told) == 1
    assert count_prepared(bounced) == 0


async def open_together(driver: Any, many: int, *, asynchronous: bool) -> list[Any]:
    if asynchronous:
        return list(await asyncio.gather(*[driver.connect() for _ in range(many)]))
    ready = threading.Barrier(many)

    def connect() -> Any:
        ready.wait()
        return driver.connect()

    with ThreadPoolExecutor(many) as threads:
        opened = [threads.submit(connect) for _ in range(many)]
        return [one.result() for one in opened]


def count_prepared(bounced: Bounced) -> int:
    """Count what was prepared, in all server connections: each is asked while the others are held."""
    with ExitStack() as stack:
        found = 0
        for _ in range(BOUNCED):
            held = stack.enter_context(psycopg.connect(bounced.url, prepare_threshold=None))
            row = held.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
            found += row[0] if row else 0
        return found


@FACES
async def test_no_pooler_is_seen_where_there_is_none(
    library: str, asynchronous: bool, postgresql_url: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert await ask_often(by(library, postgresql_url), asynchronous=asynchronous) is None


@FACES
async def test_session_mode_is_not_taken_for_transaction_mode(
    library: str, asynchronous: bool, session_pooled: str
) -> None:
    with pytest.warns(PoolerDetected, match='pooler="session"') as told:
        mode = await ask_often(by(library, session_pooled), asynchronous=asynchronous, times=1)

    assert mode == "unknown"
    assert len(told) == 1


@FACES
async def test_the_first_statement_succeeds_where_there_is_room_for_one_connection(
    library: str, asynchronous: bool, session_pooled: str
) -> None:
    others = [Another(session_pooled) for _ in range(BOUNCED - 1)]
    for other in others:
        other.__enter__()

    with pytest.warns(PoolerDetected):
        assert await ask_often(by(library, session_pooled), asynchronous=asynchronous, times=1) == "unknown"

    for other in others:
        other.__exit__()


@pytest.mark.parametrize("pooler", ["transaction", "session"])
def test_a_word_of_the_users_ends_the_question(pooler: Any, bounced: Bounced) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        with Database(bounced.url, pooler=pooler) as db, db.session() as session:
            assert session.scalar(PROCESS)


def test_a_warning_made_an_error_is_raised_once(bounced: Bounced) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        with Database(bounced.url) as db:
            with pytest.raises(PoolerDetected), db.session() as session:
                session.scalar(PROCESS)
            with db.session() as session:
                assert session.scalar(PROCESS)


# ------------------------------------------------------------------------------- parameters, cancelling


@FACES
@pytest.mark.parametrize("pooler", ["transaction", None])
async def test_a_startup_parameter_that_the_pooler_refuses_is_named(
    library: str, asynchronous: bool, pooler: Any, bounced: Bounced
) -> None:
    url = by(library, bounced.url) + "?options=-c%20statement_timeout%3D5000"
    driver: Any = open_driver(url, asynchronous=asynchronous, pooler=pooler)

    with pytest.raises(StartupParameterRefused, match="ignore_startup_parameters = ") as caught:
        await driver.connect() if asynchronous else driver.connect()

    assert isinstance(caught.value, ConnectionFailed)
    assert "5000" not in str(caught.value)


SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(61)%' AND pid <> pg_backend_pid() AND datname = current_database()"


def wait_for_sleepers(direct: psycopg.Connection[Any], wanted: int) -> None:
    """Poll the server until so many are asleep there."""
    end = time.monotonic() + DEADLINE_SECONDS
    while (row := direct.execute(SLEEPERS).fetchone()) != (wanted,):
        assert time.monotonic() < end, f"{row} asleep, not {wanted}"


@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_a_cancelled_task_stops_its_statement_behind_the_pooler(library: str, bounced: Bounced) -> None:
    async with AsyncDatabase(bounced.through(library), pooler="transaction") as db:

        async def sleep() -> None:
            async with db.session() as session:
                await session.execute(text("SELECT pg_sleep(61)"))

        with psycopg.connect(bounced.direct, autocommit=True) as direct:
            tasks = [asyncio.create_task(sleep()) for _ in range(BOUNCED)]
            await asyncio.to_thread(wait_for_sleepers, direct, BOUNCED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=DEADLINE_SECONDS)
            await asyncio.to_thread(wait_for_sleepers, direct, 0)

        assert all(task.cancelled() for task in tasks)
        async with asyncio.timeout(DEADLINE_SECONDS), db.session() as session:
            assert await session.scalar(PROCESS)


def test_cancel_from_another_thread_reaches_the_server_behind_the_pooler(bounced: Bounced) -> None:
    driver: Any = open_driver(bounced.url, asynchronous=False, pooler="transaction")
    connection = driver.connect()

    def cancel() -> None:
        with psycopg.connect(bounced.direct, autocommit=True) as direct:
            wait_for_sleepers(direct, 1)
        connection.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled) as caught:
        connection.fetch("SELECT pg_sleep(61)", (), False)
    thread.join()

    assert isinstance(driver.translate(caught.value, ""), StatementTimeout)
    assert connection.fetch("SELECT 1", (), False) == [(1,)]
    connection.close()


# ------------------------------------------------------------------------------- the schema


class Base(DeclarativeBase):
    pass


class Kind(enum.Enum):
    small = "small"
    large = "large"


class Box(Base):
    __tablename__ = "boxes"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[Kind]
    parts: Mapped[list[Part]] = relationship()


class Part(Base):
    __tablename__ = "parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int] = mapped_column(ForeignKey("boxes.id"))


async def test_tables_are_made_and_dropped_through_the_pooler(bounced: Bounced) -> None:
    async with AsyncDatabase(bounced.url, pooler="transaction") as db:
        for _ in range(2):  # the type gets another number the second time
            await db.create_all(Base)
            async with db.begin() as session:
                session.add(Box(kind=Kind.large, parts=[Part(), Part()]))
            async with db.session() as session:
                box = (await session.scalars(select(Box))).one()
                assert (box.kind, len(await box.awaitable_attrs.parts)) == (Kind.large, 2)
            await db.drop_all(Base)
