"""MariaDB's and MySQL's error numbers → our kinds, for every driver.

Rule: decide by the number, never by text.  Texts are read only for the names of tables, columns and constraints,
which the server gives nowhere else and always in quotes of its own; they may hold values besides, so none is
repeated.  https://mariadb.com/kb/en/mariadb-error-code-reference/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from holdfast import errors
from holdfast.drivers.sqlstate import outcome_of
from holdfast.drivers.values import blame
from holdfast.errors import HoldfastError

LOCK_WAIT_TIMEOUT = 1205
KINDS: dict[int, type[HoldfastError]] = {
    # a rule of the table
    1022: errors.UniqueViolation,
    1062: errors.UniqueViolation,
    1169: errors.UniqueViolation,
    1586: errors.UniqueViolation,
    1216: errors.ForeignKeyViolation,
    1217: errors.ForeignKeyViolation,
    1451: errors.ForeignKeyViolation,
    1452: errors.ForeignKeyViolation,
    1048: errors.NotNullViolation,
    1364: errors.NotNullViolation,
    3819: errors.CheckViolation,  # MySQL
    4025: errors.CheckViolation,  # MariaDB
    # a value
    1406: errors.ValueTooLong,
    1118: errors.ValueTooLong,
    1153: errors.ValueTooLong,  # max_allowed_packet
    1162: errors.ValueTooLong,
    1264: errors.ValueOutOfRange,
    1690: errors.ValueOutOfRange,
    1441: errors.ValueOutOfRange,
    1916: errors.ValueOutOfRange,
    1265: errors.WrongType,
    1292: errors.WrongType,
    1366: errors.WrongType,
    1411: errors.WrongType,
    1300: errors.BadText,
    1365: errors.DataError,  # division by zero
    3140: errors.DataError,  # JSON that is none
    4038: errors.DataError,
    # other transactions
    1213: errors.DeadlockDetected,
    1614: errors.DeadlockDetected,
    3058: errors.DeadlockDetected,  # of GET_LOCK in MySQL
    1020: errors.SerializationFailure,  # the row changed since the snapshot: innodb_snapshot_isolation
    LOCK_WAIT_TIMEOUT: errors.LockTimeout,  # in MariaDB NOWAIT, too
    1206: errors.LockTimeout,
    3572: errors.LockTimeout,  # NOWAIT in MySQL
    # time, rights, state
    1317: errors.StatementTimeout,
    1969: errors.StatementTimeout,  # max_statement_time
    3024: errors.StatementTimeout,  # max_execution_time in MySQL
    1290: errors.ReadOnly,
    1792: errors.ReadOnly,
    1836: errors.ReadOnly,
    1044: errors.PermissionDenied,
    1142: errors.PermissionDenied,
    1143: errors.PermissionDenied,
    1227: errors.PermissionDenied,
    1370: errors.PermissionDenied,
    1045: errors.ConnectionFailed,
    1049: errors.ConnectionFailed,
    1040: errors.ConnectionFailed,
    1129: errors.ConnectionFailed,
    1130: errors.ConnectionFailed,
    1203: errors.ConnectionFailed,
    1226: errors.ConnectionFailed,
    2002: errors.ConnectionFailed,
    2003: errors.ConnectionFailed,
    2005: errors.ConnectionFailed,
    # the wire; 2000 and above are said by the client
    1053: errors.ConnectionLost,
    1077: errors.ConnectionLost,
    1079: errors.ConnectionLost,
    1080: errors.ConnectionLost,
    1152: errors.ConnectionLost,
    1158: errors.ConnectionLost,
    1159: errors.ConnectionLost,
    1160: errors.ConnectionLost,
    1161: errors.ConnectionLost,
    1927: errors.ConnectionLost,  # KILL
    2006: errors.ConnectionLost,
    2013: errors.ConnectionLost,
    2014: errors.ConnectionLost,
    2055: errors.ConnectionLost,
    4031: errors.ConnectionLost,
    # the statement
    1051: errors.UnknownTable,
    1109: errors.UnknownTable,
    1146: errors.UnknownTable,
    1054: errors.UnknownColumn,
    1064: errors.SqlSyntaxError,
    1149: errors.SqlSyntaxError,
    1305: errors.ProgrammingError,
}
CLASSES: dict[str, type[HoldfastError]] = {
    "08": errors.ConnectionLost,
    "22": errors.DataError,
    "23": errors.IntegrityError,
    "25": errors.OperationalError,
    "40": errors.OperationalError,
    "42": errors.ProgrammingError,
    "70": errors.OperationalError,
}
"""By the SQLSTATE's class, for the numbers above are not all there are."""

