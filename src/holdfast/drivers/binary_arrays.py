"""Arrays in PostgreSQL's binary form, for the types that fill most tables.

psycopg's own dumper of lists is pure Python and asks each element for its type.  Here a builder is chosen by the
column's type, once; `native` has the loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, ClassVar

from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeEngine

from holdfast.native import (
    array_blobs,
    array_bools,
    array_floats,
    array_ints,
    array_longs,
    array_moments,
    array_texts,
)

_FIRST_DAY = date(2000, 1, 1).toordinal()


class BinaryArray(bytes):
    """An array parameter in binary form; ``oid`` is the array type's."""

    oid: ClassVar[int]
    element: ClassVar[int]


class Texts(BinaryArray):
    oid, element = 1009, 25


class Blobs(BinaryArray):
    oid, element = 1001, 17


class Ints(BinaryArray):
    oid, element = 1007, 23


class Longs(BinaryArray):
    oid, element = 1016, 20


class Floats(BinaryArray):
    oid, element = 1022, 701


class Bools(BinaryArray):
    oid, element = 1000, 16


class Moments(BinaryArray):
    oid, element = 1185, 1184


class Days(BinaryArray):
    oid, element = 1182, 1082


class Uuids(BinaryArray):
    oid, element = 2951, 2950


Builder = Callable[[Sequence[Any]], BinaryArray]
KINDS = (Texts, Blobs, Ints, Longs, Floats, Bools, Moments, Days, Uuids)


def _of(kind: type[BinaryArray], build: Callable[[Sequence[Any], int], bytes]) -> Builder:
    return lambda values: kind(build(values, kind.element))


texts = _of(Texts, array_texts)
ints = _of(Ints, array_ints)
longs = _of(Longs, array_longs)
floats = _of(Floats, array_floats)
bools = _of(Bools, array_bools)
moments = _of(Moments, array_moments)
_days = _of(Days, array_ints)
_blobs = _of(Blobs, array_blobs)
_uuids = _of(Uuids, array_blobs)


def days(values: Sequence[date | None]) -> BinaryArray:
    return _days([None if v is None else v.toordinal() - _FIRST_DAY for v in values])


def blobs(values: Sequence[Any]) -> BinaryArray:
    # SQLAlchemy's processor wraps bytes in psycopg's Binary
    return _blobs([None if value is None else bytes(getattr(value, "obj", value)) for value in values])


def uuids(values: Sequence[Any]) -> BinaryArray:
    return _uuids([None if value is None else value.bytes for value in values])


def builder(type_: TypeEngine[Any]) -> Builder | None:
    """What builds arrays of a column type; None where lists must do.  ``type_`` is the dialect's own."""
    if isinstance(type_, sqltypes.Enum):
        return None if type_.native_enum else texts
    if isinstance(type_, sqltypes.DateTime):
        return moments if type_.timezone else None
    if isinstance(type_, sqltypes.Uuid):
        return uuids if type_.as_uuid else None
    return next((build for kind, build in _BUILDERS if isinstance(type_, kind)), None)


_BUILDERS: tuple[tuple[type[Any], Builder], ...] = (
    (sqltypes.LargeBinary, blobs),
    (sqltypes.String, texts),
    (sqltypes.Boolean, bools),
    (sqltypes.BigInteger, longs),
    (sqltypes.Integer, ints),
    (sqltypes.Float, floats),
    (sqltypes.Date, days),
)
