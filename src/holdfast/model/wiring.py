"""From the declaration of a relation to the `Relation`: target, tables, conditions, direction.

Where the foreign keys say everything, conditions are made from them.  Where a condition is given, its
columns are marked: ``foreign`` from the marks in it, else ``foreign_keys``, else the foreign keys of the
tables; ``remote`` from the marks, else ``remote_side``, else: everything of the target, and in a
self-referential condition the foreign side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ColumnElement, ForeignKeyConstraint, Table, and_
from sqlalchemy.exc import InvalidRequestError as SqlalchemyError
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.sql import operators

from . import blame
from .joins import annotate, annotate_equalities, carries, clause, is_marked, is_only, pairs_in, plain
from .mapper import Direction, Mapper, Relation
from .relationships import Relationship, as_list, cascade_of, lazy_of

if TYPE_CHECKING:
    from .registry import Declared

ColumnSet = frozenset[Column[Any]]


class Wiring:
    """The making of one relation."""

    def __init__(self, owner: Declared, name: str, declared: Relationship[Any]) -> None:
        self.owner = owner
        self.name = name
        self.declared = declared
        self.parent: Mapper = owner.mapper
        self.where = f"{owner.mapper.name}.{name}"
        self.target, self.uselist, self.collection = owner.registry.target_of(owner, name, declared)
        self.secondary = self._secondary()
        self.foreign_keys = self._columns("foreign_keys")
        self.remote_side = self._columns("remote_side")

    @property
    def is_selfreferential(self) -> bool:
        """Whether both ends are the same table."""
        return self.parent.table is self.target.table

    def relation(self) -> Relation:
        """Answer the relation."""
        made = self._through_secondary() if self.secondary is not None else self._direct()
        made.uselist = made.direction is not Direction.MANY_TO_ONE if self.uselist is None else self.uselist
        made.order_by = tuple(clause(part) for part in self._parts("order_by"))
        blame.check_shape(self, made)
        return made

    def _make(self, direction: Direction, primaryjoin: ColumnElement[bool], **facts: Any) -> Relation:
        get = self.declared.get
        return Relation(
            name=self.name,
            parent=self.parent,
            target=self.target,
            direction=direction,
            uselist=True,
            primaryjoin=primaryjoin,
            cascade=cascade_of(self.where, self.declared),
            passive_deletes=get("passive_deletes", False),
            viewonly=bool(get("viewonly")),
            post_update=bool(get("post_update")),
            lazy=lazy_of(self.where, self.declared),
            single_parent=bool(get("single_parent")),
            collection=self.collection or list,
            **facts,
        )

    # ------------------------------------------------------------ what the options say

    def _value(self, written: Any) -> Any:
        return self.owner.registry.value_of(self.owner, self.name, written)

    def _parts(self, option: str) -> list[Any]:
        written = self.declared.get(option)
        if written is None or written is False:
            return []
        return [self._value(part) for part in as_list(self._value(written))]

    def _columns(self, option: str) -> ColumnSet:
        found = [clause(part) for part in self._parts(option)]
        blame.check_columns(self, option, found)
        return frozenset(plain(column) for column in found)

    def _condition(self, option: str) -> Any:
        written = self.declared.get(option)
        return None if written is None else clause(self._value(written))

    def _secondary(self) -> Any:
        written = self.declared.secondary
        if written is None:
            return None
        return self.owner.registry.table_of(self.owner, self.name, written)

    # ------------------------------------------------------------ the two direct directions

    def _direct(self) -> Relation:
        condition = self._condition("primaryjoin")
        if condition is None:
            condition = self._from_foreign_keys()
        else:
            condition = self._mark_remote(self._mark_foreign(condition))
        return self._from_marks(condition)

    def _from_foreign_keys(self) -> ColumnElement[bool]:
        constraints = self._constraints_between(self.parent.table, self.target.table)
        if not constraints:
            raise blame.no_foreign_key(self)
        if len(constraints) > 1:
            raise blame.ambiguous(self, constraints)
        constraint = constraints[0]
        far_holds_key = self._far_holds_key(constraint)
        return and_(*(_key_equality(element, far_holds_key) for element in constraint.elements))

    def _far_holds_key(self, constraint: ForeignKeyConstraint) -> bool:
        """Say on which side the foreign key is; between a table and itself ``remote_side`` says it."""
        referred = {element.column for element in constraint.elements}
        keys = set(constraint.columns)
        if self.is_selfreferential:
            far_holds_key = not self.remote_side or not self.remote_side <= referred
        else:
            far_holds_key = constraint.parent is self.target.table
        if self.remote_side and not self.remote_side <= (keys if far_holds_key else referred):
            raise blame.remote_elsewhere(
                self, referred if self.is_selfreferential or not far_holds_key else keys
            )
        return far_holds_key

    def _constraints_between(self, one: Table, other: Table) -> list[ForeignKeyConstraint]:
        found = foreign_keys_to(one, other, self)
        if one is not other:
            found += foreign_keys_to(other, one, self)
        return distinct(self._chosen(found))

    def _chosen(self, constraints: list[ForeignKeyConstraint]) -> list[ForeignKeyConstraint]:
        """Keep the constraints that ``foreign_keys`` means: exactly its columns, else among them."""
        if not self.foreign_keys:
            return constraints
        exact = [c for c in constraints if frozenset(c.columns) == self.foreign_keys]
        return exact or [c for c in constraints if frozenset(c.columns) <= self.foreign_keys]

    def _mark_foreign(self, condition: Any) -> Any:
        if carries(condition, "foreign"):
            return condition
        if self.foreign_keys:
            return annotate(
                condition, lambda column: {"foreign": True} if plain(column) in self.foreign_keys else {}
            )

        def mark(left: Any, right: Any) -> tuple[dict[str, bool], dict[str, bool]]:
            one, other = plain(left), plain(right)
            if refers(one, other) and not refers(other, one):
                return {"foreign": True}, {}
            return ({}, {"foreign": True}) if refers(other, one) else ({}, {})

        return annotate_equalities(condition, mark)

    def _mark_remote(self, condition: Any) -> Any:
        if carries(condition, "remote"):
            return condition
        if self.remote_side:
            return annotate(
                condition, lambda column: {"remote": True} if plain(column) in self.remote_side else {}
            )
        if self.is_selfreferential:
            return annotate_equalities(condition, _remote_where_foreign)
        far = self.target.table.c
        return annotate(
            condition, lambda column: {"remote": True} if far.contains_column(plain(column)) else {}
        )

    def _from_marks(self, condition: Any) -> Relation:
        pairs = pairs_in(condition)
        outward = [pair for pair in pairs if is_marked(pair[1], "foreign")]
        inward = [pair for pair in pairs if is_marked(pair[0], "foreign")]
        leads_out, leads_in = (any(plain(a) is not plain(b) for a, b in found) for found in (outward, inward))
        if leads_out is leads_in:
            raise blame.no_direction(self, condition, both=leads_out)
        direction = Direction.ONE_TO_MANY if leads_out else Direction.MANY_TO_ONE
        found = plain_pairs(outward if leads_out else inward)
        return self._make(direction, condition, pairs=found, simple=is_only(condition, found))

    # ------------------------------------------------------------ through a table of its own

    def _through_secondary(self) -> Relation:
        to_parent = self._secondary_condition("primaryjoin", self.parent)
        to_target = self._secondary_condition("secondaryjoin", self.target)
        parent_pairs = self._secondary_pairs(to_parent, self.parent)
        target_pairs = self._secondary_pairs(to_target, self.target)
        if not parent_pairs or not target_pairs:
            raise blame.no_secondary_key(self, self.target if parent_pairs else self.parent)
        simple = is_only(to_parent, parent_pairs) and is_only(to_target, target_pairs)
        return self._make(
            Direction.MANY_TO_MANY,
            self._mark_secondary(to_parent),
            secondaryjoin=self._mark_secondary(to_target, self.target.table),
            secondary=self.secondary,
            parent_pairs=parent_pairs,
            target_pairs=target_pairs,
            simple=simple,
        )

    def _secondary_condition(self, option: str, mapper: Mapper) -> Any:
        condition = self._condition(option)
        if condition is not None:
            return self._mark_foreign(condition)
        constraints = (
            foreign_keys_to(self.secondary, mapper.table, self) if isinstance(self.secondary, Table) else []
        )
        constraints = distinct(self._chosen(constraints))
        if not constraints:
            raise blame.no_secondary_key(self, mapper)
        if len(constraints) > 1:
            raise blame.ambiguous_secondary(self, mapper, constraints)
        return and_(*(_key_equality(element, far_holds_key=True) for element in constraints[0].elements))

    def _secondary_pairs(self, condition: Any, mapper: Mapper) -> tuple[tuple[Column[Any], Column[Any]], ...]:
        marked = self._mark_secondary(condition)
        through = self.secondary.c
        pairs = [pair for pair in pairs_in(marked) if through.contains_column(plain(pair[1]))]
        own = [pair for pair in pairs if mapper.table.c.contains_column(plain(pair[0]))]
        return plain_pairs(own)

    def _mark_secondary(self, condition: Any, *tables: Table) -> Any:
        far = [self.secondary.c, *(table.c for table in tables)]

        def mark(column: Column[Any]) -> dict[str, bool]:
            return {"remote": True} if any(c.contains_column(plain(column)) for c in far) else {}

        return annotate(condition, mark)


def _key_equality(element: Any, far_holds_key: bool) -> Any:
    """Answer ``referred = key`` of one column of a foreign key, with its marks."""
    key = {"foreign": True, "remote": True} if far_holds_key else {"foreign": True}
    referred = element.column if far_holds_key else element.column._annotate({"remote": True})
    return referred.operate(operators.eq, element.parent._annotate(key))


def _remote_where_foreign(left: Any, right: Any) -> tuple[dict[str, bool], dict[str, bool]]:
    if is_marked(left, "foreign"):
        return {"remote": True}, {}
    return ({}, {"remote": True}) if is_marked(right, "foreign") else ({}, {})


def foreign_keys_to(table: Table, other: Table, wiring: Wiring) -> list[ForeignKeyConstraint]:
    """Answer the foreign keys of a table that refer to another, in the order of their columns."""
    found: list[ForeignKeyConstraint] = []
    for constraint in sorted(table.foreign_key_constraints, key=lambda c: _position(c, table)):
        try:
            if constraint.referred_table is other:
                found.append(constraint)
        except (NoReferenceError, SqlalchemyError) as error:
            if wiring.owner.mapper.table.metadata is table.metadata:
                raise blame.unknown_key(wiring.where, constraint, error) from None
    return found


def _position(constraint: ForeignKeyConstraint, table: Table) -> tuple[int, ...]:
    order = {column: index for index, column in enumerate(table.c)}
    return tuple(order[column] for column in constraint.columns)


def distinct(constraints: Sequence[ForeignKeyConstraint]) -> list[ForeignKeyConstraint]:
    """Answer one of each set of constraints that say the same."""
    seen: dict[Any, ForeignKeyConstraint] = {}
    for constraint in constraints:
        seen.setdefault(frozenset((key.parent, key.column) for key in constraint.elements), constraint)
    return list(seen.values())


def refers(column: Column[Any], other: Column[Any]) -> bool:
    """Say whether a column has a foreign key to another."""
    return any(key.column is other for key in column.foreign_keys)


def plain_pairs(pairs: Iterable[tuple[Any, Any]]) -> tuple[tuple[Column[Any], Column[Any]], ...]:
    """Answer pairs of the tables' own columns, each once."""
    return tuple(dict.fromkeys((plain(near), plain(far)) for near, far in pairs))
