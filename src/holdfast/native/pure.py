"""What the compiled loops do, in Python; and what does it where nothing was compiled.

The arrays are PostgreSQL's binary form.
Layout: array_recv in https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/arrayfuncs.c
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from weakref import ref

Held = list[dict[str, Any]]
"""The ``__dict__`` of each object."""


# ---------------------------------------------------------------- rows to objects


def make_objects(  # noqa: PLR0917 - as the compiled one takes them
    cls: type[Any],
    rows: Sequence[Sequence[Any]],
    names: tuple[str, ...],
    processors: tuple[Callable[[Any], Any] | None, ...] | None,
    batch_name: str,
    batch: Any,
    key_place: int,
    members: list[ref[Any]],
    identity: dict[Any, ref[Any]],
) -> list[Any] | None:
    """Make an object of each row, with a weak reference among the members and under its key in an empty identity map.

    The compiled one leaves it to `track` to show the objects to the garbage collector.  Answers None, and has filled
    nothing in, where two rows have the same key.
    """
    objects = []
    try:
        for row in rows:
            made: Any = object.__new__(cls)
            values = row if processors is None else _processed(row, processors)
            for name, value in zip(names, values, strict=False):
                object.__setattr__(made, name, value)
            object.__setattr__(made, batch_name, batch)
            objects.append(made)
            members.append(ref(made))
            identity[values[key_place]] = members[-1]
    except BaseException:
        identity.clear()
        members.clear()
        raise
    if len(identity) == len(objects):
        return objects
    identity.clear()
    members.clear()
    return None


def alive(references: list[ref[Any]], name: str, value: Any) -> list[Any]:
    """Take the objects that are alive and hold this very value under a name."""
    return [one for r in references if (one := r()) is not None and one.__dict__.get(name) is value]


def track(references: list[ref[Any]]) -> None:
    """Show the objects that are alive to the garbage collector, which sees them already when they were made in Python."""


def _processed(row: Sequence[Any], processors: Sequence[Callable[[Any], Any] | None]) -> list[Any]:
    return [v if p is None else p(v) for v, p in zip(row, processors, strict=False)]


def values_at(rows: Sequence[Sequence[Any]], place: int, processor: Callable[[Any], Any] | None) -> list[Any]:
    """Take one value of each row."""
    return [row[place] for row in rows] if processor is None else [processor(row[place]) for row in rows]


def group(keys: list[Any], objects: list[Any], kind: type[list[Any]] = list) -> dict[Any, list[Any]]:
    """Group objects by their keys, in lists of a kind; its own ``append`` is not called."""
    found: dict[Any, list[Any]] = {}
    for key, one in zip(keys, objects, strict=True):
        members = found.get(key)
        if members is None:
            members = found[key] = kind()
        list.append(members, one)
    return found


# ---------------------------------------------------------------- objects to columns


def take(held: Held, name: str) -> list[Any]:
    """Take an attribute's values, None for what was never set."""
    return [values.get(name) for values in held]


def settle(held: Held, name: str) -> list[Any]:
    """Take an attribute's values; what was never set is known to be None from then on."""
    return [values.setdefault(name, None) for values in held]


def values_of(instances: list[Any]) -> Held:
    """Take the ``__dict__`` of each object."""
    return [instance.__dict__ for instance in instances]


def unique(objects: Iterable[Any]) -> list[Any]:
    """Take each object once, by its identity, and leave None out."""
    return list({id(one): one for one in objects if one is not None}.values())


def lacking(instances: Iterable[Any], name: str) -> list[Any]:
    """Take the objects that hold nothing under a name."""
    return [instance for instance in instances if name not in instance.__dict__]


def kinds(values: Sequence[Any]) -> set[type[Any]]:
    """Collect the types of values."""
    return set(map(type, values))


def text_facts(values: Sequence[str | None]) -> tuple[int, bool, bool]:
    """Tell the length of the longest text, whether one holds a NUL, and whether one holds a lone surrogate."""
    texts = [value for value in values if value is not None]
    joined = "".join(texts)
    surrogate = not joined.isascii() and any("\ud800" <= letter <= "\udfff" for letter in joined)
    return max(map(len, texts), default=0), "\0" in joined, surrogate


