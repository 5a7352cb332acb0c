"""Which units of work are under way here, so that one inside another is noticed.

A unit inside another of the same database would have a transaction of its own: not undone with the outer one, blind to
its changes, and waiting for its locks, or for its connection, for ever.  "Here" is a task or thread: another task that a
unit has started may well have its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from holdfast.errors import NestedTransaction

from .opening import Opened

_under_way: ContextVar[tuple[tuple[Opened, Any], ...]] = ContextVar("holdfast_under_way", default=())


@contextmanager
def entered(opened: Opened) -> Iterator[None]:
    """The time of a unit of work; refuses one inside another."""
    units, owner = _under_way.get(), opened.find_owner()
    if any(database is opened and other == owner for database, other in units):
        raise NestedTransaction
    token = _under_way.set((*units, (opened, owner)))
    try:
        yield
    finally:
        _under_way.reset(token)
