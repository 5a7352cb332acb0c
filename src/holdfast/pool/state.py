"""The pool's decisions: events in, actions out, no I/O.

Theory: a connection is idle, lent, or being opened; their number never exceeds ``pool_size +
max_overflow``, and no more than ``max_connecting`` are being opened at once.  Idle connections are
lent last in, first out, so that a quiet pool keeps few warm ones; whoever waits is served first
come, first served, by whatever is there first: a connection that came back, or leave to open one.
Nobody waits while a connection is idle, or while a place is free and one more may be opened; so a
newcomer cannot overtake.  Who was lent a connection that proved dead came before all who wait, and
waits, if it must, ahead of them.

Rule: a method is an event.  It changes the books and answers what the shell has to do; the shell
holds its lock only around these calls.  ``now`` is seconds of a clock that only grows.

| event | books | action |
| --- | --- | --- |
| take | idle → lent | the member, or None |
| ask | idle → lent, a place becomes "opening", or the asker waits | Lend, Open, Wait, Refuse |
| opened | opening → lent; one more may be opened | Lend, or Discard when the pool was closed meanwhile |
| open_failed, left_unopened | a place is free | Open for the first waiter, or Keep |
| returned | lent → the first waiter, idle, or a free place | Lend, Keep, Discard |
| passed_on | the same, for a connection whose waiter had gone | Lend, Keep, Discard |
| exchange | lent → gone; its borrower gets another | Lend, Open, Wait, Refuse |
| gave_up | the waiter leaves | whether it was still waiting |
| suspect | a new generation: whoever is older is asked before it is lent | nothing |
| sweep | what was idle too long, beyond ``pool_size``, is gone | what to close |
| close | no idle, no waiters | Closing: what to close, whom to refuse |
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

RECENT = 1024
"""How many of the latest waits, uses and openings are kept; their quantiles are the pool's."""
NEVER = float("inf")


class Member:
    """A connection of the pool, and what the pool knows of it."""

    __slots__ = ("born", "connection", "generation", "since", "site")

    def __init__(self, connection: Any, now: float, generation: int) -> None:
        self.connection = connection
        self.born = now
        self.generation = generation
        self.since = now
        """When it was lent, or came back."""
        self.site: Any = None
        """Who borrowed it: a code object and an instruction; see `holdfast.pool.callsite`."""

    def __repr__(self) -> str:
        return f"Member({self.connection!r}, generation {self.generation})"


class Open(NamedTuple):
    """Let the waiter (None: the caller) open a connection; a place is kept for it."""

    waiter: Any = None


class Lend(NamedTuple):
    """Hand the member to the waiter (None: the caller); if ``next`` is given, its waiter opens one."""

    member: Member
    waiter: Any = None
    next: Open | None = None


class Wait(NamedTuple):
    """The caller waits; it stands in the queue."""


class Refuse(NamedTuple):
    """The pool is closed."""


class Keep(NamedTuple):
    """Nothing to do."""


KEEP = Keep()


class Discard(NamedTuple):
    """Close the connection; if ``next`` is given, its waiter then opens one."""

    connection: Any
    next: Open | None = None


class Closing(NamedTuple):
    """Close these connections and refuse these waiters."""

    connections: tuple[Any, ...]
    waiters: tuple[Any, ...]


