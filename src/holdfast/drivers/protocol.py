"""What a driver and its connections can do; every driver file fulfils it.

Rule: connections are in the driver's autocommit mode and raise the driver's own exceptions;
whoever runs a step calls `translate`.  Parameters are positional, as the dialect compiles them.
Async drivers have the same methods as coroutines (`connect`, and all of a connection's except
``cancel``, ``is_cut``, ``peek`` and the properties).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy.engine import Dialect

from holdfast.capabilities import Capabilities
from holdfast.steps import Answer


class Connection(Protocol):
    """One connection, blocking."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, failed ones included: the driver's truth."""
        ...

    @property
    def usable(self) -> bool:
        """Whether the next statement can be sent: open, not broken, nothing under way."""
        ...

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Sequence[Sequence[Any]]: ...
    def execute(self, sql: str, params: Sequence[Any]) -> int: ...

    def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        """Run one statement per set of parameters; -1 where the driver does not count."""
        ...

    def run(self, sql: str, params: Sequence[Any]) -> Answer: ...

    def command(self, sql: str) -> str | None:
        """Run a statement without parameters or rows; answers the server's tag, where it gives one."""
        ...

    def is_cut(self) -> bool:
        """Whether the other side is known to have hung up; no round trip."""
        ...

    def cut(self) -> None:
        """End the connection under whoever waits on it; callable from another thread."""
        ...

    def ping(self, timeout_seconds: float | None = None) -> None:
        """Ask the server for a sign of life, and wait so long for it (None: as long as it takes)."""
        ...

    def peek(self) -> bool:
        """Whether nothing has come on an idle connection, neither its end nor a message; no round trip."""
        ...

    def close(self) -> None: ...

    def cancel(self) -> None:
        """Stop the statement under way; callable from another thread."""
        ...


class AsyncConnection(Protocol):
    """One connection, async."""

    @property
    def in_transaction(self) -> bool: ...
    @property
    def usable(self) -> bool: ...

    async def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Sequence[Sequence[Any]]: ...
    async def execute(self, sql: str, params: Sequence[Any]) -> int: ...
    async def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int: ...
    async def run(self, sql: str, params: Sequence[Any]) -> Answer: ...
    async def command(self, sql: str) -> str | None: ...
    def is_cut(self) -> bool: ...
    async def ping(self, timeout_seconds: float | None = None) -> None: ...
    def peek(self) -> bool: ...
    async def close(self) -> None: ...

    def terminate(self) -> None:
        """Drop the connection at once, without a word to the server."""
        ...


class _AnyDriver(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str:
        """Where it leads, without user and password: ``host:port/database``, or a file."""
        ...

    @property
    def dialect(self) -> Dialect: ...
    @property
    def capabilities(self) -> Capabilities:
        """The facts; the server's version is assumed until the first connection tells it."""
        ...

    @property
    def threaded(self) -> bool:
        """Whether an async database runs this blocking driver on worker threads."""
        ...

    @property
    def single(self) -> bool:
        """Whether only one connection can exist: SQLite in memory."""
        ...

    @property
    def shares(self) -> bool:
        """Whether a pooler gives each transaction another connection of the server; see pooler.py."""
        ...

    def translate(self, error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        """Give the typed error for a driver's exception; what is not the driver's comes back as it is.

        ``params`` are looked at to find the value at fault; they never enter a text.
        """
        ...


class Driver(_AnyDriver, Protocol):
    """A blocking driver."""

    def connect(self) -> Connection:
        """Open a connection.

        Raises:
            ConnectionFailed: with host, port and database, never the password.
        """
        ...


class AsyncDriver(_AnyDriver, Protocol):
    """An async driver."""

    async def connect(self) -> AsyncConnection: ...