def changed(
    instances: list[Any],
    dirty: Mapping[int, Any],
    columns: Mapping[str, Any],
    missing: Any,
    expression: type[Any],
) -> dict[tuple[str, ...], list[Any]]:
    """Group objects by which of their columns differ from what they were; an SQL expression always does."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for instance in instances:
        change = dirty.get(id(instance))
        if change is not None:
            values = instance.__dict__
            names = tuple(
                [
                    name
                    for name, before in change.originals.items()
                    if name in columns
                    and (now := values.get(name, missing)) is not before
                    and now is not missing
                    and (before is missing or isinstance(now, expression) or before != now)
                ]
            )
            if names:
                found.setdefault(names, []).append(instance)
    return found


# ---------------------------------------------------------------- arrays for PostgreSQL

_NULL = b"\xff\xff\xff\xff"
_size = struct.Struct(">i").pack
_BOOLS = {True: b"\0\0\0\1\1", False: b"\0\0\0\1\0", None: _NULL}
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def _array(element: int, count: int, body: bytes) -> bytes:
    """One dimension, counted from 1; an empty array has no dimension."""
    if count == 0:
        return struct.pack(">iiI", 0, 0, element)
    return struct.pack(">iiIii", 1, 1, element, count, 1) + body


def array_blobs(values: Sequence[bytes | None], element: int) -> bytes:
    """Build an array of bytes."""
    parts: list[bytes] = []
    for value in values:
        parts += (_NULL,) if value is None else (_size(len(value)), value)
    return _array(element, len(values), b"".join(parts))


def array_texts(values: Sequence[str | None], element: int) -> bytes:
    """Build an array of texts."""
    return array_blobs([None if value is None else value.encode() for value in values], element)


def _fixed(letter: str, width: int) -> Callable[[Sequence[Any], int], bytes]:
    """Values of one width: packed in one call where none is NULL."""
    one = struct.Struct(f">i{letter}").pack

    def build(values: Sequence[Any], element: int) -> bytes:
        count = len(values)
        if None in values:
            return _array(element, count, b"".join([_NULL if v is None else one(width, v) for v in values]))
        flat: list[Any] = [width] * (2 * count)
        flat[1::2] = values
        return _array(element, count, struct.pack(">" + f"i{letter}" * count, *flat))

    return build


array_ints = _fixed("i", 4)
array_longs = _fixed("q", 8)
array_floats = _fixed("d", 8)


def array_bools(values: Sequence[bool | None], element: int) -> bytes:
    """Build an array of booleans."""
    return _array(element, len(values), b"".join([_BOOLS[value] for value in values]))


def array_moments(values: Sequence[datetime | None], element: int) -> bytes:
    """Build an array of aware datetimes, as microseconds since 2000."""
    passed = [None if value is None else value - _EPOCH for value in values]
    return array_longs(
        [None if d is None else (d.days * 86400 + d.seconds) * 1_000_000 + d.microseconds for d in passed],
        element,
    )


# ---------------------------------------------------------------- values


def in_utc(value: datetime | None) -> datetime | None:
    """Answer a naive datetime that is meant in UTC as an aware one; None stays."""
    return None if value is None else value.replace(tzinfo=UTC)


def write_literals(pieces: Sequence[str], values: Sequence[Any], other: Callable[[Any], str]) -> bytes:
    """Join the pieces of a statement with its values between them, as MariaDB and MySQL read them.

    ``other`` writes what is none of the plain types, or beyond what they can hold.
    """
    words: list[str] = [""] * (2 * len(values) + 1)
    words[0::2] = pieces
    words[1::2] = [_WRITE.get(type(value), other)(value) or other(value) for value in values]
    return "".join(words).encode()


def _write_text(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if "'" in value:
        value = value.replace("'", "''")
    return f"'{value}'"


def _write_integer(value: int) -> str | None:
    return int.__repr__(value) if -(2**63) <= value < 2**63 else None


def _write_float(value: float) -> str | None:
    if not math.isfinite(value):
        return None
    written = float.__repr__(value)
    return written if "e" in written else written + "e0"  # without an exponent it would be a DECIMAL


def _write_moment(value: datetime) -> str | None:
    if value.tzinfo is not None and value.tzinfo is not UTC:
        return None
    return f"'{value.replace(tzinfo=None).isoformat(' ')}'"


_WRITE: dict[type[Any], Callable[[Any], str | None]] = {
    type(None): lambda value: "NULL",
    bool: lambda value: "1" if value else "0",
    int: _write_integer,
    str: _write_text,
    float: _write_float,
    datetime: _write_moment,
}


# ---------------------------------------------------------------- methods of mapped classes


def Initializer(names: Mapping[str, Any], slow: Callable[..., None]) -> Callable[..., None]:  # noqa: N802
    """Make an ``__init__`` that puts columns in place, and leaves the rest to ``slow``."""

    def initialize(self: Any, **values: Any) -> None:
        if values.keys() <= names.keys():  # nobody to tell, nothing to keep in step
            self.__dict__.update(values)
        else:
            slow(self, **values)

    return initialize


def AttributeSetter(  # noqa: N802
    plain: frozenset[str],
    slow: Callable[[Any, str, Any], None],
    batch_name: str,
    missing: Any,
    collections: tuple[str, ...] = (),
) -> Callable[[Any, str, Any], None]:
    """Make a ``__setattr__`` that remembers what a plain column was, and leaves the rest to ``slow``.

    The compiled one does what the session's ``note_change`` does of an object without any of the ``collections``.
    """
    del collections

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name not in plain:
            return slow(self, name, value)
        values = self.__dict__
        batch = values.get(batch_name)
        if batch is not None:
            session = batch.session
            if session is None or session.flushing:
                return slow(self, name, value)
            change = session.dirty.get(id(self))
            if change is None:
                session.note_change(self, name)
            elif name not in change.originals:
                change.originals[name] = values.get(name, missing)
        values[name] = value
        return None

    return set_attribute
