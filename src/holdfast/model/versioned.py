"""Version columns: a number in each row that every change raises, so that a lost race is noticed.

A flush raises the version of each row it changes and compares the one that was loaded; a row that somebody else has
changed or deleted since then is not matched.  A mixin declares the column, or SQLAlchemy's ``__mapper_args__``::

    class Item(Versioned, Base): ...

    class Item(Base):
        revision: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": revision}

An integer version is raised by every other UPDATE of the table, too (its column has an ``onupdate``): whoever changes a
row by a statement must not go unnoticed by those who have it in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Column, Integer, text
from sqlalchemy.sql.schema import ColumnDefault

from .columns import Mapped, as_declared, mapped_column
from .mapper import Mapper, Version
from .messages import did_you_mean, mistake

VERSION_ARGS = frozenset({"version_id_col", "version_id_generator"})


class Versioned:
    """Give a model a version: a flush that finds a row changed or deleted by somebody else raises `StaleDataError`.

    The column is named ``version`` and begins at 1.  Declare ``version`` in the model to give it another column name
    or type; where the model has another use for the name, write ``__mapper_args__ = {"version_id_col": ...}`` instead.
    """

    version: Mapped[int] = mapped_column(default=1, server_default=text("1"))


def next_integer(version: int | None) -> int:
    """Count from 1."""
    return (version or 0) + 1


def find_version(cls: type[Any], copies: Mapping[Column[Any], Column[Any]], mapper: Mapper) -> Version | None:
    """Find the version a class declares, and have its column begin and go on by itself; raises `ModelError`."""
    written = getattr(cls, "__mapper_args__", None) or {}
    said = written.get("version_id_col", "version" if issubclass(cls, Versioned) else None)
    if said is None:
        return None
    name = _attribute(cls, said, copies, mapper)
    generate = written.get("version_id_generator", next_integer)
    version = Version(name, generate or None)
    _check(cls, version, mapper.columns[name], name in mapper.primary_key)
    _set_defaults(version, mapper.columns[name])
    return version


def _attribute(cls: type[Any], said: Any, copies: Mapping[Column[Any], Column[Any]], mapper: Mapper) -> str:
    """The attribute a column belongs to; given as a column, as declared, or by its name."""
    if isinstance(said, str):
        if said in mapper.columns:
            return said
        shown = f"{said!r}{did_you_mean(said, mapper.columns)}"
    else:
        declared = as_declared(said)
        column = said if declared is None else declared.column
        name = mapper.attributes.get(copies.get(column, column))
        if name is not None:
            return name
        shown = "what version_id_col names"
    raise mistake(
        f"{cls.__name__} has no column {shown} for its version",
        write="version: Mapped[int] = mapped_column()",
    )


def _check(cls: type[Any], version: Version, column: Column[Any], is_key: bool) -> None:
    if is_key:
        raise mistake(
            f"{cls.__name__}.{version.name} is the primary key, which does not change",
            write="version: Mapped[int] = mapped_column()",
        )
    if version.generate is next_integer and not _counts(column):
        raise mistake(
            f"{cls.__name__}.{version.name} is no integer, so it cannot be counted up",
            write='__mapper_args__ = {"version_id_generator": lambda version: uuid4()}',
        )


def _counts(column: Column[Any]) -> bool:
    kind = column.type._type_affinity
    return kind is not None and issubclass(kind, Integer)


def _set_defaults(version: Version, column: Column[Any]) -> None:
    """What a plain ``insert(Item)`` and ``update(Item)`` do with the version."""
    generate: Callable[[Any], Any] | None = version.generate
    if generate is None:
        return
    if column.default is None:
        first: Any = 1 if generate is next_integer else lambda: generate(None)
        column._init_items(ColumnDefault(first))
    if generate is next_integer and column.onupdate is None:
        column._init_items(ColumnDefault(column + 1, for_update=True))
