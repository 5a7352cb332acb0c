"""Which bound value is at fault.

Rule: only positions and type names leave this file, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, time
from typing import Any

from holdfast.errors import (
    BadText,
    DataError,
    NaiveDatetime,
    ValueOutOfRange,
    WrongType,
)


def is_bad_text(value: object, *, nul_is_bad: bool = True) -> bool:
    """Tell whether a text has a NUL (where that is bad) or does not encode to UTF-8."""
    if not isinstance(value, str):
        return False
    if nul_is_bad and "\0" in value:
        return True
    return any("\ud800" <= letter <= "\udfff" for letter in value)


def is_beyond_64_bits(value: object) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def is_naive(value: object) -> bool:
    return isinstance(value, datetime | time) and value.tzinfo is None


Check = Callable[[object], bool]
_CHECKS: tuple[tuple[Check, type[DataError]], ...] = (
    (is_bad_text, BadText),
    (is_beyond_64_bits, ValueOutOfRange),
)


def find_position(params: Sequence[Any], check: Check) -> int | None:
    """Find the first bound value, or array with an element, that fails; counted from 0."""
    for position, value in enumerate(params):
        values = value if isinstance(value, list | tuple) else (value,)
        if any(check(one) for one in values):
            return position
    return None


def blame(
    params: Sequence[Any], checks: Sequence[tuple[Check, type[DataError]]] = _CHECKS
) -> tuple[type[DataError], int | None]:
    """Name the kind of error and the position of the value that no database would take."""
    for check, kind in checks:
        position = find_position(params, check)
        if position is not None:
            return kind, position
    return WrongType, None


def blame_naive(params: Sequence[Any], position: int | None) -> bool:
    """Tell whether the value at fault is a datetime without a time zone."""
    if position is None or position >= len(params):
        return False
    value = params[position]
    return any(is_naive(one) for one in (value if isinstance(value, list | tuple) else (value,)))


__all__ = ["NaiveDatetime", "blame", "blame_naive", "find_position", "is_bad_text", "is_beyond_64_bits"]
