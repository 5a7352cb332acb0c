"""Rows in as many statements as the server needs.

A server limits the values of a statement, or, where values travel in its text, the statement's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from holdfast.capabilities import Capabilities

CHUNK = 1000
"""Rows per statement where a server has no array parameters."""
LITERAL_BYTES = 32
"""How long a number or a moment is as a literal, at most, and the comma."""

Rows = list[Sequence[Any]]


def chunks(rows: Rows, width: int, known: Capabilities) -> Iterable[Rows]:
    """Part rows of so many values, in order."""
    size = max(1, min(CHUNK, known.max_bound_values // max(1, width)))
    most = known.max_statement_bytes
    if len(rows) == 1 or (most is None and len(rows) <= size):
        return (rows,)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return parts if most is None else [one for part in parts for one in _by_length(part, most // 2)]


def _by_length(rows: Rows, most: int) -> Iterator[Rows]:
    """Part rows by how long they are at most; half of the limit is left to names and to what this does not see."""
    if (
        _length([value for row in rows for value in row]) <= most
    ):  # mostly; asking row by row costs three times as much
        yield rows
        return
    lengths = [_length(row) for row in rows]
    begin, total = 0, 0
    for place, length in enumerate(lengths):
        if total + length > most and place > begin:
            yield rows[begin:place]
            begin, total = place, 0
        total += length
    yield rows[begin:]


def _length(values: Sequence[Any]) -> int:
    """At most: a character has up to four bytes, or two when it is escaped; a byte is two digits."""
    texts = [len(value) for value in values if isinstance(value, (str, bytes, bytearray))]
    return 4 * sum(texts) + LITERAL_BYTES * len(values)
