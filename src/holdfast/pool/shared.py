"""What both shells of the pool share.

Rule: no waiting and no connecting here.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol
from weakref import WeakSet

from holdfast.errors import PoolTimeout
from holdfast.pool.settings import PoolSettings
from holdfast.pool.state import Member, PoolState
from holdfast.pool.statistics import Holder, PoolStats, group_by_line

LINES_TOLD = 5
"""How many lines of holders the text of a time-out names."""


class _Forkable(Protocol):
    def start_over(self) -> None: ...


_inherited: list[Any] = []
_pools: WeakSet[Any] = WeakSet()
_hooked: list[bool] = []


def start_over_after_fork(pool: _Forkable) -> None:
    """Let a pool begin anew in a forked child; asking for the process's number at each loan costs more."""
    _pools.add(pool)
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked.append(True)
        os.register_at_fork(after_in_child=_start_over_all)


def _start_over_all() -> None:
    for pool in list(_pools):
        pool.start_over()


def forget(state: PoolState) -> None:
    """Keep the connections of another process or loop alive for ever, and never use them.

    To finalize one would speak to the server on a socket that the parent still uses, and SQLite's
    locks are lost for the whole process when any descriptor of the file is closed:
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_
    """
    _inherited.extend(state.idle)
    _inherited.extend(state.lent.values())


def new_state(settings: PoolSettings, *, closed: bool = False) -> PoolState:
    """Open empty books."""
    return PoolState(
        settings.pool_size,
        settings.max_overflow,
        settings.pool_max_idle,
        settings.pool_max_connecting,
        closed=closed,
    )


UNHELD_SECONDS = 1.0
"""How long a loan must have lasted before anybody asks whether it is still held."""


def _references(member: Member) -> int:
    return sys.getrefcount(member.connection)


def _references_of_books() -> int:
    """How many references to a lent connection are the pool's own."""
    member = Member(object(), 0.0, 0)
    _books = {member.connection: member}
    return _references(member)


_OWN_REFERENCES = _references_of_books()


def unheld(state: PoolState, now: float) -> list[Any]:
    """Connections that are lent and that nobody has.

    Ctrl-C may strike between the pool and the borrower, on the way there or back; then only the books know of the
    connection.  Somebody who was just about to take one has had a second for it.
    """
    return [
        member.connection
        for member in list(state.lent.values())
        if now - member.since >= UNHELD_SECONDS and _references(member) <= _OWN_REFERENCES
    ]


def timed_out(
    stats: PoolStats, holders: tuple[Holder, ...], settings: PoolSettings, *, single: bool, on_loop: bool
) -> PoolTimeout:
    """Say who is in the way, and what to do."""
    return PoolTimeout(
        _tell(stats, holders, settings),
        mend=_mend(stats, single=single, on_loop=on_loop),
        seconds=settings.pool_timeout,
        in_use=stats.in_use,
        waiting=stats.waiting,
        opening=stats.opening,
        holders=holders,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
    )


def _tell(stats: PoolStats, holders: tuple[Holder, ...], settings: PoolSettings) -> str:
    told = (
        f"No connection was free within {settings.pool_timeout:g} s:"
        f" {stats.in_use} in use, {stats.waiting} waiting"
    )
    if stats.opening:
        told += f", {stats.opening} being opened"
    lines = group_by_line(holders)
    if lines:
        told += f". Held longest by {', '.join(lines[:LINES_TOLD])}"
    if len(lines) > LINES_TOLD:
        told += f", and {len(lines) - LINES_TOLD} more lines"
    return told


def _mend(stats: PoolStats, *, single: bool, on_loop: bool) -> str:
    kind = "AsyncDatabase" if on_loop else "Database"
    if single:
        return (
            "A SQLite database in memory has one connection: end the other session's transaction"
            f" first, or use a file, `{kind}('sqlite:///app.db')`."
        )
    if stats.opening and not stats.in_use:
        return "The server does not answer: look at it, and give the URL a `connect_timeout`, `?connect_timeout=5`."
    return (
        f"Close sessions with `{'async ' * on_loop}with db.session() as session:`, end transactions before slow"
        f" work, or raise `pool_size` and `max_overflow`; `print({'await ' * on_loop}db.pool.advice())` says to what."
    )
