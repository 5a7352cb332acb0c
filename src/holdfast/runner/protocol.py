"""What a runner needs of a connection and of a pool.

Rule: only shapes stand here, so that runners know neither drivers nor pools.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from holdfast.steps import Port

Translate = Callable[[BaseException, str, Sequence[Any]], BaseException]


class Lent(Port, Protocol):
    """A connection that a pool lends."""

    @property
    def in_transaction(self) -> bool: ...
    @property
    def usable(self) -> bool: ...
    def is_cut(self) -> bool: ...


class Lender(Protocol):
    """A blocking pool."""

    def acquire(self) -> Any: ...
    def release(self, connection: Any, *, discard: bool = False) -> None: ...

    def abandon(self, connection: Any) -> None:
        """Throw a connection away at once, without waiting; a garbage collector may call this."""
        ...


class AsyncLender(Protocol):
    """An async pool."""

    async def acquire(self) -> Any: ...

    def take(self) -> Any:
        """Lend a connection at once, if one is at hand; else None.  Saves a coroutine."""
        ...

    async def release(self, connection: Any, *, discard: bool = False) -> None: ...

    def put(self, connection: Any) -> bool:
        """Take a connection back, if nothing is to be waited for; else False, and nothing is done."""
        ...

    def abandon(self, connection: Any) -> None:
        """Cut a connection at once, without waiting."""
        ...
