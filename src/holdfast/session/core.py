"""The session without a server: identity map, changes, and the operations as generators.

A door gives each operation to its runner.  Methods that answer an `Operation` are generators; the others only think.
Built in layers, each in its file: state, membership, transactions, asking, reading; and here the last, merging, which needs
them all.
"""

from __future__ import annotations

from typing import Any

from holdfast.model import (
    BATCH,
    MISSING,
    RAW,
    Relation,
    mapper_of,
)
from holdfast.steps import Operation

from .membership import refuse_abandoned
from .reading import Reading
from .versions import judge_merge


class SessionCore(Reading):
    """One unit of work after another, on one database."""

    __slots__ = ()

    def merge(self, instance: Any, load: bool = True) -> Operation[Any]:
        """Copy an object's state onto the session's object of the same key; answers that object."""
        yield from self._autoflush()
        before, self.autoflush = self.autoflush, False  # objects half copied must not be written
        try:
            return (yield from self._merge(instance, {}))
        finally:
            self.autoflush = before

    def _merge(self, instance: Any, done: dict[Any, Any]) -> Operation[Any]:
        if id(instance) in done:
            return done[id(instance)]
        mapper = mapper_of(instance)
        if self.holds(instance):
            done[id(instance)] = instance
            return instance
        values = instance.__dict__
        refuse_abandoned(mapper, values.get(BATCH))
        key = self._key(mapper, instance)
        complete = key is not None and not (isinstance(key, tuple) and None in key)
        merged = (yield from self.get(mapper.class_, key)) if complete else None
        judge_merge(mapper, values, merged)
        if merged is None:
            merged = object.__new__(mapper.class_)
            self.add(merged)
        done[id(instance)] = merged
        for name in mapper.columns:
            value = values.get(name, values.get(RAW + name, MISSING))
            held = merged.__dict__.get(name, merged.__dict__.get(RAW + name, MISSING))
            if value is not MISSING and (held is MISSING or held != value):
                setattr(merged, name, value)
        for relation in mapper.relations.values():
            arrived_by = (
                id(instance),
                relation.back,
            )  # then this side knows only the one it was reached from
            if "merge" in relation.cascade and relation.name in values and arrived_by not in done:
                yield from self._merge_relation(merged, relation, values[relation.name], done)
        return merged

    def _merge_relation(
        self, merged: Any, relation: Relation, held: Any, done: dict[Any, Any]
    ) -> Operation[None]:
        if relation.viewonly:
            return
        if not merged.__dict__[BATCH].pending and relation.name not in merged.__dict__:
            yield from self.load_relation(relation.parent, [merged], relation)
        targets = []
        for target in held if relation.uselist else [held] if held is not None else ():
            done[id(target), relation] = True
            targets.append((yield from self._merge(target, done)))
        setattr(merged, relation.name, targets if relation.uselist else targets[0] if targets else None)
