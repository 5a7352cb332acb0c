"""The pool's decisions: events in, actions out, no I/O.

Theory: a connection is idle, lent, or being opened; their number never exceeds ``pool_size +
max_overflow``.  Idle connections are lent last in, first out, so that a quiet pool keeps few warm
ones; whoever waits is served first come, first served.  An idle connection and a waiter never
exist together, so a newcomer cannot overtake.

Rule: a method is an event.  It changes the books and answers what the shell has to do; the shell
holds its lock only around these calls.

| event | books | action |
| --- | --- | --- |
| take | idle → lent | the connection, or None |
| ask | a place becomes "opening", or the asker waits | Open, Wait, Refuse |
| opened | opening → lent | Lend, or Discard when the pool was closed meanwhile |
| open_failed | a place is free | Open for the first waiter, or Nothing |
| returned | lent → the first waiter, idle, or a free place | Lend, Open, Keep, Discard |
| gave_up | the waiter leaves | whether it was still waiting |
| close | no idle, no waiters | Closing: what to close, whom to refuse |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Lend(NamedTuple):
    """Hand the connection to the waiter (None: to the caller)."""

    connection: Any
    waiter: Any = None


class Open(NamedTuple):
    """Let the waiter (None: the caller) open a connection; a place is kept for it."""

    waiter: Any = None


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


@dataclass(frozen=True, slots=True)
class PoolStats:
    """``size`` counts open connections: idle, in use and being opened."""

    size: int
    idle: int
    in_use: int
    waiting: int


@dataclass(slots=True)
class PoolState:
    """The books of a pool."""

    pool_size: int = 5
    max_overflow: int = 10
    idle: list[Any] = field(default_factory=list)
    lent: set[Any] = field(default_factory=set)
    opening: int = 0
    waiters: deque[Hashable] = field(default_factory=deque)
    closed: bool = False

    def stats(self) -> PoolStats:
        lent = len(self.lent)
        return PoolStats(len(self.idle) + lent + self.opening, len(self.idle), lent, len(self.waiters))

    @property
    def limit(self) -> float:
        return float("inf") if self.max_overflow < 0 else self.pool_size + self.max_overflow

    def take(self) -> Any:
        """Lend the connection that came back last; None where none is idle."""
        if self.idle:
            connection = self.idle.pop()
            self.lent.add(connection)
            return connection
        return None

    def ask(self, waiter: Any) -> Open | Wait | Refuse:
        """Ask after `take` gave nothing."""
        if self.closed:
            return Refuse()
        if len(self.lent) + self.opening < self.limit:
            self.opening += 1
            return Open()
        self.waiters.append(waiter)
        return Wait()

    def opened(self, connection: Any) -> Lend | Discard:
        self.opening -= 1
        if self.closed:
            return Discard(connection)
        self.lent.add(connection)
        return Lend(connection)

    def open_failed(self) -> Open | Keep:
        """Give the place back; the first waiter tries itself, and meets the failure itself."""
        self.opening -= 1
        return self._open_for_first() or KEEP

    def returned(self, connection: Any, discard: bool = False) -> Lend | Keep | Discard:
        if connection not in self.lent:
            return KEEP  # returned twice, or lent before a fork or a close
        if not (discard or self.closed):
            if self.waiters:
                return Lend(connection, self.waiters.popleft())
            if len(self.idle) < self.pool_size:
                self.lent.remove(connection)
                self.idle.append(connection)
                return KEEP
        self.lent.discard(connection)
        return Discard(connection, self._open_for_first())

    def gave_up(self, waiter: Any) -> bool:
        """Tell whether it was still waiting; if not, it holds something and must give it back."""
        try:
            self.waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def close(self) -> Closing:
        closing = Closing(tuple(self.idle), tuple(self.waiters))
        self.closed = True
        self.idle.clear()
        self.waiters.clear()
        return closing

    def _open_for_first(self) -> Open | None:
        if self.closed or not self.waiters or len(self.lent) + self.opening >= self.limit:
            return None
        self.opening += 1
        return Open(self.waiters.popleft())
