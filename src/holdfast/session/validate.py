"""Values are checked before they are sent, by column: the field is named, and the server never sees them.

SQLite would store a text in an integer column without a word, and PostgreSQL's messages quote the value and leave
out the column.  A column of a thousand values costs a few microseconds: the types of all values are collected in one
pass in C, and single values are looked at only when something is wrong.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column
from sqlalchemy import types as sqltypes

from holdfast.errors import (
    BadText,
    MissingKey,
    NaiveDatetime,
    NotNullViolation,
    ValueOutOfRange,
    ValueTooLong,
    WrongType,
)
from holdfast.model import AwareDateTime, Mapper, NaiveDateTime
from holdfast.native import kinds, text_facts

Check = Callable[[Sequence[Any]], None]
_NONE = type(None)
_OUR_DECORATORS = (AwareDateTime, NaiveDateTime, sqltypes.Interval)


def column_check(mapper: Mapper, name: str, wide_integers: bool) -> Check:
    """The check of one attribute's values; SQLite's integers are all 64 bits wide."""
    column = mapper.columns[name]
    field = f"{mapper.name}.{name}"
    checks: list[Check] = []
    if isinstance(column.type, sqltypes.TypeDecorator) and not isinstance(column.type, _OUR_DECORATORS):
        return _all(checks)  # its Python side is its author's own business
    allowed = _allowed_types(column)
    if allowed:
        checks.append(_type_check(field, allowed))
    impl = _impl(column)
    if isinstance(impl, sqltypes.String) and not isinstance(impl, sqltypes.Enum):
        checks.append(_text_check(field, impl.length))
    elif isinstance(impl, sqltypes.Integer):
        checks.append(_range_check(field, 64 if wide_integers else _bits(impl)))
    elif isinstance(impl, (sqltypes.Numeric, sqltypes.Float)):
        if isinstance(impl, sqltypes.Numeric) or wide_integers:
            checks.append(_finite_check(field, keeps_nan=not wide_integers))
        if isinstance(impl, sqltypes.Numeric) and impl.precision is not None:
            checks.append(_digits_check(field, impl.precision, impl.scale or 0))
    elif isinstance(impl, sqltypes.DateTime) and impl.timezone:
        checks.append(_aware_check(field))
    elif isinstance(impl, sqltypes.Enum):
        checks.append(_enum_check(field, impl))
    return _all(checks)


def null_check(mapper: Mapper, name: str) -> Check | None:
    """The check that a required attribute has a value; None where it may be empty."""
    column = mapper.columns[name]
    if column.nullable:
        return None
    field = f"{mapper.name}.{name}"

    def check(values: Sequence[Any]) -> None:
        if None in values:
            if column.primary_key:
                raise MissingKey(model=mapper.name, name=name, field=field)
            raise NotNullViolation(
                f"{field} is required and has no value",
                mend="Give it a value, or declare it Mapped[... | None]. Then session.rollback() and try again.",
                field=field,
                table=mapper.table.name,
                column=column.name,
            )

    return check


def _all(checks: list[Check]) -> Check:
    def check(values: Sequence[Any]) -> None:
        for one in checks:
            one(values)

    return check


def _impl(column: Column[Any]) -> Any:
    type_: Any = column.type
    while isinstance(type_, sqltypes.TypeDecorator) and not isinstance(type_, sqltypes.Interval):
        type_ = type_.impl_instance
    return type_


_ALLOWED: list[tuple[type[Any], tuple[type[Any], ...]]] = [
    (sqltypes.Enum, ()),
    (sqltypes.Boolean, (bool,)),
    (sqltypes.Integer, (int,)),
    (sqltypes.Float, (float, int, decimal.Decimal)),
    (sqltypes.Numeric, (decimal.Decimal, int, float)),
    (sqltypes.String, (str,)),
    (sqltypes.DateTime, (dt.datetime,)),
    (sqltypes.Date, (dt.date,)),
    (sqltypes.Time, (dt.time,)),
    (sqltypes.Interval, (dt.timedelta,)),
    (sqltypes.LargeBinary, (bytes, bytearray, memoryview)),
]


def _allowed_types(column: Column[Any]) -> tuple[type[Any], ...]:
    impl = _impl(column)
    if isinstance(impl, sqltypes.Uuid):
        return (uuid.UUID,) if impl.as_uuid else (str,)
    for kind, allowed in _ALLOWED:
        if isinstance(impl, kind):
            return allowed
    return ()


def _type_check(field: str, allowed: tuple[type[Any], ...]) -> Check:
    exact = frozenset((*allowed, _NONE))

    def check(values: Sequence[Any]) -> None:
        for found in kinds(values) - exact:
            if not issubclass(found, allowed) or (found is dt.datetime and dt.datetime not in allowed):
                wanted = " or ".join(t.__name__ for t in allowed)
                raise WrongType(
                    f"{field} takes {wanted}, not {found.__name__}",
                    mend=f"Convert it: {field.rsplit('.', maxsplit=1)[-1]}={allowed[0].__name__}(...). Then session.rollback().",
                    field=field,
                )

    return check


def _text_check(field: str, length: int | None) -> Check:
    def check(values: Sequence[Any]) -> None:
        longest, has_nul, has_surrogate = text_facts(values)
        if has_nul:
            raise BadText(
                f"{field} has a NUL character", mend="Remove it: text.replace('\\0', '').", field=field
            )
        if has_surrogate:
            raise BadText(
                f"{field} has a lone surrogate, which UTF-8 cannot hold",
                mend="Clean it: text.encode('utf-8', 'replace').decode().",
                field=field,
            )
        if length is not None and longest > length:
            raise ValueTooLong(
                f"{field} holds {length} characters and was given {longest}",
                mend=f"Shorten it, or widen the column: mapped_column(String({longest})).",
                field=field,
            )

    return check


def _bits(impl: Any) -> int:
    if isinstance(impl, sqltypes.SmallInteger):
        return 16
    return 64 if isinstance(impl, sqltypes.BigInteger) else 32


def _range_check(field: str, bits: int) -> Check:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def check(values: Sequence[Any]) -> None:
        numbers = [value for value in values if value is not None]
        if numbers and (min(numbers) < low or max(numbers) > high):
            wider = "Integer" if bits == 16 else "BigInteger" if bits == 32 else "Numeric"
            raise ValueOutOfRange(
                f"{field} holds {bits}-bit integers",
                mend=f"Give it a smaller number, or widen the column: mapped_column({wider}).",
                field=field,
            )

    return check


def _finite_check(field: str, keeps_nan: bool) -> Check:
    """SQLite keeps NaN as NULL; a signalling NaN is no value anywhere."""

    def check(values: Sequence[Any]) -> None:
        for value in values:
            if isinstance(value, decimal.Decimal):
                refused = value.is_snan() or (not keeps_nan and not value.is_finite())
            else:
                refused = not keeps_nan and isinstance(value, float) and math.isnan(value)
            if refused:
                raise ValueOutOfRange(
                    f"{field} was given a value that is no number, which this database cannot store",
                    mend="Give it a number, or None.",
                    field=field,
                )

    return check


def _digits_check(field: str, precision: int, scale: int) -> Check:
    limit = decimal.Decimal(10) ** (precision - scale)

    def check(values: Sequence[Any]) -> None:
        for value in values:
            if value is not None and value == value and not -limit < value < limit:  # noqa: PLR0124 - NaN
                raise ValueOutOfRange(
                    f"{field} holds {precision - scale} digits before the point",
                    mend=f"Give it a smaller number, or widen the column: Numeric({precision + 4}, {scale}).",
                    field=field,
                )

    return check


def _aware_check(field: str) -> Check:
    def check(values: Sequence[Any]) -> None:
        for value in values:
            if value is not None and value.tzinfo is None:
                raise NaiveDatetime(
                    f"{field} was given a datetime without a time zone",
                    mend="Write datetime.now(UTC), or value.replace(tzinfo=UTC) if it is in UTC.",
                    field=field,
                )

    return check


def _enum_check(field: str, impl: Any) -> Check:
    known = impl._valid_lookup

    def check(values: Sequence[Any]) -> None:
        for value in values:
            if value is not None and value not in known and value not in impl._object_lookup:
                raise WrongType(
                    f"{field} takes {impl.name or 'one of its enum'} members, not this {type(value).__name__}",
                    mend=f"Give it one of: {', '.join(map(str, impl.enums[:6]))}.",
                    field=field,
                )

    return check
