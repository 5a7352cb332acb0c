"""What happens off the fast road: a row for an object that the session already holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

from holdfast.model import BATCH, RAW, Batch, Direction, Mapper, Relation, make_collection


def meet(
    instance: Any, member: ref[Any], batch: Batch, names: Sequence[str], values: Sequence[Any], refresh: bool
) -> None:
    """Give an object what a new row brings.

    What was not loaded is filled in.  Loaded values stay, unless the row is fresher than they are: it was read for
    an update, or in a later transaction; then relations are forgotten, to be loaded anew at the next touch.  What the
    user changed always stays.  An object reached by a relation stays among the siblings it has.
    """
    held = instance.__dict__
    old = held.get(BATCH)
    if old is batch:
        return
    mapper = batch.mapper
    assert mapper is not None
    stale = refresh or old is None or old.epoch != batch.epoch
    changed = batch.session.changed_names(instance)
    if stale and mapper.version is not None:
        changed = _keep_version(held, mapper, names, values, changed)
    if stale:
        batch.session.keep_before_renewal(instance)
        _forget_relations(held, mapper, changed)
    for name, value in zip(names, values, strict=True):
        key = RAW + name if name in mapper.mutable else name
        if key not in held and name not in held:
            held[key] = value
        elif stale and name not in changed and name not in mapper.primary_key:
            renew(held, mapper, name, key, value, changed)
    if stale or not batch.session.follows:
        held[BATCH] = batch
        batch.members.append(member)


def _keep_version(
    held: dict[str, Any], mapper: Mapper, names: Sequence[str], values: Sequence[Any], changed: Any
) -> Any:
    """A version must not be newer than any value beside it, or a lost update would go unnoticed.

    So it stays, with what the user changed, where something changed or the row lacks columns that are loaded; deferred
    ones are forgotten instead.  Answers what is not to be renewed.
    """
    assert mapper.version is not None
    version = mapper.version.name
    if version not in names or held.get(version) == values[names.index(version)]:
        return changed
    older = [n for n in mapper.columns if n not in names and (n in held or RAW + n in held)]
    if changed or any(name not in mapper.deferred for name in older):
        return {*changed, version}
    for name in older:
        held.pop(name, None)
        held.pop(RAW + name, None)
    return changed


def _forget_relations(held: dict[str, Any], mapper: Mapper, changed: Any) -> None:
    for name in mapper.relations:
        if name in held and name not in changed:
            del held[name]


def renew(held: dict[str, Any], mapper: Mapper, name: str, key: str, value: Any, changed: Any) -> None:
    """Replace a loaded value; ``key`` is where it is kept: raw, where it can change in place."""
    if key != name:
        if held.get(key) != value:
            held.pop(name, None)
        held[key] = value
        return
    if held.get(name) != value:
        _forget_targets(held, mapper, name, changed)
    held[name] = value


def _forget_targets(held: dict[str, Any], mapper: Mapper, name: str, changed: Any) -> None:
    """A foreign key has another value: the object it led to is not the one it leads to."""
    column = mapper.columns[name]
    for relation in mapper.relations.values():
        to_one = relation.direction is Direction.MANY_TO_ONE and relation.name not in changed
        if to_one and any(local is column for local, _ in relation.pairs):
            held.pop(relation.name, None)


def start_collection(instance: Any, relation: Relation) -> Any:
    """The collection a joined row fills; a throw-away list where the object's own is already loaded."""
    held = instance.__dict__
    if relation.name in held:
        return make_collection(instance, relation)
    collection = held[relation.name] = make_collection(instance, relation)
    return collection
