"""What a pool's size should be: numbers in, numbers and reasons out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from holdfast.pool import PoolSettings, PoolStats, Times
from holdfast.pool.advice import KEPT_FREE, ServerFacts, advise_server

FACTS = ServerFacts(
    max_connections=100,
    superuser_reserved=3,
    reserved=0,
    role_limit=-1,
    database_limit=-1,
    others=10,
    ours=5,
    others_of_role=0,
    others_of_database=0,
    local=False,
)
QUIET = PoolStats(size=5, idle=5, in_use=0, waiting=0, limit=15)
SECONDS = st.floats(0, 60)
GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/pool.md"


def busy(wait: float, use: float, **more: int) -> PoolStats:
    """A pool of 4 whose loans waited and were used for so long."""
    times = [Times(seconds, seconds, seconds, 1024) for seconds in (wait, use)]
    return replace(QUIET, limit=4, wait=times[0], use=times[1], **more)


facts = st.builds(
    ServerFacts,
    max_connections=st.integers(1, 5000),
    superuser_reserved=st.integers(0, 10),
    reserved=st.integers(0, 10),
    role_limit=st.one_of(st.just(-1), st.integers(0, 500)),
    database_limit=st.one_of(st.just(-1), st.integers(0, 500)),
    others=st.integers(0, 5000),
    ours=st.integers(0, 500),
    others_of_role=st.integers(0, 500),
    others_of_database=st.integers(0, 500),
    local=st.booleans(),
)


@given(
    facts, SECONDS, SECONDS, st.integers(0, 9), st.integers(1, 200), st.one_of(st.none(), st.integers(1, 256))
)
def test_all_instances_together_fit_into_what_the_server_has_left(
    server: ServerFacts, wait: float, use: float, timeouts: int, instances: int, cores: int | None
) -> None:
    advice = advise_server(server, busy(wait, use, timeouts=timeouts), PoolSettings(), instances, cores)

    room = server.max_connections - server.superuser_reserved - server.reserved - server.others - KEPT_FREE
    if server.role_limit >= 0:
        room = min(room, server.role_limit - server.others_of_role)
    if server.database_limit >= 0:
        room = min(room, server.database_limit - server.others_of_database)
    assert advice.pool_size >= 1
    assert advice.max_overflow >= 0
    most = instances * (advice.pool_size + advice.max_overflow)
    assert most <= room or (advice.pool_size, advice.max_overflow) == (1, 0)
    assert most <= room or "not enough" in str(advice)


@given(st.floats(0.01, 60), st.floats(0.001, 60), st.floats(1, 10))
def test_who_waits_longer_is_given_no_less(wait: float, use: float, factor: float) -> None:
    less = advise_server(FACTS, busy(wait, use), PoolSettings(), 1, 16)
    more = advise_server(FACTS, busy(wait * factor, use), PoolSettings(), 1, 16)

    assert more.pool_size >= less.pool_size


def test_as_many_as_would_be_in_use_if_nobody_waited() -> None:
    """Four, always busy, used as long as they are waited for: eight are asked for."""
    advice = advise_server(FACTS, busy(0.1, 0.1, timeouts=2), PoolSettings(), 1, 2)

    assert advice.pool_size == 8
    assert "2 timed out: about 8 connections" in str(advice)


def test_more_than_twice_what_the_cores_serve_is_not_advised() -> None:
    advice = advise_server(FACTS, busy(9.0, 0.1), PoolSettings(), 1, 2)

    assert advice.pool_size == 10
    assert "more than 10 would only queue inside the server" in str(advice)


def test_where_nobody_waits_the_pool_does_not_grow() -> None:
    advice = advise_server(FACTS, busy(0.0, 0.1), PoolSettings(pool_size=5), 1, 16)

    assert advice.pool_size == 5
    assert "nobody waits" in str(advice)


def test_without_measurements_the_cores_speak_and_it_is_said() -> None:
    advice = advise_server(FACTS, QUIET, PoolSettings(), 1, 4)

    assert advice.pool_size == 9
    assert "only 0 loans measured" in str(advice)


def test_the_server_s_cores_are_assumed_where_nobody_says_them() -> None:
    advice = advise_server(FACTS, QUIET, PoolSettings(), 1, None)

    assert "4 cores (assumed; say `server_cores=` to be exact)" in str(advice)


def test_the_guide_shows_what_is_printed() -> None:
    server = replace(FACTS, max_connections=200, others=12)
    stats = replace(QUIET, wait=Times(0.0, 0.00031, 0.0, 1024), use=Times(0.00064, 0.0041, 0.001, 1024))

    advice = advise_server(server, stats, PoolSettings(), instances=4, server_cores=4)

    assert f"```text\n{advice}\n```" in GUIDE.read_text(encoding="utf-8")
