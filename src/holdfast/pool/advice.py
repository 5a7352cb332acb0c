"""What a pool's size should be, and why.

Theory: a server runs about ``2 × cores + 1`` statements at once with profit (PostgreSQL's wiki, "Number
Of Database Connections"); more connections than that only queue inside the server, where nobody
sees it.  Connections that mostly wait for their program need more: with N connections, all busy,
each used for U seconds and waited for W, the program asks for N × (1 + W / U) of them (Little's
law).  Above both stands what the server has left: its ``max_connections``, without the reserved
slots and other clients, shared by all instances.  Behind a pooler in transaction mode the first is the
pooler's affair, the last does not bind, and only the waits speak of this pool.

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
from holdfast.pool.statistics import PoolStats, Times, write_seconds

ASSUMED_CORES = 4
KEPT_FREE = 3
"""Slots that are left for a person with psql, a migration, a monitor."""
WORTH_MENDING_SECONDS = 0.005
"""A wait below this at p99 is no reason for more connections."""
FEWEST_SAMPLES = 100

# What a role may not see of others (pg_stat_activity hides backend_type and application_name) counts as
# another client's.  A limit of -1 is none.  reserved_connections came with PostgreSQL 16.
_ASK_POSTGRESQL = """
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

# Neither MariaDB nor MySQL reserves a slot below max_connections (one above it is for an administrator), and both limit
# users only.  Without the PROCESS privilege a user sees no sessions but his own, so all are counted by the status.
_ASK_MYSQL = (
    "SHOW GLOBAL STATUS LIKE 'Threads_connected'",
    """
SELECT @@global.max_connections, IF(@@max_user_connections = 0, -1, @@max_user_connections),
       CAST(SUM(one.user = me.user AND one.db <=> me.db) AS SIGNED), CAST(SUM(one.user = me.user) AS SIGNED),
       MAX(me.host = 'localhost' OR me.host LIKE '127.0.0.1%' OR me.host LIKE '::1%')
  FROM information_schema.processlist AS one
  JOIN information_schema.processlist AS me ON me.id = CONNECTION_ID()
""",
)
_QUESTIONS = {"postgresql": (_ASK_POSTGRESQL,), "mariadb": _ASK_MYSQL, "mysql": _ASK_MYSQL}


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
    """What a server told: its limits, and who is connected."""

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


def _read_facts(answers: Sequence[Sequence[Sequence[Any]]]) -> ServerFacts:
    if len(answers) == 1:
        return ServerFacts(*answers[0][0])
    connected = int(answers[0][0][1])
    most, limit, ours, of_user, local = answers[1][0]
    return ServerFacts(most, 0, 0, limit, -1, connected - ours, ours - 1, of_user - ours, 0, bool(local))


def questions(driver: Driver | AsyncDriver) -> tuple[str, ...]:
    """Give the statements to ask before advice is given."""
    return _QUESTIONS.get(driver.capabilities.server, ())


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
    facts = _read_facts(answers)
    if driver.shares:
        return _advise_before_pooler(stats, settings, server_cores)
    return advise_server(facts, stats, settings, instances, server_cores)


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


def advise_server(
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
            "that is not enough: raise max_connections, run fewer instances, or put a pooler (PgBouncer, ProxySQL) in between"
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
    told, at_once = _weigh_cores(server_cores, local=facts.local)
    useful = max(2, ceil(at_once / instances))
    reasons.append(told if instances == 1 else f"{told}, so {useful} for each instance")
    return useful


def _weigh_cores(server_cores: int | None, *, local: bool) -> tuple[str, int]:
    """Tell how many statements a server works on at once, in words and as a number."""
    if server_cores is not None:
        cores, known = server_cores, "as you say"
    elif local:
        cores, known = os.cpu_count() or 1, "this machine's, as the server seems to be on it"
    else:
        cores, known = ASSUMED_CORES, "assumed; say `server_cores=` to be exact"
    at_once = 2 * cores + 1
    return (
        f"a server with {_count(cores, 'core')} ({known}) works on about {at_once} statements at once",
        at_once,
    )


def _find_wanted(stats: PoolStats, settings: PoolSettings, useful: int, reasons: list[str]) -> int:
    if not _is_measured(stats):
        reasons.append(f"only {_count(stats.wait.samples, 'loan')} measured: ask again under load")
        return useful
    wanted = _weigh_waits(stats, reasons)
    if wanted is None:
        return min(useful, settings.pool_size) if settings.pool_size > 1 else useful
    if wanted > 2 * useful:
        wanted = 2 * useful
        reasons.append(
            f"more than {wanted} would only queue inside the server; shorten what holds a connection for"
            f" {write_seconds(stats.use.p99_seconds)}"
        )
    return max(wanted, useful)


def _advise_before_pooler(stats: PoolStats, settings: PoolSettings, server_cores: int | None) -> PoolAdvice:
    """What this pool opens is not what the server sees: so each has a size of its own."""
    told, at_once = _weigh_cores(server_cores, local=False)
    reasons = [
        "a pooler lends the server's connections: how many this pool has is between it and `max_client_conn`",
        f"{told}: give the pooler a `default_pool_size` of about {at_once}",
    ]
    wanted = None
    if _is_measured(stats):
        wanted = _weigh_waits(stats, reasons)
    else:
        reasons.append(f"only {_count(stats.wait.samples, 'loan')} measured: ask again under load")
    size = max(settings.pool_size, wanted or 0)
    reasons.append("whoever waits for the pooler shows in the time of use, not in the time of waiting")
    return PoolAdvice(size, max(1, size // 2), tuple(reasons))


def _is_measured(stats: PoolStats) -> bool:
    return stats.wait.samples >= FEWEST_SAMPLES and stats.use.samples > 0


def _weigh_waits(stats: PoolStats, reasons: list[str]) -> int | None:
    """Tell how many connections would be in use if nobody waited; None where nobody does."""
    wait, use = stats.wait, stats.use
    told = f"the last {wait.samples} loans waited {_span(wait)}, and were used {_span(use)}"
    if not stats.timeouts and (wait.p99_seconds or 0.0) < WORTH_MENDING_SECONDS:
        reasons.append(f"{told}: nobody waits, more would not help")
        return None
    limit = stats.limit if stats.limit is not None else max(stats.size, 1)
    ratio = (wait.mean_seconds or 0.0) / max(use.mean_seconds or 0.0, 1e-6)
    wanted = min(ceil(limit * (1 + ratio)), 10 * limit)
    reasons.append(
        f"{told}; {stats.timeouts} timed out: about {wanted} connections would be in use if nobody waited"
    )
    return wanted


def _span(times: Times) -> str:
    return f"{write_seconds(times.p50_seconds)} (p50) to {write_seconds(times.p99_seconds)} (p99)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
