"""Whatever happens in whatever order, the pool's books stay true."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.errors import ConnectionFailed, PoolTimeout
from holdfast.pool import BlockingPool, PoolSettings
from holdfast.pool.state import KEEP, Discard, Lend, Open, PoolState, Wait


class PoolMachine(RuleBasedStateMachine):
    """A shell that carries out the actions, and a list of who ought to be served next."""

    @initialize(size=st.integers(1, 3), overflow=st.integers(0, 2))
    def begin(self, size: int, overflow: int) -> None:
        self.limit = size + overflow
        self.state = PoolState(size, overflow)
        self.numbers = itertools.count()
        self.lent: list[int] = []
        self.open: set[int] = set()
        self.openers = 0
        self.queue: deque[int] = deque()
        self.closed = False

    @rule()
    def borrow(self) -> None:
        connection = self.state.take()
        if connection is not None:
            assert not self.queue, "a newcomer overtook"
            self.lent.append(connection)
            return
        waiter = next(self.numbers)
        action = self.state.ask(waiter)
        if type(action) is Open:
            self.openers += 1
        elif type(action) is Wait:
            self.queue.append(waiter)
        else:
            assert self.closed

    @precondition(lambda self: self.openers)
    @rule()
    def opening_succeeds(self) -> None:
        connection = next(self.numbers)
        self.openers -= 1
        action = self.state.opened(connection)
        if type(action) is Lend:
            self.lent.append(connection)
            self.open.add(connection)
        else:
            assert self.closed

    @precondition(lambda self: self.openers)
    @rule()
    def opening_fails(self) -> None:
        self.openers -= 1
        self._serve(self.state.open_failed())

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), discard=st.booleans())
    def give_back(self, data: Any, discard: bool) -> None:
        connection = data.draw(st.sampled_from(self.lent))
        self.lent.remove(connection)
        self._serve(self.state.returned(connection, discard))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def give_up(self, data: Any) -> None:
        waiter = data.draw(st.sampled_from(list(self.queue)))
        self.queue.remove(waiter)
        assert self.state.gave_up(waiter)

    @rule()
    def close(self) -> None:
        closing = self.state.close()
        assert list(closing.waiters) == list(self.queue)
        self.open -= set(closing.connections)
        self.queue.clear()
        self.closed = True

    def _serve(self, action: Any) -> None:
        if type(action) is Lend:
            assert action.waiter == self.queue.popleft()
            self.lent.append(action.connection)
        elif type(action) is Discard:
            self.open.discard(action.connection)
            self._serve(action.next or KEEP)
        elif type(action) is Open:
            assert action.waiter == self.queue.popleft()
            self.openers += 1

    @invariant()
    def the_books_are_true(self) -> None:
        if not hasattr(self, "state"):
            return
        stats = self.state.stats()
        assert stats.in_use == len(self.lent)
        assert stats.waiting == len(self.queue)
        assert stats.size == len(self.open) + self.openers <= self.limit
        assert stats.idle <= self.state.pool_size
        assert not (stats.idle and stats.waiting), "somebody waits beside an idle connection"
        assert not stats.waiting or stats.size == self.limit, "somebody waits beside a free place"


PoolMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestPoolState = PoolMachine.TestCase


class Connection:
    def __init__(self, openings: list[Any]) -> None:
        self.users = 0
        self.openings = openings

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


def test_a_timeout_says_how_many_are_in_use() -> None:
    driver: Any = FlakyDriver()
    pool = BlockingPool(driver, PoolSettings(pool_size=1, max_overflow=0, pool_timeout=0))
    pool.acquire()

    with pytest.raises(PoolTimeout, match="1 in use") as caught:
        pool.acquire()

    assert vars(caught.value)["in_use"] == 1
    assert pool.stats().waiting == 0
