"""The statement that users write: SQLAlchemy Core's ``Select``, with joins along relationships.

Nothing here executes or compiles.  ``Select`` adds two things to Core's: ``join`` takes a relationship, and
``from_statement`` reads objects from any statement that gives their columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, TypeVarTuple, overload

import sqlalchemy as sa
from sqlalchemy.sql.cache_key import CacheKey
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.sql.util import ClauseAdapter

from holdfast.errors import InvalidRequestError
from holdfast.model import (
    Direction,
    EntityColumn,
    Mapper,
    RelationAttribute,
    form_of,
    join_condition,
    order_form_of,
)

from .options import option_form_of

if TYPE_CHECKING:
    from sqlalchemy.sql._typing import _TypedColumnClauseArgument as _Entity

Ts = TypeVarTuple("Ts")
T0 = TypeVar("T0", bound=Any)
T1 = TypeVar("T1", bound=Any)
T2 = TypeVar("T2", bound=Any)
T3 = TypeVar("T3", bound=Any)
T4 = TypeVar("T4", bound=Any)
T5 = TypeVar("T5", bound=Any)
T6 = TypeVar("T6", bound=Any)
T7 = TypeVar("T7", bound=Any)


class Select(sa.Select[*Ts]):
    """A SELECT over tables, mapped classes, or both."""

    inherit_cache = True

    _short: tuple[tuple[Any, ...], tuple[Any, ...]] | None = None
    """(a short key that names the plan, the bound parameters), while the statement is of the commonest form: mapped
    classes, comparisons of their columns with values, an order by columns, limits, loader options.  Walking such a
    statement for SQLAlchemy's key costs 10 to 20 µs."""

    def where(self, *whereclause: Any) -> Self:
        """Add conditions, joined by AND."""
        short = self._short
        if short is None or len(whereclause) != 1 or (form := form_of(whereclause[0])) is None:
            return super().where(*whereclause)
        return self._with("_where_criteria", whereclause, form, whereclause[0].right)

    def order_by(self, *clauses: Any) -> Self:
        """Order the rows; a further call orders those that are alike so far."""
        short = self._short
        forms = [] if short is None else [order_form_of(clause) for clause in clauses]
        if short is None or not forms or None in forms:
            return super().order_by(*clauses)
        return self._with("_order_by_clauses", clauses, ("order by", *forms))

    def limit(self, limit: Any) -> Self:
        """Give at most so many rows."""
        limited = super().limit(limit)
        if self._limit_clause is None and type(limit) is int:
            self._go_on(limited, "limit", limited._limit_clause)
        return limited

    def offset(self, offset: Any) -> Self:
        """Leave out so many rows at the beginning."""
        left_out = super().offset(offset)
        if self._offset_clause is None and type(offset) is int:
            self._go_on(left_out, "offset", left_out._offset_clause)
        return left_out

    def _with(self, part: str, more: tuple[Any, ...], form: Any, *bound: Any) -> Self:
        """A copy, as Core makes it, with more in one part and the short key continued."""
        forms, values = self._short or ((), ())
        twin = object.__new__(type(self))
        held = twin.__dict__
        held.update(self.__dict__)
        for name in self._memoized_keys:
            held.pop(name, None)
        held[part] = getattr(self, part) + more
        held["_short"] = ((*forms, form), (*values, *bound))
        return twin

    def _go_on(self, twin: Self, form: Any, *bound: Any) -> None:
        """Continue the short key, if there is one, by what a method has added."""
        if self._short is not None:
            twin._short = ((*self._short[0], form), (*self._short[1], *bound))

    def options(self, *options: Any) -> Self:
        """Say how relations and columns are loaded: ``selectinload(User.posts)`` and its kin."""
        short = self._short
        forms = [] if short is None else [option_form_of(option) for option in options]
        if short is None or None in forms:
            return super().options(*options)
        return self._with("_with_options", options, ("options", *forms))

    def _generate(self) -> Self:
        """Every other method makes another form of statement."""
        twin = super()._generate()
        twin.__dict__.pop("_short", None)
        return twin

    def _clone(self, **kw: Any) -> Self:
        twin = super()._clone(**kw)
        twin.__dict__.pop("_short", None)
        return twin

    def _generate_cache_key(self) -> Any:
        short = self._short
        return super()._generate_cache_key() if short is None else CacheKey(short[0], short[1], None)

    def join(self, target: Any, onclause: Any = None, *, isouter: bool = False, full: bool = False) -> Self:
        """Join a relationship (``User.posts``), a class, or a table, with an ON clause or without.

        A many-to-many relationship joins its secondary table under an alias, then the target.
        """
        if isinstance(target, RelationAttribute):
            return self._join_relation(target, None, onclause, isouter, full)
        if isinstance(onclause, RelationAttribute):
            return self._join_relation(onclause, target, None, isouter, full)
        return super().join(target, onclause, isouter=isouter, full=full)

    def outerjoin(self, target: Any, onclause: Any = None, *, full: bool = False) -> Self:
        """Join as `join` does, keeping rows without a match."""
        return self.join(target, onclause, isouter=True, full=full)

    def join_from(
        self, from_: Any, target: Any, onclause: Any = None, *, isouter: bool = False, full: bool = False
    ) -> Self:
        """Join with the left side named."""
        if isinstance(target, RelationAttribute):
            return self._join_relation(target, None, onclause, isouter, full)
        if isinstance(onclause, RelationAttribute):
            return self._join_relation(onclause, target, None, isouter, full)
        return super().join_from(from_, target, onclause, isouter=isouter, full=full)

    def outerjoin_from(self, from_: Any, target: Any, onclause: Any = None, *, full: bool = False) -> Self:
        """Outer join with the left side named."""
        return self.join_from(from_, target, onclause, isouter=True, full=full)

    def _join_relation(
        self, attribute: RelationAttribute, target: Any, onclause: Any, isouter: bool, full: bool
    ) -> Self:
        relation, source = attribute.relation, attribute.source
        if target is None:
            target = attribute.target if attribute.target is not None else relation.target.entity
        while not isinstance(target, sa.FromClause):
            target = target.__clause_element__()
        if hash(target) == hash(source):
            raise InvalidRequestError(
                f"{relation.parent.name}.{relation.name} joins {relation.parent.name} to itself.",
                mend=f"Name the other side: other = aliased({relation.target.name}); "
                f".join(other, {relation.parent.name}.{relation.name}).",
            )
        if relation.direction is Direction.MANY_TO_MANY:
            assert relation.secondary is not None
            secondary = relation.secondary.alias()
            first, second = join_condition(relation, source, target, secondary)
            assert second is not None
            right = secondary.join(target, sa.and_(second, *_criteria_on(attribute, target)))
            return super().join_from(source, right, first, isouter=isouter, full=full)
        first, _ = join_condition(relation, source, target, None)
        extra = _criteria_on(attribute, target)
        if onclause is not None:
            extra = (*extra, onclause)
        condition = sa.and_(first, *extra) if extra else first
        return super().join_from(source, target, condition, isouter=isouter, full=full)

    def from_statement(self, statement: Any) -> FromStatement[*Ts]:
        """Read what this SELECT names from another statement: text with columns, a union, a RETURNING."""
        return FromStatement(self._raw_columns, statement)


