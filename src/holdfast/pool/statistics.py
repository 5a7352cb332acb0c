"""What a pool tells of itself.

Rule: values, made when somebody asks; ``dataclasses.asdict`` makes them fit for JSON, ``str`` for a
person.  Times are seconds; quantiles are those of the latest `holdfast.pool.state.RECENT` samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Protocol

from holdfast.pool.callsite import locate
from holdfast.pool.state import Member, PoolState

_ROW = "{:<5}{:>9}{:>9}{:>9}{:>9}"


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took, over the latest samples; None where there are none yet."""

    p50_seconds: float | None = None
    p99_seconds: float | None = None
    mean_seconds: float | None = None
    samples: int = 0

    @classmethod
    def of(cls, samples: Iterable[float]) -> Times:
        ordered = sorted(samples)
        count = len(ordered)
        if not count:
            return cls()
        middle, tail = ordered[(count - 1) // 2], ordered[-(-count * 99 // 100) - 1]
        return cls(middle, tail, sum(ordered) / count, count)

    def row(self, name: str) -> str:
        """Write it as a line of the table of `PoolStats`."""
        quantiles = (self.p50_seconds, self.p99_seconds, self.mean_seconds)
        return _ROW.format(name, *map(write_seconds, quantiles), self.samples)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a connection: the line that borrowed it, and for how long by now."""

    seconds: float
    filename: str
    line: int
    function: str

    @classmethod
    def of(cls, member: Member, now: float) -> Holder:
        return cls(max(0.0, now - member.since), *locate(member.site))

    @property
    def place(self) -> str:
        """``file:line``, which editors follow."""
        return f"{self.filename}:{self.line}" if self.filename else "an unknown line"

    def __str__(self) -> str:
        inside = f" in {self.function}" if self.function and self.function != "<module>" else ""
        return f"{self.place}{inside}, for {write_seconds(self.seconds)}"


@dataclass(frozen=True, slots=True)
class PoolStats:
    """How a pool does; printed, it is a table.

    ``size`` counts connections that are idle, in use or being opened; ``limit`` is the most there may
    be, None for no limit.  ``lent``, ``opened``, ``closed``, ``failed`` (to open) and ``timeouts``
    count since the pool began.  ``wait`` is the time in the queue (0 where nobody waited), ``use`` from
    loan to return, ``create`` from asking a server to an open connection.
    """

    size: int
    idle: int
    in_use: int
    waiting: int
    opening: int = 0
    limit: int | None = None
    lent: int = 0
    opened: int = 0
    closed: int = 0
    failed: int = 0
    timeouts: int = 0
    wait: Times = Times()
    use: Times = Times()
    create: Times = Times()
    longest: Holder | None = None

    @property
    def now(self) -> str:
        """What is true at this moment, in one line."""
        most = "" if self.limit is None else f"; at most {self.limit}"
        return f"{self.in_use} in use, {self.idle} idle, {self.opening} being opened, {self.waiting} waiting{most}"

    def __str__(self) -> str:
        lines = [self.now, _ROW.format("", "p50", "p99", "mean", "samples")]
        lines += [
            times.row(name) for name, times in (("wait", self.wait), ("use", self.use), ("open", self.create))
        ]
        lines.append(
            f"{self.lent} lent, {self.opened} opened, {self.closed} closed, {self.failed} failed to open,"
            f" {self.timeouts} timed out"
        )
        if self.longest is not None:
            lines.append(f"held longest by {self.longest}")
        return "\n".join(lines)


class Meter(Protocol):
    """Who hears of every wait, use and opening, in seconds; telemetry sets one as ``pool.meter``.

    It is called outside the pool's lock, by whoever borrows or returns, so it must be quick.
    """

    def waited(self, seconds: float) -> None: ...
    def used(self, seconds: float) -> None: ...
    def created(self, seconds: float) -> None: ...


def group_by_line(holders: Iterable[Holder]) -> list[str]:
    """Tell of the lines that hold connections, each with how many and the longest; in the order given."""
    lines: dict[tuple[str, str], list[Holder]] = {}
    for holder in holders:
        lines.setdefault((holder.place, holder.function), []).append(holder)
    return [
        str(found[0]) if len(found) == 1 else f"{len(found)} × {found[0]} at most" for found in lines.values()
    ]


def collect(state: PoolState, creates: Iterable[float], now: float) -> PoolStats:
    """Read the books; the shell holds its lock."""
    longest = holders_of(state, now, 1)
    return PoolStats(
        size=state.size,
        idle=len(state.idle),
        in_use=len(state.lent),
        waiting=state.waiting,
        opening=state.opening,
        limit=None if state.max_overflow < 0 else state.pool_size + state.max_overflow,
        lent=state.lent_count,
        opened=state.opened_count,
        closed=state.closed_count,
        failed=state.failed_count,
        timeouts=state.timeout_count,
        wait=Times.of(state.recent_waits()),
        use=Times.of(state.uses.copy()),
        create=Times.of(creates),
        longest=longest[0] if longest else None,
    )


def holders_of(state: PoolState, now: float, most: int | None = None) -> tuple[Holder, ...]:
    """Tell who holds connections, the longest first; None for all of them."""
    # A list first, in one go: a reader of metrics asks from a thread of its own.
    lent = list(state.lent.values())
    members = nsmallest(len(lent) if most is None else most, lent, key=lambda member: member.since)
    return tuple(Holder.of(member, now) for member in members)


def write_seconds(seconds: float | None) -> str:
    """Write a time as a person reads it: ``3.2 s``, ``14 ms``, ``120 µs``."""
    if seconds is None:
        return "–"
    if seconds >= 0.9995:
        return f"{seconds:.1f} s"
    if seconds >= 0.0009995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.0f} µs"
