"""The pool's decisions, without I/O."""

from __future__ import annotations

from typing import Any

from holdfast.pool.state import KEEP, Closing, Discard, Lend, Open, PoolState, Refuse, Wait


def pool_with(idle: int, **settings: Any) -> PoolState:
    """A pool whose idle connections are 0, 1, 2 …, come back in this order."""
    state = PoolState(**settings)
    for number in range(idle):
        state.ask(None, 0)
        state.opened(number, 0)
    for number in range(idle):
        state.returned(number, 0)
    return state


def taken(state: PoolState, now: float = 0) -> Any:
    member = state.take(now)
    return member.connection if member is not None else None


def books(state: PoolState) -> tuple[int, int, int, int]:
    return len(state.idle), len(state.lent), state.opening, state.waiting


def plain(action: Any) -> Any:
    """An action with its connection in the place of the member, to be compared."""
    return action._replace(member=action.member.connection) if type(action) is Lend else action


def test_the_last_returned_is_lent_first() -> None:
    state = pool_with(3)

    assert [taken(state) for _ in range(4)] == [2, 1, 0, None]


def test_places_are_limited_by_size_and_overflow() -> None:
    state = PoolState(pool_size=1, max_overflow=1)

    assert [state.ask(name, 0) for name in "abc"] == [Open(), Open(), Wait()]
    assert books(state) == (0, 0, 2, 1)


def test_without_a_limit_nobody_waits() -> None:
    state = PoolState(pool_size=1, max_overflow=-1)

    assert {state.ask(number, 0) for number in range(100)} == {Open()}


def test_who_waits_longest_is_served_first() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take(0)
    state.ask("a", 0)
    state.ask("b", 0)

    assert plain(state.returned(0, 1)) == Lend(0, "a")
    assert plain(state.returned(0, 2)) == Lend(0, "b")
    assert state.returned(0, 3) is KEEP


def test_a_discarded_connection_makes_a_place_for_who_waits() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take(0)
    state.ask("a", 0)

    assert state.returned(0, 0, discard=True) == Discard(0, Open("a"))
    assert plain(state.opened(1, 0)) == Lend(1)
    assert books(state) == (0, 1, 0, 0)


def test_a_failed_opening_lets_the_first_waiter_try() -> None:
    state = PoolState(pool_size=1, max_overflow=0)
    for name in (None, "a", "b"):
        state.ask(name, 0)

    assert state.open_failed() == Open("a")
    assert state.open_failed() == Open("b")
    assert state.open_failed() is KEEP
    assert (state.size, state.failed_count) == (0, 3)


def test_who_gave_up_is_not_served() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take(0)
    state.ask("a", 0)
    state.ask("b", 0)

    assert state.gave_up("a", timed_out=True)
    assert not state.gave_up("a", timed_out=True)
    assert plain(state.returned(0, 0)) == Lend(0, "b")
    assert state.timeout_count == 1


def test_returning_twice_changes_nothing() -> None:
    state = pool_with(1)
    state.take(0)

    state.returned(0, 0)
    state.returned(0, 0)

    assert books(state) == (1, 0, 0, 0)


def test_a_closed_pool_refuses_and_discards() -> None:
    state = pool_with(2, pool_size=2, max_overflow=0)
    state.take(0)
    state.take(0)
    state.ask("a", 0)

    assert state.close() == Closing((), ("a",))
    assert (state.size, state.closed_count) == (2, 0)
    assert state.returned(0, 0) == Discard(0, None)
    assert state.ask("b", 0) == Refuse()
    assert state.exchange(1, "c", 0) == Refuse()
    assert state.take(0) is None


def test_a_closed_pool_lets_its_idle_connections_go() -> None:
    state = pool_with(3)
    state.take(0)

    assert state.close() == Closing((0, 1), ())
    assert (state.size, state.closed_count) == (1, 2)


def test_what_is_opened_after_closing_is_discarded() -> None:
    state = PoolState()
    state.ask(None, 0)
    state.close()

    assert state.opened(0, 0) == Discard(0)
    assert state.size == 0


# ------------------------------------------------------------------------ openings at once


def test_no_more_are_opened_at_once_than_may_be() -> None:
    state = PoolState(pool_size=10, max_overflow=0, max_connecting=2)

    assert [state.ask(name, 0) for name in "abcd"] == [Open(), Open(), Wait(), Wait()]
    assert plain(state.opened(1, 0)) == Lend(1, None, Open("c"))
    assert state.open_failed() == Open("d")
    assert books(state) == (0, 1, 2, 0)


