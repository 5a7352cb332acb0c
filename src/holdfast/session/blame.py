"""Which field an error of the server is about.

A server names the constraint, or a column; the models know which attributes those are.  PostgreSQL names the columns of a
unique key only in the sentence that also quotes the row, which we do not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.engine import Dialect

from holdfast.errors import HoldfastError
from holdfast.model import Mapper

_SUFFIX = {PrimaryKeyConstraint: "pkey", UniqueConstraint: "key", ForeignKeyConstraint: "fkey"}
"""How PostgreSQL names a constraint that has no name: https://www.postgresql.org/docs/current/sql-createtable.html"""


def name_fields(error: HoldfastError, mapper: Mapper, dialect: Dialect) -> None:
    """Add to an error which attributes of the class it is about, where that can be known."""
    if error.field is not None or (error.table is not None and error.table != mapper.table.name):
        return
    error.table = mapper.table.name
    names = error.columns or ((error.column,) if error.column else ())
    columns: Iterable[Column[Any]] = [c for c in mapper.table.columns if c.name in names]
    if not columns and error.constraint is not None:
        columns = _constrained(mapper, error.constraint, dialect)
    attributes = [mapper.attributes[column] for column in columns if column in mapper.attributes]
    if attributes:
        error.columns = tuple(column.name for column in columns)
        error.field = ", ".join(f"{mapper.name}.{name}" for name in attributes)


def _constrained(mapper: Mapper, name: str, dialect: Dialect) -> list[Column[Any]]:
    """The columns of a constraint or unique index."""
    table = mapper.table
    for index in table.indexes:
        if index.name == name:
            return list(index.columns)
    for constraint in table.constraints:
        columns: list[Column[Any]] = list(getattr(constraint, "columns", ()))
        given = dialect.identifier_preparer.format_constraint(constraint)
        parts = [
            table.name,
            *([] if isinstance(constraint, PrimaryKeyConstraint) else [c.name for c in columns]),
        ]
        usual = "_".join([*parts, _SUFFIX.get(type(constraint), "check")])
        if name in (given, usual):
            return columns
    return []
