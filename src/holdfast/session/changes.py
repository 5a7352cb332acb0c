"""What changed since the last flush, and what to go back to.

A `Frame` is opened by a transaction or a savepoint.  The first change of an object within it keeps a copy of
the object's values, so that a rollback gives them back without asking the server.
"""

from __future__ import annotations

from typing import Any

from holdfast.model import BATCH, RAW, Batch
from holdfast.model import InstrumentedList, InstrumentedSet

GONE = Batch(None, None)
"""The batch of objects whose rows were deleted."""


class Change:
    """An object that differs from its row: ``originals`` holds what each changed attribute was."""

    __slots__ = ("instance", "originals")

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.originals: dict[str, Any] = {}


class Frame:
    """What a transaction or savepoint did to objects."""

    __slots__ = ("added", "deleted", "inserted", "saved", "wrote")

    def __init__(self) -> None:
        self.saved: dict[int, tuple[Any, dict[str, Any], list[tuple[Any, list[Any]]]]] = {}
        self.added: dict[int, Any] = {}
        self.inserted: dict[int, Any] = {}
        self.deleted: dict[int, Any] = {}
        self.wrote = False

    def save(self, instance: Any) -> None:
        """Keep the object's values, unless an earlier change kept them."""
        if id(instance) in self.saved:
            return
        values = dict(instance.__dict__)
        lists = [(v, list(v)) for v in values.values() if type(v) in (InstrumentedList, InstrumentedSet)]
        self.saved[id(instance)] = (instance, values, lists)

    def restore(self) -> None:
        """Give all objects back the values that were kept."""
        for instance, values, lists in self.saved.values():
            for collection, items in lists:
                _refill(collection, items)
            held = instance.__dict__
            held.clear()
            held.update(values)
            for name in [n for n in held if n.startswith(RAW)]:
                held.pop(name[len(RAW) :], None)  # changed in place, maybe: the next read copies it anew

    def merge_into(self, outer: Frame) -> None:
        """A released savepoint: the outer frame now answers for what it did."""
        for key, kept in self.saved.items():
            outer.saved.setdefault(key, kept)
        outer.added.update(self.added)
        outer.inserted.update(self.inserted)
        outer.deleted.update(self.deleted)
        outer.wrote = outer.wrote or self.wrote


def _refill(collection: Any, items: list[Any]) -> None:
    if isinstance(collection, list):
        list.__setitem__(collection, slice(None), items)
    else:
        set.clear(collection)
        set.update(collection, items)


def make_transient(instance: Any) -> None:
    """The object belongs to no session and has no row."""
    instance.__dict__.pop(BATCH, None)