def test_who_waits_to_open_is_served_by_what_comes_back_first() -> None:
    state = pool_with(1, pool_size=10, max_overflow=0, max_connecting=1)
    state.take(0)
    state.ask("a", 0)
    state.ask("b", 0)

    assert plain(state.returned(0, 0)) == Lend(0, "b")


# ------------------------------------------------------------------------ what proved dead


def test_who_got_a_dead_connection_gets_another_idle_one() -> None:
    state = pool_with(2)
    state.take(0)

    assert plain(state.exchange(1, "a", 0)) == Lend(0)
    assert (books(state), state.closed_count) == ((0, 1, 0, 0), 1)


def test_who_got_a_dead_connection_opens_one_in_its_place() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take(0)
    state.ask("later", 0)

    assert state.exchange(0, "first", 0) == Open()
    assert books(state) == (0, 0, 1, 1)


def test_who_got_a_dead_connection_waits_ahead_of_who_came_later() -> None:
    state = pool_with(3, pool_size=3, max_overflow=0, max_connecting=1)
    for _ in range(3):
        state.take(0)
    state.ask("later", 0)
    assert state.exchange(0, "opens", 0) == Open()

    assert state.exchange(1, "first", 0) == Wait()
    assert state.exchange(2, "second", 0) == Wait()

    assert plain(state.opened(3, 0)) == Lend(3, None, Open("first"))
    assert plain(state.returned(3, 0)) == Lend(3, "second")
    assert plain(state.returned(3, 0)) == Lend(3, "later")


def test_a_loss_makes_the_others_of_its_generation_suspect_once() -> None:
    state = pool_with(2)
    one, two = state.take(0), state.take(0)
    assert one is not None
    assert two is not None

    state.suspect(one)
    state.suspect(two)

    assert (one.generation, two.generation, state.generation) == (0, 0, 1)
    state.ask(None, 0)
    opened = state.opened("new", 0)
    assert isinstance(opened, Lend)
    assert opened.member.generation == 1


# ------------------------------------------------------------------------ idle too long


def test_overflow_that_may_not_be_idle_is_closed_when_it_comes_back() -> None:
    state = pool_with(1, pool_size=1, max_overflow=1, max_idle=0)
    state.take(0)
    state.ask(None, 0)
    state.opened(1, 0)

    assert state.returned(0, 0) is KEEP
    assert state.returned(1, 0) == Discard(1, None)


def test_overflow_may_be_idle_for_its_time_and_the_longest_idle_goes_first() -> None:
    state = pool_with(3, pool_size=1, max_overflow=2, max_idle=10)
    assert state.sweep_at == 10
    assert state.sweep(9) == ()

    assert state.sweep(10) == (0, 1)
    assert (books(state), state.sweep_at, state.closed_count) == ((1, 0, 0, 0), float("inf"), 2)


def test_the_next_sweep_is_due_when_the_next_one_is() -> None:
    state = pool_with(3, pool_size=1, max_overflow=2, max_idle=10)
    for _ in range(2):
        state.take(0)
    state.returned(1, 4)
    state.returned(2, 7)

    assert state.sweep(10) == (0,)
    assert state.sweep_at == 14
    assert state.sweep(14) == (1,)


def test_a_connection_in_use_counts_among_those_to_keep() -> None:
    state = pool_with(2, pool_size=1, max_overflow=1, max_idle=10)
    state.take(5)

    assert state.sweep(10) == (0,)
    assert books(state) == (0, 1, 0, 0)


def test_pool_size_connections_stay_however_long_they_are_idle() -> None:
    state = pool_with(2, pool_size=2, max_idle=10)

    assert state.sweep_at == float("inf")
    assert state.sweep(1000) == ()


def test_overflow_stays_for_ever_where_it_may() -> None:
    state = pool_with(3, pool_size=1, max_overflow=2, max_idle=-1)

    assert (books(state), state.sweep_at) == ((3, 0, 0, 0), float("inf"))


# ------------------------------------------------------------------------ a waiter that has gone


def test_what_its_waiter_left_goes_to_the_next() -> None:
    state = pool_with(1, pool_size=1, max_overflow=0)
    state.take(0)
    state.ask("gone", 0)
    state.ask("next", 0)
    handed = state.returned(0, 0)
    assert isinstance(handed, Lend)

    assert plain(state.passed_on(handed.member, 0)) == Lend(0, "next")
    assert (len(state.uses), state.lent_count) == (2, 3)
