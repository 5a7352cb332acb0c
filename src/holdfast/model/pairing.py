"""Which relation is the other side of which: ``back_populates`` checked and joined."""

from __future__ import annotations

from collections.abc import Mapping

from . import blame
from .mapper import Direction, Mapper, Relation

Made = Mapping[Mapper, Mapping[str, Relation]]


def pair_relations(made: Made, written: Mapping[Relation, str | None]) -> None:
    """Set ``back`` on every relation; ``written`` is its ``back_populates``.  Raises `ModelError`."""
    for relations in made.values():
        for relation in relations.values():
            name = written[relation]
            if name is not None:
                relation.back = _other_side(made, written, relation, name)


def _other_side(
    made: Made, written: Mapping[Relation, str | None], relation: Relation, name: str
) -> Relation:
    others = made.get(relation.target, relation.target.relations)
    other = others.get(name)
    if other is None:
        raise blame.no_other_side(relation, name, others)
    if other.target is not relation.parent:
        raise blame.other_target(relation, other)
    _check_name(made, written, relation, other)
    _check_directions(relation, other)
    return other


def _check_name(
    made: Made, written: Mapping[Relation, str | None], relation: Relation, other: Relation
) -> None:
    name = written.get(other, relation.name)
    if name == relation.name:
        return
    siblings = made.get(relation.parent, relation.parent.relations)
    if name is not None and name not in siblings:
        raise blame.no_other_side(other, name, siblings)
    raise blame.other_name(relation, other, name)


def _check_directions(relation: Relation, other: Relation) -> None:
    if relation.direction is Direction.MANY_TO_MANY and other.direction is Direction.MANY_TO_MANY:
        if relation.secondary is not other.secondary:
            raise blame.other_secondary(relation, other)
    elif relation.direction is other.direction:
        raise blame.same_direction(relation, other)
    elif Direction.MANY_TO_MANY in (relation.direction, other.direction):
        raise blame.other_secondary(*sorted((relation, other), key=lambda r: r.secondary is None))
