"""A relation that is loaded while changes of its other side are not flushed yet.

The rows do not know of a child that was given a parent a moment ago, nor that another one has left.  Normally a
load flushes first; within a flush, or under ``no_autoflush``, what was loaded learns it from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.model import MISSING, Relation, contains

if TYPE_CHECKING:
    from .state import SessionState


def catch_up(core: SessionState, relation: Relation, owners: list[Any]) -> None:
    """Give just loaded relations of ``owners`` what the objects at the other end say."""
    back = relation.back
    if back is None or relation.viewonly:
        return
    by_id = {id(owner): owner for owner in owners}
    for instance in [*core.new.values(), *(change.instance for change in core.dirty.values())]:
        if instance.__mapper__ is relation.target and back.name in instance.__dict__:
            change = core.dirty.get(id(instance))
            if id(instance) in core.new or (change is not None and back.name in change.originals):
                _meet(core, relation, back, by_id, instance)


def _meet(
    core: SessionState, relation: Relation, back: Relation, owners: dict[int, Any], instance: Any
) -> None:
    held = instance.__dict__[back.name]
    now = {id(one) for one in (held if back.uselist else [held])}
    before = _before(core, back, instance)
    for place, owner in owners.items():
        if place in now and place not in before:
            _put(core, relation, owner, instance)
        elif place not in now and (place in before or not back.uselist):
            _take(core, relation, owner, instance)


def _before(core: SessionState, back: Relation, instance: Any) -> set[int]:
    change = core.dirty.get(id(instance))
    original = change.originals.get(back.name, MISSING) if change is not None else MISSING
    if original is MISSING:
        return set()
    return {id(one) for one in (original if back.uselist else [original])}


def _put(core: SessionState, relation: Relation, owner: Any, instance: Any) -> None:
    held = owner.__dict__[relation.name]
    if not relation.uselist:
        core.note_change(owner, relation.name)
        owner.__dict__[relation.name] = instance
    elif not contains(held, instance):
        core.note_change(owner, relation.name)
        held.put(instance)


def _take(core: SessionState, relation: Relation, owner: Any, instance: Any) -> None:
    held = owner.__dict__[relation.name]
    if not relation.uselist:
        if held is instance:
            core.note_change(owner, relation.name)
            owner.__dict__[relation.name] = None
    elif contains(held, instance):
        core.note_change(owner, relation.name)
        held.take(instance)
