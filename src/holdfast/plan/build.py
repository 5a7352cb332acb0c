"""Statement → plan, for every kind of statement; SELECT has a file of its own (`planner`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.selectable import TextualSelect

from holdfast.query import FromStatement

from .bind import make_bind
from .change import plan_change
from .plan import Kind, Plan
from .planner import Planner, changes_data, compile_statement, describe_columns, name_rows


def build_plan(
    statement: Any,
    dialect: Dialect,
    listed: Sequence[Any],
    column_keys: Sequence[str] | None = None,
    *,
    in_step: bool = False,
) -> Plan:
    """Make the plan of any executable; ``listed`` are the bound parameters of its cache key.

    ``column_keys`` are the columns that values are given for by name; ``in_step`` says that a change brings back
    what loaded objects must know of it.
    """
    if isinstance(statement, FromStatement):
        return _plan_from_statement(statement, dialect, listed)
    if isinstance(statement, (sa.Select, sa.CompoundSelect)):
        return Planner(statement, dialect, listed).plan()
    if isinstance(statement, UpdateBase):
        return plan_change(statement, dialect, listed, column_keys, in_step=in_step)
    if isinstance(statement, TextualSelect):
        entities = list(statement.selected_columns)
        return _plan_from_statement(FromStatement(entities, statement), dialect, listed)
    compiled = compile_statement(statement, dialect)
    if not isinstance(compiled, SQLCompiler):  # DDL
        return Plan(str(compiled), lambda b, n: (str(compiled), ()), "count", writes=True)
    kind: Kind = "unknown" if isinstance(statement, TextClause) else "rows"
    writes = _text_writes(compiled.string) if kind == "unknown" else False
    plan = Plan(compiled.string, make_bind(compiled, listed), kind, writes=writes)
    if kind == "rows":
        describe_columns(plan, compiled)
    return plan


def _text_writes(sql: str) -> bool:
    """A text statement runs in a transaction unless it plainly reads."""
    words = sql.split(None, 1)
    first = words[0].upper() if words else ""
    if first in ("PRAGMA", "SHOW", "EXPLAIN", "VALUES"):
        return False
    return first != "SELECT" or " FOR " in sql.upper() or " INTO " in sql.upper()


def _plan_from_statement(statement: FromStatement[Any], dialect: Dialect, listed: Sequence[Any]) -> Plan:
    """Entities read from a statement somebody else wrote; columns are found by name."""
    inner = statement.statement
    compiled = compile_statement(inner, dialect)
    planner = Planner(sa.select(*statement._raw_columns), dialect, listed)
    planner.options = statement._with_options
    for element in statement._raw_columns:
        planner.add(element, False)
    plan = Plan(compiled.string, make_bind(compiled, listed), "unknown")
    plan.writes = isinstance(inner, UpdateBase) or (
        _text_writes(compiled.string)
        if isinstance(inner, (TextClause, TextualSelect))
        else changes_data(inner)
    )
    plan.slots, plan.width = tuple(planner.slots), len(planner.columns)
    plan.memo["names"] = tuple(column.name for column in planner.columns)
    name_rows(plan, planner.keys, planner.elements)
    return plan
