"""After rows are written: the identity map, and the sides of relations that a written key concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from holdfast.model import BATCH, Direction, Mapper, Relation
from holdfast.model import contains

from .changes import GONE

if TYPE_CHECKING:
    from .core import SessionCore


def settle_inserted(core: SessionCore, mapper: Mapper, instances: list[Any]) -> None:
    """New objects have a row now: they enter the identity map, as siblings."""
    identity = core.identity(mapper)
    batch = core.new_batch(mapper, None)
    keys, mutable = mapper.primary_key, mapper.mutable
    join, single = batch.members.append, keys[0] if len(keys) == 1 else None
    new, inserted = core.new, core.frame.inserted
    owners = owner_relations(mapper)
    for instance in instances:
        values = instance.__dict__
        member = ref(instance)
        join(member)
        values[BATCH] = batch
        key = values[single] if single is not None else tuple([values[k] for k in keys])
        identity[key] = member
        del new[id(instance)]
        inserted[id(instance)] = instance
        for name in mutable:
            if name in values:
                core.note_written(instance, name)
        for relation in owners:
            _join_owner(core, relation, instance)


def owner_relations(mapper: Mapper) -> list[Relation]:
    """To-one relations whose other side is a collection: a new object may belong in a loaded one."""
    found: list[Relation] | None = mapper.memo.get("owners")
    if found is None:
        found = mapper.memo["owners"] = [
            relation
            for relation in mapper.relations.values()
            if relation.direction is Direction.MANY_TO_ONE and relation.back is not None and relation.simple
        ]
    return found


def _join_owner(core: SessionCore, relation: Relation, instance: Any) -> None:
    """A foreign key that was set as a plain value: the parent's loaded collection learns of its new member."""
    if relation.name in instance.__dict__:
        return
    parent = core.peek(instance, relation)
    assert relation.back is not None
    if parent is None:
        return
    held = parent.__dict__.get(relation.back.name)
    if relation.back.uselist and held is not None and not contains(held, instance):
        held.put(instance)


def settle_updated(core: SessionCore, mapper: Mapper, instances: list[Any], names: tuple[str, ...]) -> None:
    """Changed keys are known by their new value; a changed foreign key leads to another object."""
    rekey = any(name in mapper.primary_key for name in names)
    moved = [r for r in mapper.relations.values() if _refers_by(r, names)]
    for instance in instances:
        change = core.dirty.get(id(instance))
        originals = change.originals if change is not None else {}
        if rekey:
            core.rekey(mapper, instance, originals)
        for name in names:
            if name in mapper.mutable:
                core.note_written(instance, name)
        for relation in moved:
            if relation.name not in originals:
                _follow_key(core, relation, instance)


def _refers_by(relation: Relation, names: tuple[str, ...]) -> bool:
    if relation.direction is not Direction.MANY_TO_ONE:
        return False
    return any(relation.parent.attributes[local] in names for local, _ in relation.pairs)


def _follow_key(core: SessionCore, relation: Relation, instance: Any) -> None:
    """The foreign key was set as a plain value: forget the old target, and move between loaded collections."""
    old = instance.__dict__.get(relation.name)
    if old is None:
        instance.__dict__.pop(relation.name, None)
    elif _leads_to(relation, instance, old):
        return
    else:
        del instance.__dict__[relation.name]
        held = old.__dict__.get(relation.back.name) if relation.back is not None else None
        if relation.back is not None and relation.back.uselist and held is not None:
            held.take(instance)
    if relation.back is not None and relation.simple:
        _join_owner(core, relation, instance)


def _leads_to(relation: Relation, instance: Any, target: Any) -> bool:
    return all(
        instance.__dict__.get(relation.parent.attributes[local])
        == target.__dict__.get(relation.target.attributes[remote])
        for local, remote in relation.pairs
    )


def settle_deleted(core: SessionCore, mapper: Mapper, instances: list[Any]) -> None:
    """Deleted objects leave the identity map and the loaded collections they were in."""
    for instance in instances:
        core.frame.save(instance)
        core.drop_identity(mapper, instance)
        core.frame.deleted[id(instance)] = instance
        core.deleted.pop(id(instance), None)
        core.dirty.pop(id(instance), None)
        for relation in mapper.relations.values():
            if relation.back is not None and not relation.viewonly:
                _leave(core, relation, instance)
    for instance in instances:
        instance.__dict__[BATCH] = GONE


def _leave(core: SessionCore, relation: Relation, instance: Any) -> None:
    held = instance.__dict__.get(relation.name)
    if held is None and relation.direction is Direction.MANY_TO_ONE and relation.simple:
        held = core.peek(instance, relation)
    others = [] if held is None else list(held) if relation.uselist else [held]
    assert relation.back is not None
    for other in others:
        values = other.__dict__
        back = values.get(relation.back.name)
        if back is instance:
            core.frame.save(other)
            values[relation.back.name] = None
        elif relation.back.uselist and back is not None and contains(back, instance):
            core.frame.save(other)
            back.take(instance)
