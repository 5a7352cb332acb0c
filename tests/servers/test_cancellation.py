"""A task that is cancelled, once, twice or by `asyncio.timeout`, while it commits, rolls back, closes or waits.

The wire goes silent under the statement, so that the cancellation surely comes while it is under way.  The rule of all:
the transaction ends, what is said of it is true, and its connection comes back clean or is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from sqlalchemy import String, text

from holdfast import AsyncDatabase, AsyncSession, Database, DeclarativeBase, Mapped, mapped_column, select
from holdfast.errors import ConnectionLost, Outcome
from holdfast.observe import StatementStarted
from tests.conftest import SESSION_NUMBER
from tests.servers.wire import SILENCE, UP, Wire

pytestmark = pytest.mark.parametrize(
    ("wired_url", "driver"),
    [("postgresql", "psycopg"), ("postgresql", "asyncpg"), ("mariadb", "asyncmy")],
    indirect=["wired_url"],
    ids=["psycopg", "asyncpg", "asyncmy"],
)
ONCE, TWICE, TIMEOUT = "once", "twice", "asyncio.timeout"
SOME_TURNS = 20
"""More turns of the loop than a cancellation takes that is not put off."""


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


def names_in(url: str) -> list[str]:
    with Database(url) as db, db.session() as session:
        return list(session.scalars(select(User.name).order_by(User.name)))


@pytest.fixture
def wire(wired_url: str) -> Iterator[Wire]:
    with Database(wired_url) as db:
        db.create_all(Base)
    with Wire(wired_url) as opened:
        yield opened


@pytest.fixture
async def db(driver: str, wire: Wire) -> AsyncIterator[AsyncDatabase]:
    async with AsyncDatabase(wire.through(driver), pool_size=1, max_overflow=0) as opened:
        yield opened
        assert (opened.pool.stats().in_use, opened.pool.stats().waiting) == (0, 0)


async def some_turns() -> None:
    for _ in range(SOME_TURNS):
        await asyncio.sleep(0)


class Cancelled:
    """Work in a task of its own, which is cancelled when a statement of it has begun."""

    def __init__(self, work: Coroutine[Any, Any, Any], how: str) -> None:
        self._how = how
        self._timeout = asyncio.timeout(None)
        self.task = asyncio.ensure_future(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._how != TIMEOUT:
            return await work
        async with self._timeout:
            return await work

    async def cancel(self) -> None:
        if self._how == TIMEOUT:
            self._timeout.reschedule(asyncio.get_running_loop().time())
            await some_turns()
            return
        for _ in range(1 if self._how == ONCE else 2):
            self.task.cancel()
            await some_turns()

    async def died(self) -> BaseException:
        """What it died of: as if nothing had been put off."""
        with pytest.raises((asyncio.CancelledError, TimeoutError)) as caught:
            await self.task
        assert isinstance(caught.value, TimeoutError) is (self._how == TIMEOUT)
        return caught.value


def begun(db: AsyncDatabase, sql: str) -> asyncio.Event:
    """Set when a statement is sent."""
    event = asyncio.Event()
    db.observers.add(
        lambda told: event.set() if isinstance(told, StatementStarted) and told.sql == sql else None
    )
    return event


async def process_of(session: AsyncSession) -> Any:
    return await session.scalar(text(SESSION_NUMBER[session._core.backend.capabilities.server]))


Ends = Callable[[AsyncSession], Coroutine[Any, Any, None]]
ENDS: dict[str, tuple[str, Ends]] = {
    "commit": ("COMMIT", lambda session: session.commit()),
    "rollback": ("ROLLBACK", lambda session: session.rollback()),
    "close": ("ROLLBACK", lambda session: session.close()),
}


@pytest.mark.parametrize("how", [ONCE, TWICE, TIMEOUT])
@pytest.mark.parametrize("end", list(ENDS))
async def test_the_end_of_a_transaction_is_waited_for(
    end: str, how: str, db: AsyncDatabase, wire: Wire, wired_url: str
) -> None:
    sql, act = ENDS[end]
    async with db.session() as session:
        session.add(User(name="Ann"))
        await session.flush()
        process, sent = await process_of(session), begun(db, sql)
        wire.arm(UP, 0, SILENCE)

        cancelled = Cancelled(act(session), how)
        await sent.wait()
        await cancelled.cancel()
        waits = not cancelled.task.done()
        wire.measure()
        await cancelled.died()

        assert waits
        assert names_in(wired_url) == (["Ann"] if end == "commit" else [])
        assert not session.in_transaction()
        assert db.pool.stats().in_use == 0
    async with db.session() as other:
        assert await process_of(other) == process  # it came back, clean


@pytest.mark.parametrize("how", [ONCE, TWICE, TIMEOUT])
@pytest.mark.parametrize("end", list(ENDS))
async def test_the_end_of_a_transaction_is_not_waited_for_forever(
    end: str, how: str, db: AsyncDatabase, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.runner.patience.CLEANUP_SECONDS", 0.05)
    sql, act = ENDS[end]
    async with db.session() as session:
        session.add(User(name="Ann"))
        await session.flush()
        process, sent = await process_of(session), begun(db, sql)
        wire.arm(UP, 0, SILENCE)

        cancelled = Cancelled(act(session), how)
        await sent.wait()
        await cancelled.cancel()
        died = await cancelled.died()

        assert db.pool.stats().in_use == 0
        assert [error.outcome for error in lost_in(died)] == ([Outcome.UNKNOWN] if end == "commit" else [])
        wire.measure()
        if end != "close":
            await session.rollback()
    async with db.session() as other:
        assert await process_of(other) != process  # it was thrown away


def lost_in(error: BaseException) -> list[ConnectionLost]:
    """Lost connections that a cancellation came over."""
    found, current = [], error.__context__
    while current is not None:
        if isinstance(current, ConnectionLost):
            found.append(current)
        current = current.__context__
    return found


@pytest.mark.parametrize("how", [ONCE, TWICE, TIMEOUT])
async def test_a_wait_for_the_pool_ends_at_once_and_costs_nobody_a_connection(
    how: str, db: AsyncDatabase
) -> None:
    async with db.begin() as holder:
        process = await process_of(holder)
        crowd = [Cancelled(ask(db), how) for _ in range(200)]
        patient = asyncio.ensure_future(ask(db))
        await until(lambda: db.pool.stats().waiting == 201)

        for one in crowd:
            await one.cancel()
        for one in crowd:
            await one.died()

        assert db.pool.stats().waiting == 1
    assert await patient == process


@pytest.mark.parametrize("how", [ONCE, TWICE])
async def test_a_connection_given_to_a_cancelled_task_goes_to_the_next(how: str, db: AsyncDatabase) -> None:
    holder = db.session()
    await holder.scalars(select(User).with_for_update())
    process = await process_of(holder)
    first, second = asyncio.ensure_future(ask(db)), asyncio.ensure_future(ask(db))
    await until(lambda: db.pool.stats().waiting == 2)

    await holder.rollback()  # gives it to the first, who has not run since
    first.cancel()
    if how == TWICE:
        first.cancel()

    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == process
    await holder.close()


async def ask(db: AsyncDatabase) -> Any:
    async with db.session() as session:
        return await process_of(session)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):  # after so long something is wrong
        while not is_so():  # noqa: ASYNC110 - a pool sets no event when somebody waits
            await asyncio.sleep(0)


@pytest.mark.parametrize("twice", [False, True])
async def test_a_cancelled_connect_leaves_room_in_the_pool(
    db: AsyncDatabase, wire: Wire, *, twice: bool
) -> None:
    wire.arm(UP, 0, SILENCE)
    task: Awaitable[Any] = asyncio.ensure_future(ask(db))
    await some_turns()

    for _ in range(1 + twice):
        task.cancel()  # type: ignore[attr-defined]
    with pytest.raises(asyncio.CancelledError):
        await task

    assert db.pool.stats().size == 0
    wire.measure()
    assert await ask(db)
