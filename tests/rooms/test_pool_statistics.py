"""What a pool tells of itself, from books that a test wrote."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.pool import PoolSettings, PoolStats, Times
from holdfast.pool.callsite import locate
from holdfast.pool.shared import LINES_TOLD, timed_out
from holdfast.pool.state import RECENT, PoolState
from holdfast.pool.statistics import Holder, collect, write_seconds

SECONDS = st.floats(0, 1e6)
GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/pool.md"


def holder(line: int, seconds: float, filename: str = "/app/views.py") -> Holder:
    return Holder(seconds, filename, line, "show")


# ------------------------------------------------------------------------ times


@given(st.lists(SECONDS, min_size=1, max_size=2000))
def test_of_a_hundred_samples_so_many_are_no_longer_than_a_quantile_says(samples: list[float]) -> None:
    times = Times.of(samples)

    for quantile, percent in ((times.p50_seconds, 50), (times.p99_seconds, 99)):
        assert quantile in samples
        assert quantile is not None
        assert 100 * sum(one <= quantile for one in samples) >= percent * len(samples)
        assert 100 * sum(one < quantile for one in samples) < percent * len(samples)
    assert times.samples == len(samples)


def test_without_samples_nothing_is_claimed() -> None:
    assert Times.of([]) == Times(None, None, None, 0)


@given(SECONDS)
def test_a_time_is_written_within_five_in_a_thousand_or_half_of_its_last_digit(seconds: float) -> None:
    number, unit = write_seconds(seconds).split()

    scale = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]
    assert abs(float(number) * scale - seconds) <= max(
        seconds * 5.1e-3, scale / 10 if unit == "s" else 5.1e-7
    )


@given(st.lists(st.one_of(st.none(), st.floats(0.001, 10)), max_size=60), st.integers(0, 2 * RECENT))
def test_waits_are_those_of_the_latest_loans(waits: list[float | None], at_once: int) -> None:
    """None stands for a loan at once, and ``at_once`` more of them come first."""
    state = PoolState(pool_size=1, max_overflow=0)
    state.ask(None, 0)
    state.opened("c", 0)
    state.returned("c", 0)
    for wait in [None] * at_once + waits:
        assert state.take(0) is not None
        if wait is not None:
            state.ask("waiter", 0)
            state.returned("c", 0)
            state.waited(wait)
        state.returned("c", 0)

    waited = [wait for wait in waits if wait is not None]
    found = state.recent_waits()
    assert len(found) == min(state.lent_count, RECENT)
    assert sorted(one for one in found if one) == sorted(waited)


def test_waits_of_long_ago_are_forgotten() -> None:
    state = PoolState(pool_size=1, max_overflow=0)
    state.ask(None, 0)
    state.opened("c", 0)
    state.waited(5.0)
    for _ in range(RECENT):
        state.returned("c", 0)
        state.take(0)

    assert state.recent_waits() == [0.0] * RECENT


# ------------------------------------------------------------------------ the table


def test_statistics_are_printed_as_the_table_of_the_guide() -> None:
    stats = PoolStats(
        size=5,
        idle=1,
        in_use=3,
        waiting=2,
        opening=1,
        limit=15,
        lent=1200,
        opened=7,
        closed=3,
        failed=1,
        timeouts=4,
        wait=Times(0.0, 0.0566, 0.0116, 1024),
        use=Times(0.00525, 0.0393, 0.00575, 1024),
        create=Times(0.0158, 0.0182, 0.0138, 7),
        longest=holder(21, 12.34),
    )

    assert f"```text\n{stats}\n```" in GUIDE.read_text(encoding="utf-8")


def test_a_new_pool_claims_nothing() -> None:
    stats = collect(PoolState(max_overflow=-1), [], 0)

    assert stats.limit is None
    assert str(stats).splitlines()[0] == "0 in use, 0 idle, 0 being opened, 0 waiting"
    assert str(stats).splitlines()[2].split() == ["wait", "–", "–", "–", "0"]


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_another_thread_may_ask_while_a_loop_changes_the_books() -> None:
    """An exporter of metrics has a thread of its own, and the async pool no lock."""
    state = PoolState(pool_size=50)
    for number in range(50):
        state.ask(None, 0)
        state.opened(number, 0)
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            for number in range(50):
                state.returned(number, 0)
                state.waited(1.0)
            while state.take(0):
                pass

    thread = threading.Thread(target=change)
    thread.start()
    try:
        found = [collect(state, [], 0) for _ in range(500)]
    finally:
        ended.set()
        thread.join()

    assert {stats.size for stats in found} == {50}


# ------------------------------------------------------------------------ who holds


def test_holders_at_one_line_are_told_together_the_longest_first() -> None:
    stats = PoolStats(size=4, idle=0, in_use=4, waiting=7)
    holders = (holder(21, 9.0), holder(40, 8.0), holder(21, 7.0), holder(21, 0.5))

    error = timed_out(stats, holders, PoolSettings(), single=False, on_loop=False)

    assert error.happened == (
        "No connection was free within 30 s: 4 in use, 7 waiting. Held longest by"
        " 3 × /app/views.py:21 in show, for 9.0 s at most, /app/views.py:40 in show, for 8.0 s"
    )
    assert vars(error)["holders"] == holders


def test_many_lines_are_counted_and_not_told() -> None:
    holders = tuple(holder(line, 100.0 - line) for line in range(20))

    error = timed_out(
        PoolStats(20, 0, 20, 0), holders, PoolSettings(pool_size=20), single=False, on_loop=False
    )

    assert error.happened.count("/app/views.py") == LINES_TOLD
    assert error.happened.endswith(f"and {20 - LINES_TOLD} more lines")


def test_the_mend_is_written_for_the_face_that_asked() -> None:
    stats = PoolStats(1, 0, 1, 0)

    blocking = timed_out(stats, (), PoolSettings(), single=False, on_loop=False).mend
    on_loop = timed_out(stats, (), PoolSettings(), single=False, on_loop=True).mend

    assert "`with db.session() as session:`" in blocking
    assert "`print(db.pool.advice())`" in blocking
    assert "`async with db.session() as session:`" in on_loop
    assert "`print(await db.pool.advice())`" in on_loop


def test_where_all_wait_for_the_server_it_says_so() -> None:
    stats = PoolStats(size=3, idle=0, in_use=0, waiting=9, opening=3)

    error = timed_out(stats, (), PoolSettings(), single=False, on_loop=False)

    assert "3 being opened" in error.happened
    assert "connect_timeout" in error.mend


def test_an_unknown_borrower_is_called_so() -> None:
    assert str(Holder(1.0, *locate(None))) == "an unknown line, for 1.0 s"