_SAYS_HOW_LONG = re.compile(r"\b(?:NOWAIT|WAIT\s+\d+)\b", re.IGNORECASE)
_KEY = re.compile(r"for key '([^']*)'$")
_COLUMN = re.compile(
    r"(?:[Cc]olumn|Field) (?:`[^`]*`\.`[^`]*`\.`([^`]*)`|'([^']*)') ?(?:at row \d+|cannot be|doesn't)"
)
_FOREIGN = re.compile(r"\(`[^`]*`\.`([^`]*)`, CONSTRAINT `([^`]*)` FOREIGN KEY \(([^)]*)\)")
_CHECK = re.compile(r"^(?:CONSTRAINT `([^`]*)` failed for `[^`]*`\.`([^`]*)`|Check constraint '([^']*)')")
_TABLE = re.compile(r"^(?:Table|Unknown table) '(?:[^'.]*\.)?([^']*)'")
_UNKNOWN = re.compile(r"^Unknown column '([^']*)'")


def kind_of(number: int, sqlstate: str | None) -> type[HoldfastError]:
    """Give the class of error for a number, or for the SQLSTATE's class."""
    return KINDS.get(number) or CLASSES.get((sqlstate or "")[:2], errors.DatabaseError)


def build(
    error: BaseException,
    number: int,
    sqlstate: str | None,
    text: str,
    *,
    sql: str,
    params: Sequence[Any] = (),
) -> HoldfastError:
    """Make our error of a number, and of the names in the server's text."""
    kind = kind_of(number, sqlstate)
    if kind is errors.WrongType and params:
        blamed, position = blame(params)
        kind = blamed if position is not None else kind
    facts: dict[str, Any] = _read_names(kind, text)
    if issubclass(kind, errors.ConnectionFailed):
        facts |= {"server": "the server", "reason": describe(number, sqlstate)}
    if number == LOCK_WAIT_TIMEOUT:
        # It undoes the statement only, so whoever does the work again must roll back all of it.
        facts["may_pass"] = _SAYS_HOW_LONG.search(sql) is None
    return kind(
        None if number in KINDS else f"{kind.happened} ({describe(number, sqlstate)})",
        statement=sql,
        orig=error,
        outcome=outcome_of(kind, sql),
        sqlstate=sqlstate,
        errno=number,
        **facts,
    )


def describe(number: int, sqlstate: str | None) -> str:
    """Say the server's reason by its numbers, which hold no values."""
    return f"error {number}" + (f", SQLSTATE {sqlstate}" if sqlstate else "")


def _read_names(kind: type[HoldfastError], text: str) -> dict[str, Any]:
    if kind is errors.UniqueViolation:
        found = _KEY.search(text)
        return _of_key(found[1]) if found else {}
    if kind is errors.ForeignKeyViolation:
        found = _FOREIGN.search(text)
        return {} if found is None else {"table": found[1], "constraint": found[2], **_columns(found[3])}
    if kind is errors.CheckViolation:
        found = _CHECK.search(text)
        return {} if found is None else _known(constraint=found[1] or found[3], table=found[2])
    if kind is errors.UnknownTable:
        found = _TABLE.search(text)
        return {} if found is None else {"table": found[1]}
    if kind is errors.UnknownColumn:
        found = _UNKNOWN.search(text)
        return {} if found is None else {"column": found[1]}
    found = _COLUMN.search(text)
    return {} if found is None else {"column": found[1] or found[2]}


def _of_key(name: str) -> dict[str, Any]:
    """Read a key's name: MySQL 8 says ``table.key``, MariaDB ``key``."""
    table, dot, key = name.rpartition(".")
    return {"table": table, "constraint": key} if dot else {"constraint": name}


def _columns(listed: str) -> dict[str, Any]:
    names = tuple(re.findall(r"`([^`]*)`", listed))
    return {"columns": names, "column": names[0] if len(names) == 1 else None}


def _known(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}
