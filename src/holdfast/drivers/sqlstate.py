"""SQLSTATE → our kinds, for every driver of PostgreSQL.

Rule: decide by the five letters, never by text.  The server's words are not repeated, since
DETAIL and many messages quote the user's values; its code and the name of its class are.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from holdfast import errors
from holdfast.drivers.values import blame_naive
from holdfast.errors import HoldfastError, Outcome

EXACT: dict[str, type[HoldfastError]] = {
    "23505": errors.UniqueViolation,
    "23503": errors.ForeignKeyViolation,
    "23001": errors.ForeignKeyViolation,
    "23502": errors.NotNullViolation,
    "23514": errors.CheckViolation,
    "23P01": errors.ExclusionViolation,
    "22001": errors.ValueTooLong,
    "22003": errors.ValueOutOfRange,
    "22008": errors.ValueOutOfRange,
    "22015": errors.ValueOutOfRange,
    "22007": errors.WrongType,
    "22P02": errors.WrongType,
    "22P03": errors.WrongType,
    "22030": errors.DataError,
    "22021": errors.BadText,
    "22P05": errors.BadText,
    "42804": errors.WrongType,
    "42846": errors.WrongType,
    "42883": errors.WrongType,
    "40001": errors.SerializationFailure,
    "40P01": errors.DeadlockDetected,
    "55P03": errors.LockTimeout,
    "57014": errors.StatementTimeout,
    "25006": errors.ReadOnly,
    "26000": errors.PreparedStatementLost,
    "42P05": errors.PreparedStatementLost,
    "25P02": errors.TransactionFailed,
    "25P03": errors.ConnectionLost,
    "25P04": errors.ConnectionLost,
    "57P01": errors.ConnectionLost,
    "57P02": errors.ConnectionLost,
    "57P03": errors.ConnectionFailed,
    "57P05": errors.ConnectionLost,
    "53300": errors.ConnectionFailed,
    "3D000": errors.ConnectionFailed,
    "28000": errors.ConnectionFailed,
    "28P01": errors.ConnectionFailed,
    "42P01": errors.UnknownTable,
    "42703": errors.UnknownColumn,
    "42601": errors.SqlSyntaxError,
    "42501": errors.PermissionDenied,
}
CLASSES: dict[str, type[HoldfastError]] = {
    "08": errors.ConnectionLost,
    "22": errors.DataError,
    "23": errors.IntegrityError,
    "25": errors.OperationalError,
    "40": errors.OperationalError,
    "42": errors.ProgrammingError,
    "53": errors.OperationalError,
    "54": errors.OperationalError,
    "55": errors.OperationalError,
    "57": errors.OperationalError,
    "58": errors.OperationalError,
}
_POSITION = re.compile(r"\$(\d+)")


def kind_of(sqlstate: str) -> type[HoldfastError]:
    """Give the class of error for a SQLSTATE."""
    return EXACT.get(sqlstate) or CLASSES.get(sqlstate[:2], errors.DatabaseError)


def read_position(text: str | None) -> int | None:
    """Read the number of the parameter, which both PostgreSQL and asyncpg give only in text.

    It is the first ``$n``, written before any value.
    """
    found = _POSITION.search(text or "")
    return int(found.group(1)) - 1 if found else None


def outcome_of(kind: type[HoldfastError], sql: str) -> Outcome:
    """Tell what became of the work: a COMMIT whose connection broke may have lasted."""
    if issubclass(kind, errors.ConnectionLost) and sql.lstrip()[:6].upper() in ("COMMIT", "END"):
        return Outcome.UNKNOWN
    return Outcome.NOT_DONE


def build(
    error: BaseException,
    sqlstate: str,
    *,
    sql: str,
    params: Sequence[Any],
    position: int | None,
    facts: dict[str, Any],
) -> HoldfastError:
    """Make our error from a SQLSTATE and the names the server gave with it."""
    kind = kind_of(sqlstate)
    if issubclass(kind, errors.DataError) and blame_naive(params, position):
        kind = errors.NaiveDatetime
    known = {name: value for name, value in facts.items() if value}
    if issubclass(kind, errors.ConnectionFailed):
        known |= {"server": "PostgreSQL", "reason": describe(error, sqlstate)}
    return kind(
        None if sqlstate in EXACT else f"{kind.happened} ({describe(error, sqlstate)})",
        statement=sql,
        orig=error,
        outcome=outcome_of(kind, sql),
        sqlstate=sqlstate,
        position=position,
        **known,
    )


def describe(error: BaseException, sqlstate: str) -> str:
    """Say the server's reason by its code and standard name, which hold no values."""
    return f"SQLSTATE {sqlstate}, {type(error).__name__}"
