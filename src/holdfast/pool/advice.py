"""What a pool's size should be, and why.

Theory: a server runs about ``2 × cores + 1`` statements at once with profit (PostgreSQL's wiki, "Number
Of Database Connections"); more connections than that only queue inside the server, where nobody
sees it.  Connections that mostly wait for their program need more: with N connections, all busy,
each used for U seconds and waited for W, the program asks for N × (1 + W / U) of them (Little's
law).  Above both stands what the server has left: its ``max_connections``, without the reserved
slots and other clients, shared by all instances.

Rule: numbers in, numbers and sentences out; the shells ask the server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from holdfast.drivers import AsyncDriver, Driver
from holdfast.errors import InvalidRequestError
from holdfast.pool.settings import PoolSettings
from holdfast.pool.statistics import PoolStats, write_seconds

ASSUMED_CORES = 4
KEPT_FREE = 3
"""Slots that are left for a person with psql, a migration, a monitor."""
WORTH_MENDING_SECONDS = 0.005
"""A wait below this at p99 is no reason for more connections."""
FEWEST_SAMPLES = 100

# What a role may not see of others (pg_stat_activity hides backend_type and application_name) counts as
# another client's.  A limit of -1 is none.  reserved_connections came with PostgreSQL 16.
ASK_POSTGRESQL = """
SELECT current_setting('max_connections')::integer,
       current_setting('superuser_reserved_connections')::integer,
       coalesce(nullif(current_setting('reserved_connections', true), '')::integer, 0),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       count(*) FILTER (WHERE NOT ours)::integer,
       count(*) FILTER (WHERE ours)::integer - 1,
       count(*) FILTER (WHERE NOT ours AND usename = current_user)::integer,
       count(*) FILTER (WHERE NOT ours AND datname = current_database())::integer,
       inet_server_addr() IS NULL OR host(inet_server_addr()) IN ('127.0.0.1', '::1')
  FROM (SELECT usename, datname,
               usename = current_user AND datname = current_database()
               AND coalesce(application_name, '-') = current_setting('application_name') AS ours
          FROM pg_stat_activity
         WHERE datid IS NOT NULL AND usesysid IS NOT NULL
           AND coalesce(backend_type, 'client backend') = 'client backend') AS clients
"""


@dataclass(frozen=True, slots=True)
class PoolAdvice:
    """What to write, for each instance, and why."""

    pool_size: int
    max_overflow: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"pool_size={self.pool_size}, max_overflow={self.max_overflow}"]
        return "\n".join([*lines, *(f"- {reason}" for reason in self.reasons)])


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a PostgreSQL server told: its limits, and who is connected."""

    max_connections: int
    superuser_reserved: int
    reserved: int
    role_limit: int
    database_limit: int
    others: int
    ours: int
    others_of_role: int
    others_of_database: int
    local: bool


def questions(driver: Driver | AsyncDriver) -> tuple[str, ...]:
    """Give the statements to ask before advice is given."""
    return (ASK_POSTGRESQL,) if driver.capabilities.server == "postgresql" else ()


def advise(
    driver: Driver | AsyncDriver,
    answers: Sequence[Sequence[Sequence[Any]]],
    stats: PoolStats,
    settings: PoolSettings,
    instances: int,
    server_cores: int | None,
) -> PoolAdvice:
    """Advise from the server's answers and the pool's own numbers."""
    if instances < 1 or (server_cores is not None and server_cores < 1):
        raise InvalidRequestError(
            "There is at least one instance, and one core", mend="Write `db.pool.advice(instances=2)`."
        )
    if not answers:
        return _advise_sqlite(settings, single=driver.single)
    facts = ServerFacts(*answers[0][0])
    return advise_postgresql(facts, stats, settings, instances, server_cores)


def _advise_sqlite(settings: PoolSettings, *, single: bool) -> PoolAdvice:
    if single:
        return PoolAdvice(1, 0, ("a SQLite database in memory lives in one connection",))
    cores = os.cpu_count() or 1
    size = max(2, min(settings.pool_size, cores + 1))
    return PoolAdvice(
        size,
        0,
        (
            "SQLite has one writer at a time, however many connections there are: keep writing transactions short",
            f"readers work beside it, as far as this machine's {_count(cores, 'core')} go; more only cost memory",
        ),
    )


