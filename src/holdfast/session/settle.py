"""After rows are written: the identity map, and the sides of relations that a written key concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from holdfast.model import BATCH, Direction, Mapper, Relation, contains
from holdfast.native import take, values_of

from .changes import GONE

if TYPE_CHECKING:
    from .state import SessionState


def settle_inserted(core: SessionState, mapper: Mapper, instances: list[Any]) -> None:
    """New objects have a row now: they enter the identity map, as siblings."""
    batch = core.new_batch(mapper, None)
    batch.members = members = list(map(ref, instances))
    held = values_of(instances)
    for values in held:
        values[BATCH] = batch
    core.identity(mapper).update(zip(_keys(mapper, held), members, strict=True))
    core.frame.inserted.update(zip(map(id, instances), instances, strict=True))
    if len(core.new) == len(instances):
        core.new.clear()
    for instance in instances if core.new else ():
        del core.new[id(instance)]
    if mapper.mutable:
        for instance in instances:
            for name in mapper.mutable.intersection(instance.__dict__):
                core.note_written(instance, name)
    for relation in owner_relations(mapper):
        for instance in instances:
            _join_owner(core, relation, instance)


def _keys(mapper: Mapper, held: list[dict[str, Any]]) -> list[Any]:
    names = mapper.primary_key
    if len(names) == 1:
        return take(held, names[0])
    return [tuple([values[name] for name in names]) for values in held]


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


def _join_owner(core: SessionState, relation: Relation, instance: Any) -> None:
    """A foreign key that was set as a plain value: the parent's loaded collection learns of its new member."""
    if relation.name in instance.__dict__:
        return
    parent = core.peek(instance, relation)
    assert relation.back is not None
    if parent is None:
        return
    held = parent.__dict__.get(relation.back.name)
    if relation.back.uselist and held is not None and not contains(held, instance):
        core.frame.save(parent)
        held.put(instance)
    elif not relation.back.uselist and held is not instance and relation.back.name in parent.__dict__:
        core.frame.save(parent)
        parent.__dict__[relation.back.name] = instance


def settle_updated(core: SessionState, mapper: Mapper, instances: list[Any], names: tuple[str, ...]) -> None:
    """Changed keys are known by their new value; a changed foreign key leads to another object."""
    if any(name in mapper.primary_key for name in names):
        _rekey(core, mapper, instances)
    moved = [r for r in mapper.relations.values() if _refers_by(r, names)]
    if not moved and mapper.mutable.isdisjoint(names):
        _forget_originals(core, instances, names)
        return
    for instance in instances:
        change = core.dirty.get(id(instance))
        originals = change.originals if change is not None else {}
        former = [(r, _former_target(core, r, instance)) for r in moved if r.name not in originals]
        for name in names:
            originals.pop(name, None)
            if name in mapper.mutable:
                core.note_written(instance, name)
        for relation, old in former:
            _follow_key(core, relation, instance, old)


def _forget_originals(core: SessionState, instances: list[Any], names: tuple[str, ...]) -> None:
    """What was written is no change any more."""
    if len(core.dirty) == len(instances):  # nothing else has changed
        core.dirty.clear()
        return
    for change in map(core.dirty.get, map(id, instances)):
        originals = change.originals if change is not None else {}
        if len(originals) == len(names):
            originals.clear()
        else:
            for name in names:
                originals.pop(name, None)


def _rekey(core: SessionState, mapper: Mapper, instances: list[Any]) -> None:
    """All leave under their old keys before any enters under its new one: keys may have been passed on."""
    old_keys = [core.row_key(mapper, instance) for instance in instances]
    for instance in instances:
        core.drop_identity(mapper, instance)
    for instance, old_key in zip(instances, old_keys, strict=True):
        core.enter_identity(mapper, instance)
        _rename_references(core, mapper, instance, dict(zip(mapper.primary_key, old_key, strict=True)))


def _rename_references(core: SessionState, mapper: Mapper, instance: Any, old_key: dict[str, Any]) -> None:
    """The server has changed the rows that refer to a changed key (ON UPDATE CASCADE); so do their objects."""
    for other in list(core.identities):
        for key in other.table.foreign_key_constraints:
            if key.referred_table is mapper.table and (key.onupdate or "").upper() == "CASCADE":
                pairs = [(other.attributes[e.parent], mapper.attributes[e.column]) for e in key.elements]
                old = tuple(old_key.get(far, instance.__dict__.get(far)) for _, far in pairs)
                new = tuple(instance.__dict__.get(far) for _, far in pairs)
                _rename_where(core, other, [near for near, _ in pairs], old, new)


