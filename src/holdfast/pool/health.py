"""Whether an idle connection may be lent, and what casts doubt on it.

Theory: a look at its socket (``peek``) costs 0.4 µs and no round trip, and finds a server that has
ended, so it is done at every loan.  Older ones of a generation that lost one member are asked (a
ping) before they are lent, and so is everyone under ``pool_pre_ping``.  A write that a server refuses
as read-only makes the pool ask the older ones what server they are on: one that became a standby, or
that refuses writes by default, is let go, since a new connection may find the new primary; a
transaction that was read-only by its own wish changes nothing.

Rule: decisions stand here, waiting in the shells.  What a shell's ``acquire`` tests itself is the fast
path: whether anything here need be asked at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from holdfast.errors import ConnectionLost, ReadOnly
from holdfast.pool.settings import PoolSettings
from holdfast.pool.state import Member

PING_SECONDS = 5.0
"""How long a connection may take to answer before it is lent."""
READ_ONLY_PAUSE_SECONDS = 1.0
"""After a write was refused as read-only, the next refusals within this time are the same news."""

Translate = Callable[[BaseException, str, Sequence[Any]], BaseException]


class _Hearer(Protocol):
    def hear(self, error: BaseException) -> None: ...


def listening(pool: _Hearer, translate: Translate) -> Translate:
    """Let a pool hear of the errors that a driver's `translate` makes."""

    def hear(error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        translated = translate(error, sql, params)
        pool.hear(translated)
        return translated

    return hear


class Health:
    """What a pool knows of its members' health."""

    __slots__ = ("_heard_at", "_peeks", "_pre_ping", "_recycle", "read_only_generation")

    def __init__(self, settings: PoolSettings, *, peeks: bool) -> None:
        self._pre_ping = settings.pool_pre_ping
        self._recycle = settings.pool_recycle
        self._peeks = peeks
        self._heard_at = float("-inf")
        self.read_only_generation = 0
        """Members older than this are asked whether their server lets them write."""

    def is_too_old(self, member: Member, now: float) -> bool:
        return 0 <= self._recycle < now - member.born

    def wants_ping(self, member: Member, generation: int) -> bool:
        if self._pre_ping or member.generation != generation:
            return True
        return self._peeks and not member.connection.peek()

    def asks_read_only(self, member: Member) -> bool:
        return member.generation < self.read_only_generation

    def hear(self, error: BaseException, generation: int, now: float) -> bool:
        """Tell whether an error begins a new generation."""
        if isinstance(error, ConnectionLost):
            return True
        if not isinstance(error, ReadOnly) or error.sqlstate is None:  # none: Holdfast said it, or SQLite
            return False
        if now - self._heard_at < READ_ONLY_PAUSE_SECONDS:
            return False
        self._heard_at = now
        self.read_only_generation = generation + 1
        return True


def is_read_only(rows: Sequence[Sequence[Any]]) -> bool:
    """Read the answer to `Capabilities.ask_read_only`."""
    return bool(rows and rows[0][0])