def advise_postgresql(
    facts: ServerFacts,
    stats: PoolStats,
    settings: PoolSettings,
    instances: int,
    server_cores: int | None,
) -> PoolAdvice:
    """Bring the server's room, its cores and the measured waits together."""
    reasons: list[str] = []
    room = _find_room(facts, reasons)
    share = room // instances
    if instances > 1 or share < 1:
        reasons.append(f"shared by {_count(instances, 'instance')}, that is {max(share, 0)} for each")
    if share < 1:
        reasons.append(
            "that is not enough: raise max_connections, run fewer instances, or put PgBouncer in between"
        )
        return PoolAdvice(1, 0, tuple(reasons))
    useful = _find_useful(facts, instances, server_cores, reasons)
    wanted = _find_wanted(stats, settings, useful, reasons)
    size = max(1, min(wanted, share))
    if size < wanted:
        reasons.append(f"{wanted} would serve better, but the server has no more room than {share}")
    overflow = min(share - size, max(1, size // 2))
    reasons.append(
        f"max_overflow={overflow} is for bursts; {_count(size + overflow, 'connection')} of {share} possible"
    )
    return PoolAdvice(size, overflow, tuple(reasons))


def _find_room(facts: ServerFacts, reasons: list[str]) -> int:
    reserved = facts.superuser_reserved + facts.reserved
    room = facts.max_connections - reserved - facts.others - KEPT_FREE
    reasons.append(
        f"the server takes {_count(facts.max_connections, 'connection')}; {reserved} are reserved,"
        f" other clients hold {facts.others}, {KEPT_FREE} are left free for a person or a migration:"
        f" {max(room, 0)} remain"
    )
    for whose, limit, taken in (
        ("role", facts.role_limit, facts.others_of_role),
        ("database", facts.database_limit, facts.others_of_database),
    ):
        if limit >= 0 and limit - taken < room:
            room = limit - taken
            reasons.append(
                f"this {whose} may have {limit}, and others hold {taken} of them: {max(room, 0)} remain"
            )
    return room


def _find_useful(facts: ServerFacts, instances: int, server_cores: int | None, reasons: list[str]) -> int:
    """How many connections of one instance its share of the server's cores can serve at once."""
    if server_cores is not None:
        cores, known = server_cores, "as you say"
    elif facts.local:
        cores, known = os.cpu_count() or 1, "this machine's, as the server seems to be on it"
    else:
        cores, known = ASSUMED_CORES, "assumed; say `server_cores=` to be exact"
    useful = max(2, ceil((2 * cores + 1) / instances))
    reasons.append(
        f"a server with {_count(cores, 'core')} ({known}) works on about {2 * cores + 1} statements at once,"
        f" so {useful} for each instance"
    )
    return useful


def _find_wanted(stats: PoolStats, settings: PoolSettings, useful: int, reasons: list[str]) -> int:
    wait, use = stats.wait, stats.use
    if wait.samples < FEWEST_SAMPLES or use.mean_seconds is None or wait.mean_seconds is None:
        reasons.append(f"only {_count(wait.samples, 'loan')} measured: ask again under load")
        return useful
    told = f"the last {wait.samples} loans waited {wait} and were used {use}"
    p99 = wait.p99_seconds or 0.0
    if not stats.timeouts and p99 < WORTH_MENDING_SECONDS:
        reasons.append(f"{told}: nobody waits, more would not help")
        return min(useful, settings.pool_size) if settings.pool_size > 1 else useful
    limit = stats.limit if stats.limit is not None else max(stats.size, 1)
    wanted = min(ceil(limit * (1 + wait.mean_seconds / max(use.mean_seconds, 1e-6))), 10 * limit)
    reasons.append(
        f"{told}, and {stats.timeouts} timed out: about {wanted} connections would be in use if nobody waited"
    )
    if wanted > 2 * useful:
        wanted = 2 * useful
        reasons.append(
            f"more than {wanted} would only queue inside the server; shorten what holds a connection for"
            f" {write_seconds(use.p99_seconds)}"
        )
    return max(wanted, useful)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
