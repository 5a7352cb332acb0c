"""INSERT, UPDATE, DELETE → plan: attribute names, RETURNING of classes, and what keeps loaded objects in step.

A change that is to be kept *in step* returns, after what the user asked for, the key of each row it touched and its
changed columns; the session puts them on the objects it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.elements import BindParameter

from holdfast.model import Mapper, unknown_attribute
from holdfast.query import PLAIN

from .bind import make_bind
from .plan import Kind, Plan
from .planner import Planner, compile_statement, entity_of, name_rows


def plan_change(
    statement: Any,
    dialect: Dialect,
    listed: Sequence[Any],
    column_keys: Sequence[str] | None,
    *,
    in_step: bool = False,
) -> Plan:
    """Make the plan of an INSERT, UPDATE or DELETE; with RETURNING of columns or of mapped classes."""
    entities: list[Any] = list(statement._returning)
    mapper = entity_of(statement.table)
    if mapper is not None:
        statement = _by_column(statement, mapper)
        _check_names(statement, mapper, column_keys or ())
    touched = touched_columns(statement, mapper, column_keys or ()) if in_step and mapper is not None else ()
    if touched or any(entity_of(e) is not None for e in entities):
        statement = statement._clone()
        asked = [c for e in entities for c in (_entity_columns(e) if entity_of(e) is not None else [e])]
        statement._returning = (*asked, *touched)
    elif isinstance(statement, Insert) and not entities:
        statement = statement.inline()
    compiled = compile_statement(statement, dialect, column_keys)
    kind: Kind = "rows" if entities or touched else "count"
    plan = Plan(compiled.string, make_bind(compiled, listed), kind, writes=True)
    plan.touches = mapper if isinstance(statement, (Update, Delete)) else None
    if kind == "rows":
        _add_rows(plan, entities, touched, dialect, listed)
    return plan


def _add_rows(
    plan: Plan, entities: list[Any], touched: Sequence[Column[Any]], dialect: Dialect, listed: Sequence[Any]
) -> None:
    planner = Planner(sa.select(*entities, *touched), dialect, listed)
    for element in (*entities, *touched):
        planner.add(element, False)
    plan.slots, plan.width = tuple(planner.slots), len(planner.columns)
    plan.refreshes = True
    name_rows(plan, planner.keys, planner.elements)
    if touched:
        assert plan.touches is not None
        plan.in_step = tuple(plan.touches.attributes[column] for column in touched)


def _entity_columns(entity: Any) -> list[Any]:
    mapper = entity_of(entity)
    assert mapper is not None
    return [mapper.columns[name] for name in mapper.columns if PLAIN.wants(mapper, name)]


def touched_columns(statement: Any, mapper: Mapper, column_keys: Sequence[str]) -> Sequence[Column[Any]]:
    """The key and the changed columns; nothing where the key itself changes, for the old one is not told."""
    keys = [mapper.columns[name] for name in mapper.primary_key]
    if isinstance(statement, Delete):
        return keys
    if not isinstance(statement, Update):
        return ()
    names = {getattr(key, "key", key) for key in (*(statement._values or ()), *column_keys)}
    changed = [c for c in mapper.columns.values() if c.key in names or _follows(c)]
    return () if any(column in keys for column in changed) else (*keys, *changed)


def _follows(column: Column[Any]) -> bool:
    """Whether every UPDATE changes the column."""
    return column.onupdate is not None or column.server_onupdate is not None or column.computed is not None


# ---------------------------------------------------------------- attribute names


def _check_names(statement: Any, mapper: Mapper, column_keys: Sequence[str]) -> None:
    """Tell of a name that is no attribute of the class; SQLAlchemy would pass over some in silence."""
    multiple = [row for rows in getattr(statement, "_multi_values", None) or () for row in rows]
    said = [getattr(statement, "_values", None) or (), *(row for row in multiple if isinstance(row, Mapping))]
    binds = {bound.key for bound in visitors.iterate(statement) if isinstance(bound, BindParameter)}
    for name in (*(key for keys in said for key in keys), *(k for k in column_keys if k not in binds)):
        if isinstance(name, str) and name not in mapper.table.c:
            raise unknown_attribute(mapper, name)


def renamed(mapper: Mapper) -> Mapping[str, str]:
    """Attribute name to column key, where they differ."""
    names: Mapping[str, str] | None = mapper.memo.get("renamed")
    if names is None:
        names = {name: column.key for name, column in mapper.columns.items() if name != column.key}
        mapper.memo["renamed"] = names
    return names


def column_values(mapper: Mapper, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Values by column key, of values by attribute name."""
    names = renamed(mapper)
    return {names.get(k, k) if isinstance(k, str) else k: v for k, v in values.items()} if names else values


def _by_column(statement: Any, mapper: Mapper) -> Any:
    """The statement with attribute names in ``values()`` replaced by column keys."""
    if not renamed(mapper):
        return statement
    statement = statement._clone()
    if getattr(statement, "_values", None):
        statement._values = column_values(mapper, statement._values)
    if getattr(statement, "_multi_values", None):
        statement._multi_values = tuple(
            [column_values(mapper, row) if isinstance(row, Mapping) else row for row in rows]
            for rows in statement._multi_values
        )
    return statement
