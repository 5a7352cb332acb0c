"""A mapped class under another name in one statement: self-joins, subqueries, unions as entities."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from sqlalchemy import Column
from sqlalchemy.sql.annotation import Annotated
from sqlalchemy.sql.selectable import FromClause, SelectBase

from holdfast.errors import InvalidRequestError
from holdfast.model import ENTITY, Mapper, RelationAttribute, mapper_of

T = TypeVar("T")

ALIAS_NAME = "holdfast_alias"
"""The annotation that holds the name an alias was given; rows are asked by it."""


class AliasedClass:
    """Stands for a mapped class in a statement; its attributes are columns and relations of the alias."""

    def __init__(self, mapper: Mapper, selectable: FromClause, name: str | None = None) -> None:
        self.__mapper__ = mapper
        self.__selectable__ = selectable._annotate({ENTITY: mapper, ALIAS_NAME: name})

    def __clause_element__(self) -> FromClause:
        return self.__selectable__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        column = self.__mapper__.columns.get(name)
        if column is not None:
            return entity_column(self.__selectable__, column)
        relation = self.__mapper__.relations.get(name)
        if relation is not None:
            attribute = getattr(self.__mapper__.class_, name)
            return cast(RelationAttribute, attribute).of(self.__selectable__)
        return getattr(self.__mapper__.class_, name)

    def __repr__(self) -> str:
        return f"<aliased {self.__mapper__.name}>"


def aliased(
    entity: type[T],
    selectable: FromClause | SelectBase | None = None,
    name: str | None = None,
    flat: bool = False,
) -> type[T]:
    """Give a mapped class another name in a statement, or let a subquery stand for it.

    ``aliased(User)`` for self-joins; ``aliased(User, subquery)`` reads ``User`` objects from a subquery or CTE
    that has the table's columns.
    """
    mapper = mapper_of(entity)
    source: FromClause
    if selectable is None:
        source = mapper.table.alias(name)
    elif isinstance(selectable, SelectBase):
        source = selectable.subquery(name)
    else:
        source = selectable if name is None else selectable.alias(name)
    return cast("type[T]", AliasedClass(mapper, source, name))


def entity_column(source: FromClause, column: Column[Any]) -> Any:
    """The column of a selectable that stands for a column of the mapped table."""
    if source is column.table or (isinstance(source, Annotated) and hash(source) == hash(column.table)):
        return column
    found = source.corresponding_column(column)
    if found is None:
        found = source.c.get(column.key)
    if found is None:
        raise InvalidRequestError(
            f"{source} has no column for {column.table.name}.{column.name}.",
            mend="Select all columns of the class in the subquery: select(User).where(...).subquery().",
        )
    return found
