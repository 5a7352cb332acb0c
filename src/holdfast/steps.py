"""The vocabulary of I/O: what a thinking room may ask a runner to do.

A generator yields one of these values and is sent the answer, or has the typed error thrown in
at its ``yield``.  Steps are values that nobody changes, so a test compares lists of them (they are not frozen dataclasses:
making one of those costs 0.54 µs against 0.20 µs, for every statement).  ``perform`` is the one
place where a step meets a connection; the blocking runner uses what it returns, the async runner
awaits it, and so neither needs to know the kinds.

Parameters are positional, in the paramstyle of the driver's dialect.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Row = Sequence[Any]


class Port(Protocol):
    """A connection as a step sees it; async connections return awaitables of the same."""

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Any: ...
    def execute(self, sql: str, params: Sequence[Any]) -> Any: ...
    def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> Any: ...
    def run(self, sql: str, params: Sequence[Any]) -> Any: ...
    def command(self, sql: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement of unknown shape gave: column names (None where it gives no rows)."""

    keys: tuple[str, ...] | None
    rows: Sequence[Row]
    rowcount: int


@dataclass(slots=True)
class Fetch:
    """Run a statement that gives rows; answers the rows.

    ``binary`` says that every result type has a well-known binary form on the wire.
    """

    sql: str
    params: Sequence[Any] = ()
    binary: bool = False

    def perform(self, port: Port) -> Any:
        return port.fetch(self.sql, self.params, self.binary)


@dataclass(slots=True)
class Execute:
    """Run a statement that gives no rows; answers how many rows it touched."""

    sql: str
    params: Sequence[Any] = ()

    def perform(self, port: Port) -> Any:
        return port.execute(self.sql, self.params)


@dataclass(slots=True)
class ExecuteMany:
    """Run one statement for each set of parameters; answers how many rows all touched."""

    sql: str
    params: Sequence[Sequence[Any]]

    def perform(self, port: Port) -> Any:
        return port.execute_many(self.sql, self.params)


@dataclass(slots=True)
class Run:
    """Run a statement whose shape is not known before (``text()``); answers an `Answer`."""

    sql: str
    params: Sequence[Any] = ()

    def perform(self, port: Port) -> Any:
        return port.run(self.sql, self.params)


THROWN_AWAY = object()
"""The answer to a clean-up whose connection is gone, and with it what was to be cleaned."""


@dataclass(slots=True)
class Command:
    """Run a statement without parameters or rows: BEGIN, COMMIT, SAVEPOINT, DDL.

    A ``cleanup`` command is finished in spite of cancellation; if it does not end in time, its
    connection is thrown away, which its answer `THROWN_AWAY` says; if it is refused, the whole
    transaction is ended, and its error raised.  A ``finish`` command, COMMIT, is not begun on a
    connection that is known to be gone, and once begun it is waited for in spite of cancellation,
    so that its outcome is known: its answer is sent in first, and the cancellation is delivered
    when the operation has ended.
    """

    sql: str
    cleanup: bool = False
    finish: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether a cancellation waits for its end."""
        return self.cleanup or self.finish

    def perform(self, port: Port) -> Any:
        return port.command(self.sql)


Step = Fetch | Execute | ExecuteMany | Run | Command
Operation = Generator[Step, Any, T]


def fetch(sql: str, params: Sequence[Any] = (), *, binary: bool = False) -> Operation[Sequence[Row]]:
    rows: Sequence[Row] = yield Fetch(sql, params, binary)
    return rows


def execute(sql: str, params: Sequence[Any] = ()) -> Operation[int]:
    count: int = yield Execute(sql, params)
    return count


def execute_many(sql: str, params: Sequence[Sequence[Any]]) -> Operation[int]:
    count: int = yield ExecuteMany(sql, params)
    return count


def execute_each(sql: str, params: Sequence[Sequence[Any]]) -> Operation[int]:
    """As `execute_many`, one round trip for each set: for drivers that do not count the rows of many."""
    count = 0
    for one in params:
        count += yield Execute(sql, one)
    return count


def run(sql: str, params: Sequence[Any] = ()) -> Operation[Answer]:
    answer: Answer = yield Run(sql, params)
    return answer


def command(sql: str, *, cleanup: bool = False, finish: bool = False) -> Operation[Any]:
    return (yield Command(sql, cleanup, finish))
