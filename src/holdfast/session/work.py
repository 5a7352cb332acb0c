"""What a flush has to do, found without a server: links between objects, rows of secondary tables, orphans.

Direction of time: a `Link` says "the second takes these columns from the first", and so the first is written before
the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column

from holdfast.model import Direction, Relation

from .order import Read


@dataclass(slots=True, eq=False)
class Link:
    """``child`` takes the values of ``parent``: (parent attribute, child attribute) pairs; no parent clears them."""

    parent: Any
    child: Any
    pairs: tuple[tuple[str, str], ...]
    relation: Relation


class Associations:
    """Rows of secondary tables to insert and delete; each pair of objects once, whichever side said it."""

    def __init__(self) -> None:
        self.added: dict[tuple[Any, ...], tuple[Relation, Any, Any]] = {}
        self.removed: dict[tuple[Any, ...], tuple[Relation, Any, Any]] = {}

    def add(self, relation: Relation, parent: Any, target: Any) -> None:
        self.added.setdefault(_pair_key(relation, parent, target), (relation, parent, target))

    def remove(self, relation: Relation, parent: Any, target: Any) -> None:
        self.removed.setdefault(_pair_key(relation, parent, target), (relation, parent, target))


def _pair_key(relation: Relation, parent: Any, target: Any) -> tuple[Any, ...]:
    """The same for both sides of a many-to-many: which columns of the secondary get which object's values."""
    ends = [(relation.parent_pairs[0][1].key, id(parent)), (relation.target_pairs[0][1].key, id(target))]
    return (relation.secondary, *sorted(ends))


def association_row(relation: Relation, parent: Any, target: Any, read: Read) -> dict[Column[Any], Any]:
    """The values of a secondary row, by column; ``read`` gives an object's values of some attributes."""
    near = [relation.parent.attributes[column] for column, _ in relation.parent_pairs]
    far = [relation.target.attributes[column] for column, _ in relation.target_pairs]
    columns = [secondary for _, secondary in (*relation.parent_pairs, *relation.target_pairs)]
    return dict(zip(columns, (*read(parent, near), *read(target, far)), strict=True))


def pairs_of(relation: Relation) -> tuple[tuple[str, str], ...]:
    """(attribute of the one that has the key, attribute of the one that refers to it)."""
    pairs: tuple[tuple[str, str], ...] | None = relation.parent.memo.get(("pairs", relation))
    if pairs is None:
        if relation.direction is Direction.MANY_TO_ONE:
            pairs = tuple(
                (relation.target.attributes[remote], relation.parent.attributes[local])
                for local, remote in relation.pairs
            )
        else:
            pairs = tuple(
                (relation.parent.attributes[local], relation.target.attributes[remote])
                for local, remote in relation.pairs
            )
        relation.parent.memo[("pairs", relation)] = pairs
    return pairs
