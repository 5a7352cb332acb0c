"""How a transaction is said to each server.

A session that only reads opens none.  Where one is opened to write, SQLite is told so at once
(``BEGIN IMMEDIATE``): a reader that becomes a writer later can only fail, however long it waits.

What a level means there: SQLite has one writer at a time, and every transaction sees one snapshot.  So each of
SQLAlchemy's levels is answered by SERIALIZABLE, which is what it promises, or more.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.capabilities import Capabilities
from holdfast.errors import InvalidRequestError

LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
"""SQLAlchemy's names of the isolation levels."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a transaction was asked to be; ``None`` leaves the server's default.

    As in SQLAlchemy, a level may be written in small letters and with underscores.  ``resolve`` asks for the
    transaction's number before it commits, so that the outcome of a commit that was cut off can be found out.
    """

    isolation: str | None = None
    read_only: bool = False
    deferrable: bool = False
    resolve: bool = False

    def __post_init__(self) -> None:
        if self.isolation is not None:
            object.__setattr__(self, "isolation", level_of(self.isolation))
        if self.deferrable and not (self.read_only and self.isolation == "SERIALIZABLE"):
            raise InvalidRequestError(
                "deferrable=True means something only for a serializable transaction that reads",
                mend="Write db.begin(isolation='SERIALIZABLE', read_only=True, deferrable=True).",
            )


def level_of(given: str) -> str:
    """The isolation level by its plain name."""
    level = str(given).replace("_", " ").upper()
    if level == "AUTOCOMMIT":
        raise InvalidRequestError(
            "AUTOCOMMIT is the lack of a transaction, so none can be begun with it",
            mend="Write db.session(): what only reads opens no transaction there.",
        )
    if level not in LEVELS:
        raise InvalidRequestError(
            f"{given!r} is no isolation level.", mend=f"Write one of {', '.join(LEVELS)}."
        )
    return level


def begin_sql(capabilities: Capabilities, scope: Scope) -> tuple[str, ...]:
    """The statements that open the transaction."""
    return _BEGIN.get(capabilities.server, _begin_plain)(capabilities, scope)


def describe_scope(capabilities: Capabilities, scope: Scope) -> str:
    """Say what is sent, and what the server makes of it."""
    sent = "; ".join(begin_sql(capabilities, scope))
    if capabilities.server == "sqlite":
        return f"{sent}: SERIALIZABLE{'' if scope.read_only else ', one writer at a time'}"
    return sent if scope.isolation else f"{sent}: the server's default isolation level"


def _begin_sqlite(capabilities: Capabilities, scope: Scope) -> tuple[str, ...]:
    if not scope.read_only:
        return ("BEGIN IMMEDIATE",)
    # The pragma comes second: if BEGIN failed after it, the connection would stay as it says.
    return ("BEGIN", capabilities.keep_from_writing) if capabilities.keep_from_writing else ("BEGIN",)


def _begin_postgresql(capabilities: Capabilities, scope: Scope) -> tuple[str, ...]:
    words = ["BEGIN"]
    if scope.isolation is not None:
        words.append(f"ISOLATION LEVEL {scope.isolation}")
    if scope.read_only:
        words.append("READ ONLY")
    if scope.deferrable:
        words.append("DEFERRABLE")
    return (" ".join(words),)


def _begin_mysql(capabilities: Capabilities, scope: Scope) -> tuple[str, ...]:
    """Only the next transaction gets the level; BEGIN itself takes none."""
    begin = "START TRANSACTION READ ONLY" if scope.read_only else "BEGIN"
    return (
        (begin,) if scope.isolation is None else (f"SET TRANSACTION ISOLATION LEVEL {scope.isolation}", begin)
    )


def _begin_plain(capabilities: Capabilities, scope: Scope) -> tuple[str, ...]:
    return ("BEGIN",)


_BEGIN = {
    "sqlite": _begin_sqlite,
    "postgresql": _begin_postgresql,
    "mariadb": _begin_mysql,
    "mysql": _begin_mysql,
}
