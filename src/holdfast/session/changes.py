"""What changed since the last flush, and what to go back to.

A `Frame` is opened by a transaction or a savepoint.  The first change of an object within it keeps a copy of
the object's values, so that a rollback gives them back without asking the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.model import (
    BATCH,
    CHANGED,
    DETACHED,
    MISSING,
    RAW,
    Batch,
    InstrumentedList,
    InstrumentedSet,
)
from holdfast.native import values_of


@dataclass(frozen=True, slots=True)
class Hook:
    """A function to be run once the transaction has lasted, or else was undone."""

    function: Callable[[], Any]
    after_commit: bool


GONE = Batch(None, None)
"""The batch of objects whose rows were deleted."""


class Change:
    """An object that differs from its row: ``originals`` holds what each changed attribute was."""

    __slots__ = ("instance", "originals")

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.originals: dict[str, Any] = {}

    def take_back(self, names: Sequence[str] | None) -> None:
        """Undo the change of some attributes, or of all; a relation is left to be loaded anew."""
        held = self.instance.__dict__
        for name in [name for name in self.originals if names is None or name in names]:
            original = self.originals.pop(name)
            held.pop(name, None)
            if (
                original is not MISSING
                and name in self.instance.__mapper__.columns
                and RAW + name not in held
            ):
                held[name] = original


class Frame:
    """What a transaction or savepoint did to objects; ``name`` is the savepoint's."""

    __slots__ = (
        "added",
        "deleted",
        "fresh",
        "hooks",
        "inserted",
        "left",
        "loaded",
        "name",
        "named",
        "saved",
        "wrote",
    )

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.saved: dict[int, tuple[Any, dict[str, Any], Sequence[tuple[Any, list[Any]]]]] = {}
        self.fresh: dict[int, Any] = {}  # new objects, of which only the names of their values are kept
        self.named: dict[int, frozenset[str]] = {}
        self.added: dict[int, Any] = {}
        self.inserted: dict[int, Any] = {}
        self.deleted: dict[int, Any] = {}
        self.left: dict[int, tuple[Any, dict[str, Any] | None]] = {}  # versioned ones that left the session
        self.loaded: list[tuple[Any, str]] = []
        self.wrote = False
        self.hooks: list[Hook] = []

    def save(self, instance: Any) -> None:
        """Keep the object's values, unless an earlier change kept them."""
        key = id(instance)
        if key in self.saved:
            return
        before = self.named.get(key) if self.named else None
        held = instance.__dict__
        values = held.copy() if before is None else {name: held[name] for name in before if name in held}
        names = instance.__mapper__.collections
        lists = [(values[n], list(values[n])) for n in names if n in values] if names else ()
        self.saved[key] = (instance, values, lists)

    def save_as(self, instance: Any, originals: dict[str, Any]) -> None:
        """Keep the values an object had before changes that nobody heard of."""
        self.save(instance)
        _, values, lists = self.saved[id(instance)]
        before = [
            (held, originals[held.relation.name]) for held, _ in lists if held.relation.name in originals
        ]
        kept = {id(held) for held, _ in before}
        self.saved[id(instance)] = (instance, values, [*(x for x in lists if id(x[0]) not in kept), *before])
        for name, value in originals.items():
            if isinstance(values.get(name), (InstrumentedList, InstrumentedSet)):
                continue
            if value is MISSING:
                values.pop(name, None)
            else:
                values[name] = value

    def save_all(self, instances: list[Any]) -> None:
        """Keep what new objects of one class were before a flush.

        A flush only adds to a new object: keys, defaults, None for what was not set.  So where all have values for the
        same names, the names are enough; a copy of each would keep the garbage collector busy.
        """
        known = self.saved.keys() | self.named.keys()
        unknown = [one for one in instances if id(one) not in known] if known else instances
        if not unknown or not self._save_names(unknown):
            for instance in unknown:
                self.save(instance)

    def _save_names(self, instances: list[Any]) -> bool:
        mapper, names = instances[0].__mapper__, instances[0].__dict__.keys()
        held = values_of(instances)
        if not names.isdisjoint(mapper.collections) or any(one.keys() != names for one in held):
            return False
        if any(key in names and None in [one[key] for one in held] for key in mapper.primary_key):
            return False  # the flush replaces it
        keys = [id(instance) for instance in instances]
        self.fresh.update(zip(keys, instances, strict=True))
        self.named.update(dict.fromkeys(keys, frozenset(names)))
        return True

    def forget(self, instance: Any) -> None:
        """The object left the session: a rollback is none of its business, unless it has a version."""
        self._note_left(instance)
        for kept in (self.saved, self.fresh, self.named, self.added, self.inserted, self.deleted):
            kept.pop(id(instance), None)

    def forget_all(self) -> None:
        """All objects left the session."""
        for instance in [*(one for one, _, _ in self.saved.values()), *self.fresh.values()]:
            self._note_left(instance)
        for kept in (self.saved, self.fresh, self.named, self.added, self.inserted, self.deleted):
            kept.clear()
        self.loaded.clear()

    def _note_left(self, instance: Any) -> None:
        """A version that a rollback undoes must not stay, or it may match the one of somebody else's change."""
        key = id(instance)
        if instance.__mapper__.version is None or key in self.left:
            return
        if key in self.inserted:
            self.left[key] = (instance, None)
        elif key in self.saved:
            self.left[key] = (instance, self.saved[key][1])

    def restore(self) -> None:
        """Give all objects back the values that were kept."""
        for key, instance in self.fresh.items():
            held, names = instance.__dict__, self.named[key]
            for name in [name for name in held if name not in names]:
                del held[name]
        for instance, values, lists in self.saved.values():
            for collection, items in lists:
                _refill(collection, items)
            held = instance.__dict__
            held.clear()
            held.update(values)
            for name in [n for n in held if n.startswith(RAW)]:
                forget_copy(instance, name[len(RAW) :])
        for instance, name in self.loaded:
            instance.__dict__.pop(name, None)
        for instance, before in self.left.values():
            _take_back(instance, before)

    def merge_into(self, outer: Frame) -> None:
        """A released savepoint: the outer frame now answers for what it did."""
        for key, kept in self.saved.items():
            outer.saved.setdefault(key, kept)
        for key, instance in self.fresh.items():
            if key not in outer.fresh:
                outer.fresh[key], outer.named[key] = instance, self.named[key]
        outer.added.update(self.added)
        outer.inserted.update(self.inserted)
        outer.deleted.update(self.deleted)
        for key, left in self.left.items():
            outer.left.setdefault(key, left)
        outer.loaded += self.loaded
        outer.wrote = outer.wrote or self.wrote
        outer.hooks += self.hooks


def _take_back(instance: Any, before: dict[str, Any] | None) -> None:
    """Give an object that left the values its row has again; what was changed since then stays, and is a change."""
    held, detached = instance.__dict__, instance.__dict__.get(BATCH) is DETACHED
    if before is None:  # its row is gone
        held.pop(BATCH if detached else instance.__mapper__.version.name, None)
        return
    later = held.get(CHANGED, {}) if detached else {}
    for name in instance.__mapper__.columns:
        for key in (name, RAW + name):
            if name in later:
                continue
            if key in before:
                held[key] = before[key]
            else:
                held.pop(key, None)


def _refill(collection: Any, items: list[Any]) -> None:
    if isinstance(collection, list):
        list.__setitem__(collection, slice(None), items)
    else:
        set.clear(collection)
        set.update(collection, items)


def forget_copy(instance: Any, name: str) -> None:
    """A value that was changed in place, maybe: the next read copies it anew from what the row holds."""
    if RAW + name in instance.__dict__:
        instance.__dict__.pop(name, None)


def make_transient(instance: Any) -> None:
    """The object belongs to no session and has no row."""
    instance.__dict__.pop(BATCH, None)
