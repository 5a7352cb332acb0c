"""The pool's decisions, without I/O."""

from __future__ import annotations

from holdfast.pool.state import KEEP, Closing, Discard, Lend, Open, PoolState, PoolStats, Refuse, Wait


def pool_with(idle: int, **settings: int) -> PoolState:
    state = PoolState(**settings)
    for number in range(idle):
        state.ask(None)
        state.opened(number)
    for number in range(idle):
        state.returned(number)
    return state


def test_the_last_returned_is_lent_first() -> None:
    state = pool_with(3)

    assert [state.take(), state.take(), state.take(), state.take()] == [2, 1, 0, None]


def test_places_are_limited_by_size_and_overflow() -> None:
    state = PoolState(pool_size=1, max_overflow=1)

    assert [state.ask("a"), state.ask("b"), state.ask("c")] == [Open(), Open(), Wait()]
    assert state.stats() == PoolStats(size=2, idle=0, in_use=0, waiting=1)


def test_without_a_limit_nobody_waits() -> None:
    state = PoolState(pool_size=1, max_overflow=-1)

    assert {state.ask(number) for number in range(100)} == {Open()}


def test_who_waits_longest_is_served_first() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take()
    state.ask("a")
    state.ask("b")

    assert state.returned(0) == Lend(0, "a")
    assert state.returned(0) == Lend(0, "b")
    assert state.returned(0) is KEEP


def test_overflow_is_closed_when_nobody_waits() -> None:
    state = pool_with(1, pool_size=1, max_overflow=1)
    state.take()
    state.ask(None)
    state.opened(1)

    assert state.returned(0) is KEEP
    assert state.returned(1) == Discard(1, None)


def test_a_discarded_connection_makes_a_place_for_who_waits() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take()
    state.ask("a")

    assert state.returned(0, discard=True) == Discard(0, Open("a"))
    assert state.opened(1) == Lend(1)
    assert state.stats() == PoolStats(size=1, idle=0, in_use=1, waiting=0)


def test_a_failed_opening_lets_the_first_waiter_try() -> None:
    state = PoolState(pool_size=1, max_overflow=0)
    state.ask(None)
    state.ask("a")
    state.ask("b")

    assert state.open_failed() == Open("a")
    assert state.open_failed() == Open("b")
    assert state.open_failed() is KEEP
    assert state.stats().size == 0


def test_who_gave_up_is_not_served() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take()
    state.ask("a")
    state.ask("b")

    assert state.gave_up("a")
    assert not state.gave_up("a")
    assert state.returned(0) == Lend(0, "b")


def test_returning_twice_changes_nothing() -> None:
    state = pool_with(1)
    state.take()

    state.returned(0)
    state.returned(0)

    assert state.stats() == PoolStats(size=1, idle=1, in_use=0, waiting=0)


def test_a_closed_pool_refuses_and_discards() -> None:
    state = pool_with(2, pool_size=2, max_overflow=0)
    state.take()
    state.take()
    state.ask("a")

    assert state.close() == Closing((), ("a",))
    assert state.returned(0) == Discard(0, None)
    assert state.ask("b") == Refuse()
    assert state.take() is None


def test_what_is_opened_after_closing_is_discarded() -> None:
    state = PoolState()
    state.ask(None)
    state.close()

    assert state.opened(0) == Discard(0)
    assert state.stats().size == 0
