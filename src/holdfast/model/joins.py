"""How two tables are joined: conditions with every column told near from far, and bound to any selectables.

In a condition the columns at the far end carry the annotation ``remote`` and the columns that hold a
foreign key carry ``foreign``.  That is what tells the two ends of a self-referential join apart, and
what says in which direction values flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.selectable import FromClause

from .mapper import Relation

Clause = ColumnElement[Any]
Pair = tuple[Column[Any], Column[Any]]


def foreign(expression: Any) -> Any:
    """Mark the columns of an expression as holding the foreign key, in a ``primaryjoin``."""
    return annotate(clause(expression), lambda column: {"foreign": True})


def remote(expression: Any) -> Any:
    """Mark the columns of an expression as standing on the far side, in a ``primaryjoin``."""
    return annotate(clause(expression), lambda column: {"remote": True})


def clause(expression: Any) -> Any:
    """Answer the SQL element an object stands for."""
    make = getattr(expression, "__clause_element__", None)
    return expression if make is None else make()


def annotate(expression: Clause, marks: Callable[[Column[Any]], dict[str, bool]]) -> Any:
    """Answer the expression with marks added to its columns."""

    def mark(element: Any, **_: Any) -> Any:
        found = marks(element) if isinstance(element, Column) else {}
        return element._annotate(found) if found else None

    return visitors.replacement_traverse(expression, {}, mark)


def annotate_equalities(
    expression: Clause, mark: Callable[[Any, Any], tuple[dict[str, bool], dict[str, bool]]]
) -> Any:
    """Answer the expression with marks added to both sides of each comparison of two columns."""

    def visit(binary: Any) -> None:
        if isinstance(binary.left, Column) and isinstance(binary.right, Column):
            left, right = mark(binary.left, binary.right)
            binary.left = binary.left._annotate(left) if left else binary.left
            binary.right = binary.right._annotate(right) if right else binary.right

    return visitors.cloned_traverse(expression, {}, {"binary": visit})


def columns_in(expression: Clause) -> Iterator[Column[Any]]:
    """Yield the columns of an expression, with their marks."""
    for element in visitors.iterate(expression):
        if isinstance(element, Column):
            yield element


def is_marked(column: Any, mark: str) -> bool:
    """Say whether a column carries ``remote`` or ``foreign``."""
    return mark in column._annotations


def carries(expression: Clause, mark: str) -> bool:
    """Say whether any column of the expression carries the mark."""
    return any(is_marked(column, mark) for column in columns_in(expression))


def plain(column: Column[Any]) -> Column[Any]:
    """Answer the table's own column behind a marked one."""
    table: Any = column.table
    return column if table is None else table.c[column.key]


def equalities(expression: Clause) -> Iterator[tuple[Any, Any]]:
    """Yield the two columns of every ``a = b`` in the expression."""
    for element in visitors.iterate(expression):
        yield from equality_at(element)


def pairs_in(expression: Clause) -> list[tuple[Any, Any]]:
    """Answer (near column, far column) of every equality across the join, with their marks."""
    found: list[tuple[Any, Any]] = []
    for left, right in equalities(expression):
        if is_marked(right, "remote") and not is_marked(left, "remote"):
            found.append((left, right))
        elif is_marked(left, "remote") and not is_marked(right, "remote"):
            found.append((right, left))
    return found


def is_only(expression: Clause, pairs: Iterable[Pair]) -> bool:
    """Say whether the expression is nothing but the equality of the pairs."""
    wanted = {frozenset(pair) for pair in pairs}
    parts = list(conjuncts(expression))
    found = {frozenset((plain(left), plain(right))) for part in parts for left, right in equality_at(part)}
    return found == wanted and all(any(equality_at(part)) for part in parts)


def conjuncts(expression: Any) -> Iterator[Any]:
    """Yield the parts of an AND."""
    if getattr(expression, "operator", None) is operators.and_ and hasattr(expression, "clauses"):
        for part in expression.clauses:
            yield from conjuncts(part)
    elif type(expression).__name__ == "Grouping":
        yield from conjuncts(expression.element)
    else:
        yield expression


def equality_at(part: Any) -> list[tuple[Any, Any]]:
    """Answer the two columns where the part itself is ``a = b``, else nothing."""
    is_equality = isinstance(part, BinaryExpression) and part.operator is operators.eq
    both = is_equality and isinstance(part.left, Column) and isinstance(part.right, Column)
    return [(part.left, part.right)] if both else []


# ---------------------------------------------------------------- binding to selectables


def join_condition(
    relation: Relation, source: FromClause, target: FromClause, secondary: FromClause | None = None
) -> tuple[ColumnElement[bool], ColumnElement[bool] | None]:
    """Answer the ON clauses of a relation between any selectables that stand for its tables.

    The first joins the source with the target, or, for many-to-many, with the secondary; the second
    joins the secondary with the target and is None for the two direct directions.
    ``secondary`` is the relation's own table where it is None.
    """
    if relation.secondary is None or relation.secondaryjoin is None:
        return bind(relation.primaryjoin, relation, source, target, None), None
    middle = relation.secondary if secondary is None else secondary
    on_source = bind(relation.primaryjoin, relation, source, target, middle)
    on_target = bind(relation.secondaryjoin, relation, source, target, middle, near="target")
    return on_source, on_target


def bind(
    condition: ColumnElement[bool],
    relation: Relation,
    source: FromClause,
    target: FromClause,
    secondary: FromClause | None,
    near: str = "source",
) -> ColumnElement[bool]:
    """Answer a relation's condition with its columns taken from the given selectables."""
    through = relation.secondary
    unmarked = source if near == "source" else target

    def move(element: Any, **_: Any) -> Any:
        if not isinstance(element, Column) or element.table is None:
            return None
        if secondary is not None and through is not None and through.c.contains_column(plain(element)):
            return adapted(element, secondary)
        return adapted(element, target if is_marked(element, "remote") else unmarked)

    return visitors.replacement_traverse(condition, {}, move)


def adapted(column: Column[Any], selectable: FromClause) -> ColumnElement[Any]:
    """Answer a table's column as a selectable that stands for the table gives it."""
    own = plain(column)
    if hash(selectable) == hash(own.table):  # the table itself, marked or not
        return own
    found = selectable.corresponding_column(own)
    return own if found is None else found
