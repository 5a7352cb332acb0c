"""What a mapped class is, once declared and configured: columns by attribute, relations by name.

Everything above this room reads a `Mapper` and never the class body.  A mapper is complete after
`Registry.configure`; its mappings are not changed afterwards.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy.sql.selectable import FromClause

ENTITY = "holdfast_entity"
"""The annotation that marks a selectable as standing for a mapped class; its value is the mapper."""


class Direction(enum.Enum):
    ONE_TO_MANY = "one-to-many"  # the foreign key is on the target
    MANY_TO_ONE = "many-to-one"  # the foreign key is on the parent
    MANY_TO_MANY = "many-to-many"  # both foreign keys are in the secondary table


@dataclass(slots=True, eq=False)
class Relation:
    """A relationship as configured: who, how joined, what follows whom.

    ``pairs`` are (parent column, target column) for the two direct directions.
    For many-to-many, ``parent_pairs`` are (parent column, secondary column) and ``target_pairs``
    (target column, secondary column), and ``pairs`` is empty.
    ``simple`` says that ``primaryjoin`` is nothing but the equality of the pairs, so that keys
    alone decide who belongs to whom.  In ``primaryjoin`` and ``secondaryjoin`` the columns of the
    target (and of the secondary) carry the annotation ``remote``, so that a self-referential join can
    be adapted to aliases.
    """

    name: str
    parent: Mapper
    target: Mapper
    direction: Direction
    uselist: bool
    primaryjoin: ColumnElement[bool]
    secondaryjoin: ColumnElement[bool] | None = None
    secondary: FromClause | None = None
    pairs: tuple[tuple[Column[Any], Column[Any]], ...] = ()
    parent_pairs: tuple[tuple[Column[Any], Column[Any]], ...] = ()
    target_pairs: tuple[tuple[Column[Any], Column[Any]], ...] = ()
    simple: bool = True
    order_by: tuple[ColumnElement[Any], ...] = ()
    cascade: frozenset[str] = frozenset({"save-update", "merge"})
    passive_deletes: bool | str = False
    viewonly: bool = False
    post_update: bool = False
    lazy: str = "batch"
    single_parent: bool = False
    back: Relation | None = None
    collection: type[Any] = list

    def __repr__(self) -> str:
        return f"<Relation {self.parent.name}.{self.name} -> {self.target.name} {self.direction.value}>"


@dataclass(frozen=True, slots=True)
class Version:
    """The attribute that every change raises; ``generate`` makes the next from the last, None: the server does."""

    name: str
    generate: Callable[[Any], Any] | None


@dataclass(slots=True, eq=False)
class Mapper:
    """A mapped class and its table.

    ``columns`` maps attribute name to column, in table order; ``attributes`` is its inverse.
    ``entity`` is the table carrying the `ENTITY` annotation: what ``select(User)`` holds.
    ``mutable`` names the attributes whose values can change in place (JSON, ARRAY, PickleType).
    """

    class_: type[Any]
    table: Table
    columns: dict[str, Column[Any]]
    primary_key: tuple[str, ...]
    entity: FromClause
    attributes: dict[Column[Any], str]
    deferred: frozenset[str] = frozenset()
    mutable: frozenset[str] = frozenset()
    relations: dict[str, Relation] = field(default_factory=dict)
    setters: dict[str, Callable[[Any, Any], None]] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)
    """Ready-made things that rooms above keep per mapper (key extractors, factories)."""

    collections: tuple[str, ...] = ()
    """The names of its to-many relations."""

    version: Version | None = None
    """What a flush compares, if the class has a version."""

    @property
    def name(self) -> str:
        return self.class_.__name__

    def reaches(self, cascade: str) -> tuple[Relation, ...]:
        """The relations that a cascade follows."""
        found: tuple[Relation, ...] | None = self.memo.get(cascade)
        if found is None:
            found = self.memo[cascade] = tuple(
                r for r in self.relations.values() if cascade in r.cascade and not r.viewonly
            )
        return found

    def reaches_nothing(self, values: dict[str, Any]) -> bool:
        """Whether an object of these values leads to no other."""
        return self.relations.keys().isdisjoint(values)

    def __repr__(self) -> str:
        return f"<Mapper {self.name} on {self.table.name}>"
