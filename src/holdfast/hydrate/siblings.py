"""Loaded objects and the garbage collector.

Theory: the collector looks through every young object again and again for rings that nothing else frees, and those it
meets three times it keeps among the old, until there are enough for a look through the whole process.  Objects of a
result hold plain values, are in no ring when they are made, and mostly die before the request ends: for a thousand rows
the looking costs half as much as making them, and every hundred results a pause of some ten milliseconds.

So they begin unseen by the collector, as a tuple of plain values does in CPython.  What lives through a whole turn of
the middle generation is shown to it, and everything is before a full collection: a ring is found later, never missed.
Only the compiled loops make objects that are unseen; see `native.make_objects`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any
from weakref import ref

from holdfast.native import COMPILED, track

MANY = 1000
"""Results beyond which those whose objects are gone are forgotten, if the collector has not come by."""


class Siblings(list[ref[Any]]):
    """Weak references to the objects of one result, some of which the collector does not see yet."""

    __slots__ = ("__weakref__",)

    def __del__(self, show: Callable[[list[ref[Any]]], None] = track) -> None:
        show(self)  # an object may have gone to another batch


class Nursery:
    """The results whose objects are unseen: those since the last turn of the middle generation, and those before."""

    __slots__ = ("_limit", "_older", "_young")

    def __init__(self) -> None:
        self._young: list[ref[Siblings]] = []
        self._older: list[ref[Siblings]] = []
        self._limit = MANY

    def __repr__(self) -> str:
        return f"<Nursery of {len(self._young)} and {len(self._older)} results>"

    def new_siblings(self) -> Siblings:
        """The members of a new batch, known here."""
        made = Siblings()
        self._young.append(ref(made))
        if len(self._young) > self._limit:
            self._forget_dead()
        return made

    def _forget_dead(self) -> None:
        self._young = [one for one in self._young if one() is not None]
        self._limit = max(MANY, 2 * len(self._young))

    def collecting(self, phase: str, info: dict[str, int]) -> None:
        """Hear of a collection (``gc.callbacks``); whatever begins here must not begin another."""
        generation = info["generation"]
        if phase != "start" or generation == 0:
            return
        shown, self._older, self._young = self._older, self._young, []
        if generation == 2:
            shown, self._older = shown + self._older, []
        for one in shown:
            members = one()
            if members is not None:
                track(members)


nursery = Nursery()
if COMPILED:
    gc.callbacks.append(nursery.collecting)
new_siblings = nursery.new_siblings
