"""What stands on a mapped class: non-data descriptors for columns and relations.

``User.name`` is the table's own column; ``User.posts`` is a `RelationAttribute`, which asks about the
objects at the other end (`any`, `has`, `contains`, ``==``).  On an instance Python finds a loaded value
in ``__dict__`` and never comes here; what is missing there goes to `read_missing`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, exists, false, literal_column, not_, or_
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.sql.util import ClauseAdapter

from holdfast.errors import InvalidRequestError

from .joins import adapted, join_condition
from .mapper import Direction, Mapper, Relation
from .messages import did_you_mean, listed
from .sides import read_missing


class ColumnAttribute:
    """The class attribute of a column."""

    __slots__ = ("column", "expression", "name")

    def __init__(self, name: str, column: Column[Any]) -> None:
        self.name = name
        self.column = column
        self.expression: Column[Any] | None = column if column.key == name else None

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self.expression if self.expression is not None else self._named()
        return read_missing(instance, self.name)

    def _named(self) -> Any:
        """Answer the column that labels its rows with the attribute's name.

        The annotated column is a copy, so it is kept only once a foreign key has given it its type.
        """
        named = self.column._annotate({"proxy_key": self.name})
        if not named.type._isnull:
            self.expression = named
        return named


class Entity:
    """``__clause_element__`` of a mapped class: its table, marked with the mapper; an instance refuses."""

    __slots__ = ("mapper",)

    def __init__(self, mapper: Mapper) -> None:
        self.mapper = mapper

    def __get__(self, instance: Any, owner: Any) -> Callable[[], FromClause]:
        if instance is None:
            return self._entity
        return not_an_expression(self.mapper)

    def _entity(self) -> FromClause:
        return self.mapper.entity


def not_an_expression(mapper: Mapper) -> Callable[[], Any]:
    """Make the function that tells that an object was put where SQL is expected."""

    def refuse() -> Any:
        key = mapper.primary_key[0]
        name = mapper.name.lower()
        raise InvalidRequestError(
            f"A {mapper.name} object was given where an SQL expression is expected",
            mend=f"Compare a key: `Other.{name}_id == {name}.{key}`, or a relation: `Other.{name} == {name}`.",
        )

    return refuse


class RelationAttribute:
    """The class attribute of a relation: ``User.posts``.

    ``source`` is the selectable that stands for the parent, ``entity`` what stands for the target (an
    alias given with `of_type`, else None), ``extra`` the criteria added with `and_`.
    """

    def __init__(
        self, owner: type[Any], name: str, relation_of: Callable[[type[Any], str], Relation]
    ) -> None:
        self.owner = owner
        self.key = self.name = name
        self.entity: Any = None
        self.extra: tuple[ColumnElement[bool], ...] = ()
        self._relation_of = relation_of
        self._source: FromClause | None = None
        self.memo: dict[Any, Any] = {}  # for what is made of the attribute by others

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else read_missing(instance, self.name)

    def __repr__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"

    # ------------------------------------------------------------ what it is

    @property
    def relation(self) -> Relation:
        """The relation; the first use configures the models."""
        return self._relation_of(self.owner, self.name)

    @property
    def source(self) -> FromClause:
        """The selectable that stands for the parent: its entity, or an alias."""
        return self.relation.parent.entity if self._source is None else self._source

    @property
    def target(self) -> FromClause | None:
        """The selectable given with `of_type`, or None for the target's own table."""
        return None if self.entity is None else selectable_of(self.entity)

    def of(self, source: FromClause) -> RelationAttribute:
        """Answer the relation as seen from an alias of the parent."""
        return self._with(_source=source)

    def of_type(self, entity: Any) -> RelationAttribute:
        """Answer the relation to an alias of its target: ``User.posts.of_type(recent)``."""
        return self._with(entity=entity)

    def and_(self, *criteria: Any) -> RelationAttribute:
        """Answer the relation with criteria added to its ON clause."""
        return self._with(extra=(*self.extra, *criteria))

    def _with(self, **changes: Any) -> RelationAttribute:
        twin = copy.copy(self)
        twin.__dict__.update(changes, memo={})
        return twin

    # ------------------------------------------------------------ what it asks

    def any(self, criterion: Any = None, **values: Any) -> ColumnElement[bool]:
        """Ask whether the to-many relation holds an object for which the criterion is true."""
        if not self.relation.uselist:
            raise self._wrong("any() is for to-many relations", f"{self}.has(...)")
        return self._exists(criterion, values)

    def has(self, criterion: Any = None, **values: Any) -> ColumnElement[bool]:
        """Ask whether the to-one relation holds an object for which the criterion is true."""
        if self.relation.uselist:
            raise self._wrong("has() is for to-one relations", f"{self}.any(...)")
        return self._exists(criterion, values)

    def contains(self, obj: Any) -> ColumnElement[bool]:
        """Ask whether the to-many relation holds this very object."""
        if not self.relation.uselist:
            raise self._wrong("contains() is for to-many relations", f"{self} == {obj_name(self.relation)}")
        return self._is(obj)

    def is_(self, other: None) -> ColumnElement[bool]:
        """Ask whether there is no object at the other end."""
        return self._is_empty(other)

    def is_not(self, other: None) -> ColumnElement[bool]:
        """Ask whether there is an object at the other end."""
        return not_(self._is_empty(other))

    isnot = is_not

    def in_(self, others: Iterable[Any]) -> ColumnElement[bool]:
        """Refuse: a list of objects is a list of keys."""
        relation = self.relation
        key = relation.target.primary_key[0]
        names = f"[x.{key} for x in objects]"
        if relation.direction is Direction.MANY_TO_ONE and relation.simple:
            local = relation.parent.attributes[relation.pairs[0][0]]
            raise self._wrong("in_() does not take objects", f"{self.owner.__name__}.{local}.in_({names})")
        ask = "any" if relation.uselist else "has"
        raise self._wrong(
            "in_() does not take objects", f"{self}.{ask}({relation.target.name}.{key}.in_({names}))"
        )

    def __eq__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
        if other is None:
            return self._is_empty(None)
        if self.relation.uselist:
            raise self._wrong("== compares a to-one relation", f"{self}.contains({obj_name(self.relation)})")
        return self._is(other)

    def __ne__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
        if other is None:
            return not_(self._is_empty(None))
        if self.relation.uselist:
            raise self._wrong("!= compares a to-one relation", f"~{self}.contains({obj_name(self.relation)})")
        return self._is_not(other)

    __hash__ = object.__hash__

    def __clause_element__(self) -> Any:
        ask = "any" if self.relation.uselist else "has"
        raise self._wrong(
            "a relation is not a column",
            f".join({self})",
            f" on a statement of `from holdfast import select` (sqlalchemy's joins no relations), "
            f"or `.where({self}.{ask}(...))`",
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        target = self.relation.target.name
        ask = "any" if self.relation.uselist else "has"
        raise AttributeError(
            f"the relation {self} has no {name!r}. "
            f"Write `{self}.{ask}({target}.{name} == ...)`, or join: `.join({self}).where({target}.{name} == ...)`."
        )

    # ------------------------------------------------------------ how it asks

    def _exists(self, criterion: Any, values: dict[str, Any]) -> ColumnElement[bool]:
        relation = self.relation
        target = self.target
        secondary = relation.secondary
        if target is None and relation.target.table is relation.parent.table:
            target = relation.target.entity.alias()
            secondary = None if secondary is None else secondary.alias()
            criterion = None if criterion is None else ClauseAdapter(target).traverse(as_clause(criterion))
        target = relation.target.entity if target is None else target
        conditions = [
            clause
            for clause in join_condition(relation, self.source, target, secondary)
            if clause is not None
        ]
        conditions += [as_clause(clause) for clause in (*self.extra, criterion) if clause is not None]
        conditions += [self._target_column(name, target) == value for name, value in values.items()]
        inner = [target] if secondary is None else [target, secondary]
        found = exists(literal_column("1")).where(and_(*conditions)).select_from(*inner)
        return found.correlate_except(*inner)

    def _target_column(self, name: str, target: FromClause) -> ColumnElement[Any]:
        mapper = self.relation.target
        column = mapper.columns.get(name)
        if column is None:
            known = listed(mapper.columns)
            raise InvalidRequestError(
                f"{mapper.name} has no column {name!r}{did_you_mean(name, mapper.columns)}",
                mend=f"Use one of: {known}.",
            )
        return adapted(column, target)

    def _is_empty(self, other: Any) -> ColumnElement[bool]:
        if other is not None:
            raise self._wrong("is_() takes None only", f"{self} == {obj_name(self.relation)}")
        relation = self.relation
        if relation.direction is Direction.MANY_TO_ONE and relation.simple and not self.extra:
            return and_(*(adapted(local, self.source).is_(None) for local, _ in relation.pairs))
        return not_(self._exists(None, {}))

    def _is(self, obj: Any) -> ColumnElement[bool]:
        relation = self.relation
        self._check(obj)
        if relation.secondary is None and relation.simple and not self.extra and self.entity is None:
            return and_(
                *(adapted(local, self.source) == self._value(obj, far) for local, far in relation.pairs)
            )
        keys = {name: self._value(obj, relation.target.columns[name]) for name in relation.target.primary_key}
        return self._exists(None, keys)

    def _is_not(self, obj: Any) -> ColumnElement[bool]:
        relation = self.relation
        self._check(obj)
        if relation.direction is Direction.MANY_TO_ONE and relation.simple and not self.extra:
            columns = [(adapted(local, self.source), self._value(obj, far)) for local, far in relation.pairs]
            return or_(false(), *(or_(column != value, column.is_(None)) for column, value in columns))
        return not_(self._is(obj))

    def _check(self, obj: Any) -> None:
        target = self.relation.target
        if not isinstance(obj, target.class_):
            raise InvalidRequestError(
                f"{self} was compared with a {type(obj).__name__}; it holds {target.name} objects",
                mend=f"Compare it with a {target.name}, or a column: `{target.name}.{target.primary_key[0]} == ...`.",
            )

    def _value(self, obj: Any, column: Column[Any]) -> Any:
        name = self.relation.target.attributes[column]
        value = getattr(obj, name)
        if value is None:
            raise InvalidRequestError(
                f"{self} was compared with a {type(obj).__name__} whose {name} is None",
                mend="Write `session.flush()` first, so that the object has its key.",
            )
        return value

    def _wrong(self, happened: str, write: str, more: str = "") -> InvalidRequestError:
        return InvalidRequestError(f"{self}: {happened}", mend=f"Write `{write}`{more}.", write=write)


def obj_name(relation: Relation) -> str:
    """Answer a variable name for an object of the relation's target, for messages."""
    return relation.target.name.lower()


def as_clause(value: Any) -> Any:
    """Answer what an object stands for in SQL."""
    make = getattr(value, "__clause_element__", None)
    return value if make is None else make()


def selectable_of(entity: Any) -> Any:
    """Answer the selectable of an alias or class."""
    return as_clause(entity)
