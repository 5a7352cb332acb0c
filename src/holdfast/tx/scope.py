"""How a transaction is said to each server.

A session that only reads opens none.  Where one is opened to write, SQLite is told so at once
(``BEGIN IMMEDIATE``): a reader that becomes a writer later can only fail, however long it waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.capabilities import Capabilities
from holdfast.errors import InvalidRequestError

LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
"""SQLAlchemy's names of the isolation levels."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a transaction was asked to be; ``None`` leaves the server's default."""

    isolation: str | None = None
    read_only: bool = False
    deferrable: bool = False

    def __post_init__(self) -> None:
        if self.isolation is not None and self.isolation not in LEVELS:
            raise InvalidRequestError(
                f"{self.isolation!r} is no isolation level.", mend=f"Write one of {', '.join(LEVELS)}."
            )


def begin_sql(capabilities: Capabilities, scope: Scope) -> str:
    """The statement that opens the transaction."""
    return _BEGIN.get(capabilities.server, _begin_plain)(scope)


def _begin_sqlite(scope: Scope) -> str:
    return "BEGIN" if scope.read_only else "BEGIN IMMEDIATE"


def _begin_postgresql(scope: Scope) -> str:
    words = ["BEGIN"]
    if scope.isolation is not None:
        words.append(f"ISOLATION LEVEL {scope.isolation}")
    if scope.read_only:
        words.append("READ ONLY")
    if scope.deferrable:
        words.append("DEFERRABLE")
    return " ".join(words)


def _begin_plain(scope: Scope) -> str:
    return "BEGIN"


_BEGIN = {"sqlite": _begin_sqlite, "postgresql": _begin_postgresql}
