"""Whatever happens in whatever order, the pool's books stay true."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.errors import ConnectionFailed, PoolTimeout
from holdfast.pool import AsyncPool, BlockingPool, PoolSettings
from holdfast.pool.state import KEEP, Discard, Lend, Open, PoolState, Wait


class PoolMachine(RuleBasedStateMachine):
    """A shell that carries out the actions, with books of its own, kept the plain way.

    Whoever waits stands in ``queue``; who was lent a dead connection came before them, and stands in
    ``displaced``, which is served first.
    """

    @initialize(
        size=st.integers(1, 3),
        overflow=st.integers(0, 3),
        max_idle=st.sampled_from([0, 3, -1]),
        connecting=st.sampled_from([-1, 1, 2]),
        warm=st.integers(0, 6),
    )
    def begin(self, size: int, overflow: int, max_idle: float, connecting: int, warm: int) -> None:
        self.limit = size + overflow
        self.connecting = connecting if connecting > 0 else self.limit
        self.state = PoolState(size, overflow, max_idle, connecting)
        self.now = 0.0
        self.numbers = itertools.count()
        self.lent: list[int] = []
        self.idle: list[tuple[int, float]] = []
        self.open: set[int] = set()
        self.gone: set[int] = set()
        self.openers = 0
        self.displaced: list[int] = []
        self.queue: list[int] = []
        self.generations: dict[int, int] = {}
        self.closed = False
        self.lent_at: dict[int, float] = {}
        self.loans = 0
        for _ in range(min(warm, self.limit)):
            self.borrow()
            self.opening_succeeds()
        for connection in list(self.lent):
            self._give_back(connection, discard=False)

    @rule()
    def borrow(self) -> None:
        waiter = next(self.numbers)
        self._follow(self.state.ask(waiter, self.now), waiter, self.queue)

    @rule()
    def take(self) -> None:
        member = self.state.take(self.now)
        assert (member is None) == (not self.idle)
        if member is not None:
            self._lend(member)

    @precondition(lambda self: self.openers)
    @rule()
    def opening_succeeds(self) -> None:
        connection = next(self.numbers)
        self.openers -= 1
        action = self.state.opened(connection, self.now)
        if type(action) is Lend:
            self.open.add(connection)
            self.generations[connection] = self.state.generation
            assert action.member.connection == connection
            self._begin_loan(action.member)
            self._serve(action.next or KEEP)
        else:
            assert self.closed
            self.gone.add(connection)

    @precondition(lambda self: self.openers)
    @rule(tried=st.booleans())
    def opening_fails(self, tried: bool) -> None:
        self.openers -= 1
        self._serve(self.state.open_failed() if tried else self.state.left_unopened())

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), discard=st.sampled_from([False, False, False, True]))
    def give_back(self, data: Any, discard: bool) -> None:
        self._give_back(self._draw(data, self.lent), discard=discard)

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def give_back_at_once(self, data: Any) -> None:
        """What the shell tries first; where it fails, nothing has happened."""
        connection = self._draw(data, self.lent)
        if self.state.kept(connection, self.now):
            assert not self.closed
            assert not self.queue
            assert not self.displaced
            self.lent.remove(connection)
            self._serve(KEEP, connection)
        else:
            self.the_books_are_true()
            self._give_back(connection, discard=False)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def give_back_twice(self, data: Any) -> None:
        connection = self._draw(data, sorted(self.gone))
        assert self.state.returned(connection, self.now) is KEEP

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def its_waiter_had_gone(self, data: Any) -> None:
        """A task was cancelled after a connection was handed to it, and before it ran."""
        connection = self._draw(data, self.lent)
        self.lent.remove(connection)
        self.loans -= 1
        self._serve(self.state.passed_on(self.state.lent[connection], self.now), connection)

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def it_was_dead(self, data: Any) -> None:
        connection = self._draw(data, self.lent)
        self.lent.remove(connection)
        self.loans -= 1
        self._bury(connection)
        waiter = next(self.numbers)
        self._follow(self.state.exchange(connection, waiter, self.now), waiter, self.displaced)

    @precondition(lambda self: self.queue or self.displaced)
    @rule(data=st.data(), timed_out=st.booleans())
    def give_up(self, data: Any, timed_out: bool) -> None:
        waiter = self._draw(data, self.displaced + self.queue)
        (self.queue if waiter in self.queue else self.displaced).remove(waiter)
        assert self.state.gave_up(waiter, timed_out=timed_out)
        assert not self.state.gave_up(waiter, timed_out=timed_out)

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        if self.now < self.state.sweep_at:
            return
        beyond = max(0, self.state.size - self.state.pool_size)
        due = [one for one, since in self.idle if since + self.state.max_idle <= self.now][:beyond]
        assert list(self.state.sweep(self.now)) == due
        for connection in due:
            self._bury(connection)
        self.idle = [pair for pair in self.idle if pair[0] not in due]

    @rule(data=st.data())
    def a_generation_is_lost(self, data: Any) -> None:
        before = self.state.generation
        self.state.suspect()
        assert all(generation <= before for generation in self.generations.values())
        assert self.state.generation == before + 1

    @precondition(lambda self: self.state.opened_count > 4)  # nothing much happens to a closed pool
    @rule()
    def close(self) -> None:
        closing = self.state.close()
        assert list(closing.waiters) == self.displaced + self.queue
        assert list(closing.connections) == [one for one, _ in self.idle]
        for connection in closing.connections:
            self._bury(connection)
        self.idle, self.queue, self.displaced = [], [], []
        self.closed = True

    # ------------------------------------------------------------ what a shell does

    def _draw(self, data: Any, among: list[int]) -> int:
        return data.draw(st.sampled_from(among))  # type: ignore[no-any-return]

    def _follow(self, action: Any, waiter: int, queue: list[int]) -> None:
        if type(action) is Lend:
            self._lend(action.member)
        elif type(action) is Open:
            self.openers += 1
        elif type(action) is Wait:
            queue.append(waiter)
        else:
            assert self.closed

    def _lend(self, member: Any) -> None:
        """The member given is the one that came back last, if any is idle."""
        if self.idle:
            assert member.connection == self.idle.pop()[0]
            assert not self.queue, "a newcomer overtook"
        self._begin_loan(member)

    def _begin_loan(self, member: Any) -> None:
        assert member.connection in self.open
        assert member.connection not in self.lent, "lent to two"
        assert member.generation == self.generations[member.connection]
        assert member.site is None, "it names who had it before"
        member.site = "who has it now"
        self.lent.append(member.connection)
        self.lent_at[member.connection] = self.now
        self.loans += 1

    def _serve(self, action: Any, connection: int = -1) -> None:
        if type(action) is Lend:
            assert action.waiter == self._first()
            assert action.member.connection == connection
            self._begin_loan(action.member)
        elif type(action) is Discard:
            assert action.connection == connection
            self._bury(connection)
            self._serve(action.next or KEEP)
        elif type(action) is Open:
            assert action.waiter == self._first()
            self.openers += 1
        elif connection >= 0:
            self.idle.append((connection, self.now))

    def _first(self) -> int:
        return (self.displaced or self.queue).pop(0)

    def _give_back(self, connection: int, *, discard: bool) -> None:
        self.lent.remove(connection)
        self._serve(self.state.returned(connection, self.now, discard), connection)

    def _bury(self, connection: int) -> None:
        self.open.remove(connection)
        self.gone.add(connection)

    # ------------------------------------------------------------ what always holds

    @invariant()
    def the_books_are_true(self) -> None:
        if not hasattr(self, "state"):
            return
        state = self.state
        assert sorted(state.lent) == sorted(self.lent)
        assert [member.connection for member in state.idle] == [one for one, _ in self.idle]
        assert all(member.since == self.lent_at[one] for one, member in state.lent.items())
        assert all(member.since == since for member, (_, since) in zip(state.idle, self.idle, strict=True))
        assert state.lent_count == self.loans
        assert state.opening == self.openers
        assert state.waiting == len(self.queue) + len(self.displaced)
        assert state.opened_count - state.closed_count == len(self.open), "a connection was lost"
        assert set(self.lent) | {one for one, _ in self.idle} == self.open, "neither lent nor idle"

    @invariant()
    def limits_hold_and_nobody_waits_in_vain(self) -> None:
        if not hasattr(self, "state"):
            return
        state = self.state
        assert state.size <= self.limit
        assert state.opening <= self.connecting
        assert not (state.idle and state.waiting), "somebody waits beside an idle connection"
        if state.waiting:
            full, busy = state.size == self.limit, state.opening == self.connecting
            assert full or busy, "somebody waits beside a free place"
        if state.max_idle == 0:
            assert len(state.idle) <= state.pool_size
        if state.max_idle <= 0:
            assert state.sweep_at == float("inf"), "nothing is ever swept"
        if state.max_idle > 0 and state.idle and state.size > state.pool_size:
            assert state.sweep_at <= max(self.now, state.idle[0].since + state.max_idle), "no sweep will come"


PoolMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestPoolState = PoolMachine.TestCase


@pytest.mark.nightly
class TestPoolStateLong(PoolMachine.TestCase):
    settings = settings(max_examples=3000, stateful_step_count=100, deadline=None)


class Connection:
    in_transaction = False
    usable = True

    def __init__(self, openings: list[Any]) -> None:
        self.users = 0
        self.openings = openings

    def peek(self) -> bool:
        return True

    def ping(self, timeout_seconds: float | None = None) -> None:
        pass

    def close(self) -> None:
        self.openings.remove(self)


class FlakyDriver:
    """Every third connection cannot be opened."""

    single = False
    threaded = False

    def __init__(self) -> None:
        self.count = itertools.count()
        self.open: list[Any] = []
        self.most = 0

    def connect(self) -> Connection:
        if next(self.count) % 3 == 2:
            raise ConnectionFailed(server="x", reason="y")
        connection = Connection(self.open)
        self.open.append(connection)
        self.most = max(self.most, len(self.open))
        return connection


def test_threads_never_share_a_connection_and_none_is_lost() -> None:
    driver: Any = FlakyDriver()
    pool = BlockingPool(driver, PoolSettings(pool_size=2, max_overflow=1, pool_timeout=30))
    shared: list[int] = []

    def work(number: int) -> None:
        for turn in range(200):
            try:
                connection = pool.acquire()
            except ConnectionFailed:
                continue
            connection.users += 1
            shared.append(connection.users)
            connection.users -= 1
            pool.release(connection, discard=(turn + number) % 7 == 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    stats = pool.stats()
    assert set(shared) == {1}
    assert (stats.in_use, stats.waiting, stats.size) == (0, 0, len(driver.open))
    assert driver.most <= 3
    pool.close()
    assert driver.open == []


# ------------------------------------------------------------------------ tasks


class AsyncConnection:
    """Dies after so many loans: then a look or a ping finds it out."""

    in_transaction = False

    def __init__(self, driver: AsyncDriver, life: int, turns: int) -> None:
        self.driver = driver
        self.life = life
        self.turns = turns
        self.users = 0

    @property
    def usable(self) -> bool:
        return self.life > 0

    def peek(self) -> bool:
        return self.life > 0

    async def ping(self, timeout_seconds: float | None = None) -> None:
        await turns(self.turns)
        if self.life <= 0:
            raise OSError("gone")

    async def close(self) -> None:
        self.driver.open.discard(self)
        await turns(self.turns)
        self.driver.alive.discard(self)

    def terminate(self) -> None:
        self.driver.open.discard(self)
        self.driver.alive.discard(self)


class AsyncDriver:
    """Opens connections in some turns of the loop; some openings fail."""

    single = threaded = shares = False

    def __init__(self, lives: list[int]) -> None:
        self.lives = itertools.cycle(lives)
        self.open: set[Any] = set()
        self.alive: set[Any] = set()
        """The open ones, and those that are being closed."""
        self.connecting = self.most = self.most_connecting = 0

    async def connect(self) -> AsyncConnection:
        life = next(self.lives)
        self.connecting += 1
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            await turns(life % 3)
        finally:
            self.connecting -= 1
        if not life:
            raise ConnectionFailed(server="x", reason="y")
        connection = AsyncConnection(self, life, life % 2)
        self.open.add(connection)
        self.alive.add(connection)
        self.most = max(self.most, len(self.open))
        return connection


class Borrower(NamedTuple):
    """A task: after how many turns it asks, how long it holds, when it is cancelled, whether it throws away."""

    start: int
    hold: int
    cancelled_at: int | None
    discard: bool


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


borrowers = st.builds(
    Borrower,
    start=st.integers(0, 6),
    hold=st.integers(0, 4),
    cancelled_at=st.one_of(st.none(), st.integers(0, 20)),
    discard=st.sampled_from([False, False, True]),
)


@given(
    st.lists(borrowers, min_size=1, max_size=25),
    st.lists(st.integers(0, 8), min_size=1, max_size=6).filter(any),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([-1, 1, 2]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_tasks_cancelled_at_any_turn_lose_no_connection_and_nobody_waits_for_ever(
    group: list[Borrower], lives: list[int], size: int, overflow: int, connecting: int, pre_ping: bool
) -> None:
    driver: Any = AsyncDriver(lives)
    pool_settings = PoolSettings(
        size, overflow, 30, pool_pre_ping=pre_ping, pool_max_idle=0, pool_max_connecting=connecting
    )
    shared: set[int] = set()

    async def work(pool: AsyncPool, one: Borrower) -> None:
        await turns(one.start)
        try:
            connection = await pool.acquire()
        except ConnectionFailed:
            return
        connection.users += 1
        shared.add(connection.users)
        try:
            await turns(one.hold)
        finally:
            connection.users -= 1
            connection.life -= 1
            await pool.release(connection, discard=one.discard or not connection.usable)
            connection.life -= 1  # it may die while it is idle, or in use by somebody else

    async def run() -> AsyncPool:
        pool = AsyncPool(driver, pool_settings)
        tasks = [asyncio.create_task(work(pool, one)) for one in group]
        for turn in range(21):
            for task, one in zip(tasks, group, strict=True):
                if one.cancelled_at == turn:
                    task.cancel()
            await asyncio.sleep(0)
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended), ended
        return pool

    pool = asyncio.run(run())

    stats = pool.stats()
    assert shared <= {1}
    assert (stats.in_use, stats.waiting, stats.opening) == (0, 0, 0)
    assert stats.size == len(driver.open) <= size
    assert driver.alive == driver.open
    assert driver.most <= size + overflow
    assert driver.most_connecting <= (connecting if connecting > 0 else size + overflow)


def test_a_timeout_says_how_many_are_in_use() -> None:
    driver: Any = FlakyDriver()
    pool = BlockingPool(driver, PoolSettings(pool_size=1, max_overflow=0, pool_timeout=0))
    pool.acquire()

    with pytest.raises(PoolTimeout, match="1 in use") as caught:
        pool.acquire()

    assert vars(caught.value)["in_use"] == 1
    assert pool.stats().waiting == 0