def _rename_where(
    core: SessionState, mapper: Mapper, names: list[str], old: tuple[Any, ...], new: tuple[Any, ...]
) -> None:
    for instance in [member() for member in core.identity(mapper).values()]:
        if instance is None or core.row_values(instance, names) != old:
            continue
        old_key = dict(zip(mapper.primary_key, core.row_key(mapper, instance), strict=True))
        core.drop_identity(mapper, instance)
        core.frame.save(instance)
        change = core.dirty.get(id(instance))
        for name, value in zip(names, new, strict=True):
            held = change.originals if change is not None and name in change.originals else instance.__dict__
            held[name] = value
        core.enter_identity(mapper, instance)
        if any(name in mapper.primary_key for name in names):
            _rename_references(core, mapper, instance, old_key)


def _refers_by(relation: Relation, names: tuple[str, ...]) -> bool:
    if relation.direction is not Direction.MANY_TO_ONE:
        return False
    return any(relation.parent.attributes[local] in names for local, _ in relation.pairs)


def _former_target(core: SessionState, relation: Relation, instance: Any) -> Any:
    """Where the row's foreign key led before it was written."""
    held = instance.__dict__.get(relation.name)
    if held is not None:
        return held
    names = [relation.parent.attributes[local] for local, _ in relation.pairs]
    return core.find_target(relation, core.row_values(instance, names))


def _follow_key(core: SessionState, relation: Relation, instance: Any, old: Any) -> None:
    """The foreign key was set as a plain value: forget the old target, and move between loaded collections."""
    if old is not None and _leads_to(relation, instance, old):
        return
    instance.__dict__.pop(relation.name, None)
    if relation.back is None or not relation.simple:
        return
    if old is not None:
        _leave_owner(core, relation.back, old, instance)
    _join_owner(core, relation, instance)


def _leave_owner(core: SessionState, back: Relation, owner: Any, instance: Any) -> None:
    held = owner.__dict__.get(back.name)
    if held is instance:
        core.frame.save(owner)
        owner.__dict__[back.name] = None
    elif back.uselist and held is not None and contains(held, instance):
        core.frame.save(owner)
        held.take(instance)


def settle_moved(core: SessionState, moved: list[tuple[Relation, Any, Any]]) -> None:
    """Who holds a target that belongs to another now lets it go."""
    for relation, owner, target in moved:
        if not _has(relation, owner, target):
            _leave_owner(core, relation, owner, target)


def _has(relation: Relation, owner: Any, target: Any) -> bool:
    return all(
        owner.__dict__.get(relation.parent.attributes[local])
        == target.__dict__.get(relation.target.attributes[remote])
        for local, remote in relation.pairs
    )


def _leads_to(relation: Relation, instance: Any, target: Any) -> bool:
    return all(
        instance.__dict__.get(relation.parent.attributes[local])
        == target.__dict__.get(relation.target.attributes[remote])
        for local, remote in relation.pairs
    )


def settle_deleted(core: SessionState, mapper: Mapper, instances: list[Any]) -> None:
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
    _leave_unnamed(core, mapper, instances)
    for instance in instances:
        instance.__dict__[BATCH] = GONE


def _leave_unnamed(core: SessionState, mapper: Mapper, instances: list[Any]) -> None:
    """Deleted objects leave the loaded collections that they do not know of themselves."""
    gone = set(map(id, instances))
    for owner_mapper, identity in core.identities.items():
        for relation in owner_mapper.relations.values():
            many = relation.direction is Direction.MANY_TO_MANY
            if relation.target is mapper and relation.uselist and (many or relation.back is None):
                for owner in [member() for member in identity.values()]:
                    _drop_gone(core, owner, relation.name, gone)


def _drop_gone(core: SessionState, owner: Any, name: str, gone: set[int]) -> None:
    held = None if owner is None else owner.__dict__.get(name)
    if held is None:
        return
    for instance in [one for one in held if id(one) in gone]:
        core.frame.save(owner)
        held.take(instance)


def _leave(core: SessionState, relation: Relation, instance: Any) -> None:
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
