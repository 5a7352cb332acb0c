"""A statement and its values as the text that MariaDB and MySQL are sent.

Theory: their text protocol has no parameters, so a client writes each value as a literal.  The statement is cut
at its placeholders once, with an eye for quotes and comments, and the literals are put between the pieces.  A
literal is safe because the connection's charset is utf8mb4, where no byte of a longer character is a quote or a
backslash, and because its ``sql_mode`` is ours: backslashes escape, double quotes are text.
https://mariadb.com/kb/en/string-literals/

Rule: a type is written here or refused; nothing is guessed from ``str(value)``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from holdfast.native import write_literals

MOST_UNSIGNED = 2**64 - 1
KEPT_LENGTH = 20_000
"""Longer statements, those of many rows, are cut anew each time: they would fill the cache."""

_PIECES = re.compile(
    r"""'(?:[^'\\]+|\\.|'')*'     # text
      | "(?:[^"\\]+|\\.|"")*"     # text, too
      | `[^`]*`                   # a name
      | --(?=\s|$)[^\n]* | \#[^\n]* | /\*.*?\*/
      | (\?)""",
    re.VERBOSE | re.DOTALL,
)
_SPECIAL = ("'", '"', "`", "--", "#", "/*")


def render(sql: str, params: Sequence[Any]) -> bytes:
    """Write the values into the statement.

    Raises:
        TypeError: for a value of a type that has no literal, or another number of values than placeholders.
        ValueError: for a number or text that the server cannot hold.
    """
    if not params:
        return sql.encode()
    pieces = cut(sql) if len(sql) <= KEPT_LENGTH else _cut(sql)
    if len(pieces) != len(params) + 1:
        raise TypeError(f"the statement has {len(pieces) - 1} placeholders and {len(params)} values came")
    return write_literals(pieces, params, literal)


def _cut(sql: str) -> Sequence[str]:
    """Cut a statement at its placeholders; those in texts, names and comments are none."""
    if not any(mark in sql for mark in _SPECIAL):
        return sql.split("?")
    pieces, begin = [], 0
    for found in _PIECES.finditer(sql):
        if found[1]:
            pieces.append(sql[begin : found.start()])
            begin = found.end()
    return [*pieces, sql[begin:]]


cut = lru_cache(1024)(_cut)


def literal(value: Any) -> str:
    """Write one value that the fast way does not know; a subclass is written as the type it comes from."""
    for kind in type(value).__mro__:
        write = _LITERALS.get(kind)
        if write is not None:
            return write(value)
    raise TypeError(f"a value of type {type(value).__name__} has no literal")


def _bytes(value: Any) -> str:
    return f"x'{value.hex()}'"


def _integer(value: int) -> str:
    if not -(2**63) <= value <= MOST_UNSIGNED:
        raise OverflowError("beyond 64 bits")
    return int.__repr__(value)


def _text(value: str) -> str:
    return _plain(str.__str__(value))  # of a subclass too, an enumeration's for one, the text it is


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise OverflowError("not a finite number")
    return _plain(float.__pos__(value))


def _plain(value: Any) -> str:
    """Write a value of a plain type, which the fast way knows."""
    return write_literals(("", ""), (value,), literal).decode()


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise OverflowError("not a finite number")
    return format(value, "f")  # with an exponent it would be a DOUBLE


def _datetime(value: datetime) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)  # the connection's time zone
    return f"'{value.isoformat(' ')}'"


def _date(value: date) -> str:
    return f"'{value.isoformat()}'"


def _time(value: time) -> str:
    return f"'{value.replace(tzinfo=None).isoformat()}'"


def _timedelta(value: timedelta) -> str:
    sign = "-" if value < timedelta(0) else ""
    value = abs(value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"'{sign}{value.days * 24 + hours:02}:{minutes:02}:{seconds:02}.{value.microseconds:06}'"


_LITERALS: dict[type[Any], Callable[[Any], str]] = {
    int: _integer,
    str: _text,
    float: _float,
    Decimal: _decimal,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
    UUID: lambda value: f"'{value}'",
}