class FromStatement(TypedReturnsRows[*Ts], sa.ClauseElement):
    """Entities read from a statement that somebody else wrote."""

    __visit_name__ = "holdfast_from_statement"
    inherit_cache = False

    def __init__(self, entities: Any, statement: Any) -> None:
        self._raw_columns = list(entities)
        self.statement = statement if not isinstance(statement, str) else sa.text(statement)

    def _gen_cache_key(self, am: Any, bindparams: list[Any]) -> tuple[Any, ...] | None:
        inner = self.statement._gen_cache_key(am, bindparams)
        if inner is None:
            return None
        entities = tuple(c._gen_cache_key(am, bindparams) for c in self._raw_columns)
        loads: tuple[Any, ...] = self._with_options
        options = tuple(option._gen_cache_key(am, bindparams) for option in loads)
        return (FromStatement, entities, inner, options)


@overload
def select(e0: _Entity[T0], /) -> Select[T0]: ...
@overload
def select(e0: _Entity[T0], e1: _Entity[T1], /) -> Select[T0, T1]: ...
@overload
def select(e0: _Entity[T0], e1: _Entity[T1], e2: _Entity[T2], /) -> Select[T0, T1, T2]: ...
@overload
def select(
    e0: _Entity[T0], e1: _Entity[T1], e2: _Entity[T2], e3: _Entity[T3], /
) -> Select[T0, T1, T2, T3]: ...
@overload
def select(
    e0: _Entity[T0], e1: _Entity[T1], e2: _Entity[T2], e3: _Entity[T3], e4: _Entity[T4], /
) -> Select[T0, T1, T2, T3, T4]: ...
@overload
def select(
    e0: _Entity[T0], e1: _Entity[T1], e2: _Entity[T2], e3: _Entity[T3], e4: _Entity[T4], e5: _Entity[T5], /
) -> Select[T0, T1, T2, T3, T4, T5]: ...
@overload
def select(
    e0: _Entity[T0],
    e1: _Entity[T1],
    e2: _Entity[T2],
    e3: _Entity[T3],
    e4: _Entity[T4],
    e5: _Entity[T5],
    e6: _Entity[T6],
    /,
) -> Select[T0, T1, T2, T3, T4, T5, T6]: ...
@overload
def select(
    e0: _Entity[T0],
    e1: _Entity[T1],
    e2: _Entity[T2],
    e3: _Entity[T3],
    e4: _Entity[T4],
    e5: _Entity[T5],
    e6: _Entity[T6],
    e7: _Entity[T7],
    /,
) -> Select[T0, T1, T2, T3, T4, T5, T6, T7]: ...
@overload
def select(*entities: Any) -> Select[*tuple[Any, ...]]: ...
def select(*entities: Any) -> Any:
    """Select mapped classes, columns, and expressions: ``select(User).where(User.name == "Ada")``."""
    if len(entities) == 1 and isinstance(entities[0], type):
        mapper = entities[0].__dict__.get("__mapper__")
        if type(mapper) is Mapper:  # a class of SQLAlchemy's ORM has one of its own
            return _select_class(mapper)
    statement: Any = Select(*entities)
    if all([isinstance(entity, (type, EntityColumn)) for entity in entities]):  # noqa: C419 - a generator costs 0.5 µs
        statement._short = (entities, ())
    return statement


def _select_class(mapper: Mapper) -> Select[Any]:
    """A copy of the class's plain SELECT, as Core copies a statement; to make one costs 2 µs."""
    made = mapper.memo.get("select")
    if made is None:
        made = mapper.memo["select"] = Select(mapper.class_)
        made._short = ((mapper.class_,), ())
    copy = Select.__new__(Select)
    copy.__dict__.update(made.__dict__)
    return copy


def _criteria_on(attribute: RelationAttribute, target: Any) -> tuple[Any, ...]:
    """The criteria of ``User.posts.and_(...)``, said of the selectable that is joined."""
    table = attribute.relation.target.table
    if not attribute.extra or hash(target) == hash(table):
        return attribute.extra
    adapter = ClauseAdapter(target)
    return tuple(adapter.traverse(criterion) for criterion in attribute.extra)