@dataclass(slots=True)
class PoolState:
    """The books of a pool.

    ``max_overflow`` and ``max_connecting`` are -1 for no limit.  ``max_idle`` is how many seconds a
    connection beyond ``pool_size`` may be idle: 0 closes it when it comes back, -1 keeps it.
    """

    pool_size: int = 5
    max_overflow: int = 10
    max_idle: float = 0.0
    max_connecting: int = -1
    idle: list[Member] = field(default_factory=list)
    lent: dict[Any, Member] = field(default_factory=dict)
    opening: int = 0
    waiters: OrderedDict[Any, None] = field(default_factory=OrderedDict)
    ahead: OrderedDict[Any, None] = field(default_factory=OrderedDict)
    closed: bool = False
    generation: int = 0
    sweep_at: float = NEVER
    """When a sweep may find something."""
    lent_count: int = 0
    opened_count: int = 0
    closed_count: int = 0
    failed_count: int = 0
    timeout_count: int = 0
    waits: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """The latest waits, each with how many loans and time-outs there had been."""
    uses: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def size(self) -> int:
        """Open connections and those being opened."""
        return self.opened_count - self.closed_count + self.opening

    @property
    def waiting(self) -> int:
        return len(self.waiters) + len(self.ahead)

    @property
    def limit(self) -> float:
        return NEVER if self.max_overflow < 0 else self.pool_size + self.max_overflow

    def take(self, now: float) -> Member | None:
        """Lend the connection that came back last; None where none is idle."""
        if self.idle:
            member = self.idle[-1]
            member.since = now
            self.lent[member.connection] = member
            self.lent_count += 1
            del self.idle[-1]
            return member
        return None

    def ask(self, waiter: Any, now: float) -> Lend | Open | Wait | Refuse:
        """Ask for a connection, and wait where none can be had."""
        return self._serve(waiter, self.waiters, now)

    def opened(self, connection: Any, now: float) -> Lend | Discard:
        self.opening -= 1
        self.opened_count += 1
        if self.closed:
            self.closed_count += 1
            return Discard(connection)
        member = Member(connection, now, self.generation)
        self._lend(member, now)
        return Lend(member, None, self._open_for_first())

    def open_failed(self) -> Open | Keep:
        """Give the place back; the first waiter tries itself, and meets the failure itself."""
        self.opening -= 1
        self.failed_count += 1
        return self._open_for_first() or KEEP

    def left_unopened(self) -> Open | Keep:
        """Give the place back of one who was let open, and left before it tried."""
        self.opening -= 1
        return self._open_for_first() or KEEP

    def returned(
        self, connection: Any, now: float, discard: bool = False, *, used: bool = True
    ) -> Lend | Keep | Discard:
        # Every loan ends here, so the way to the end of the body calls nothing of ours.
        member = self.lent.get(connection)
        if member is None:
            return KEEP  # returned twice, or lent before a fork or on another loop
        if used:
            self.uses.append(now - member.since)
        if discard or self.closed:
            return self._drop(member)
        if self.ahead or self.waiters:
            self._lend(member, now)
            return Lend(member, self._first())
        if self.max_idle == 0 and len(self.idle) >= self.pool_size:
            return self._drop(member)
        member.since = now
        member.site = None
        self.idle.append(member)
        del self.lent[connection]
        if (
            self.sweep_at == NEVER
            and self.max_idle > 0
            and self.opened_count - self.closed_count + self.opening > self.pool_size  # the size
        ):
            self.sweep_at = now + self.max_idle
        return KEEP

    def kept(self, connection: Any, now: float) -> bool:
        """Take back a connection that nobody waits for and that stays; False, with nothing done, for any other."""
        if (
            self.closed
            or self.waiters
            or self.ahead
            or now >= self.sweep_at
            or (self.max_idle == 0 and len(self.idle) >= self.pool_size)
        ):
            return False
        self.returned(connection, now)
        return True

    def passed_on(self, member: Member, now: float) -> Lend | Keep | Discard:
        """Find another place for a connection whose waiter had gone when it was handed over."""
        self.lent_count -= 1
        return self.returned(member.connection, now, used=False)

    def exchange(self, connection: Any, waiter: Any, now: float) -> Lend | Open | Wait | Refuse:
        """Give another connection for one that proved dead when it was lent; the shell closes that."""
        if connection in self.lent:
            self.closed_count += 1
            self.lent_count -= 1
            del self.lent[connection]
        return self._serve(waiter, self.ahead, now)

    def gave_up(self, waiter: Any, *, timed_out: bool = False) -> bool:
        """Tell whether it was still waiting; if not, it holds something and must give it back."""
        queue = self.waiters if waiter in self.waiters else self.ahead
        if waiter not in queue:
            return False
        del queue[waiter]
        self.timeout_count += timed_out
        return True

    def waited(self, seconds: float) -> None:
        """Note a wait that has ended, in a loan or in vain."""
        self.waits.append((self.lent_count + self.timeout_count, seconds))

    def recent_waits(self) -> list[float]:
        """Give the times in the queue of the latest loans and time-outs: 0 for whoever had not to wait.

        Those are not noted, so that a loan at once costs nothing here.  Another thread than the loop's may ask.
        """
        asked = self.lent_count + self.timeout_count
        waits = [seconds for number, seconds in list(self.waits) if number > asked - RECENT]
        return [0.0] * (min(asked, RECENT) - len(waits)) + waits

    def suspect(self, lost: Member | None = None) -> None:
        """Begin a new generation, since one connection was lost; the others are asked before they are lent.

        Only the first member that a generation loses is news.
        """
        if lost is None or lost.generation == self.generation:
            self.generation += 1

    def sweep(self, now: float) -> tuple[Any, ...]:
        """Let go what was idle for ``max_idle`` seconds, beyond ``pool_size``; the longest idle first."""
        found = []
        while self.idle and self.size > self.pool_size and self.idle[0].since + self.max_idle <= now:
            found.append(self.idle.pop(0).connection)
            self.closed_count += 1
        self.sweep_at = NEVER
        if self.size > self.pool_size:
            self.sweep_at = (self.idle[0].since if self.idle else now) + self.max_idle
        return tuple(found)

    def close(self) -> Closing:
        connections = tuple(member.connection for member in self.idle)
        closing = Closing(connections, (*self.ahead, *self.waiters))
        self.closed = True
        self.closed_count += len(connections)
        for books in (self.idle, self.ahead, self.waiters):
            books.clear()
        return closing

    def _serve(self, waiter: Any, queue: OrderedDict[Any, None], now: float) -> Lend | Open | Wait | Refuse:
        if self.closed:
            return Refuse()
        member = self.take(now)
        if member is not None:
            return Lend(member)
        if self._may_open():
            self.opening += 1
            return Open()
        queue[waiter] = None
        return Wait()

    def _drop(self, member: Member) -> Discard:
        self.closed_count += 1
        del self.lent[member.connection]
        return Discard(member.connection, self._open_for_first())

    def _lend(self, member: Member, now: float) -> None:
        member.since = now
        member.site = None
        self.lent[member.connection] = member
        self.lent_count += 1

    def _first(self) -> Any:
        """Take the first of the queue out of it."""
        queue = self.ahead or self.waiters
        return queue.popitem(last=False)[0] if queue else None

    def _may_open(self) -> bool:
        if 0 <= self.max_connecting <= self.opening:
            return False
        return self.max_overflow < 0 or self.size < self.pool_size + self.max_overflow

    def _open_for_first(self) -> Open | None:
        if self.closed or not (self.ahead or self.waiters) or not self._may_open():
            return None
        self.opening += 1
        return Open(self._first())
