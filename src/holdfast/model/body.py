"""The reading of a class body: its columns, its relations, its table.

Attributes are taken from the class, then from its mixins and bases in method resolution order; the
first that has a name wins.  Columns of a mixin are copied for each class.  The order of columns is
SQLAlchemy's: the class's own, then those of mixins, then whatever ``sort_order`` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args, get_origin

from sqlalchemy import Column, Table
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import merge_lists_w_ordering

from .annotations import (
    NOT_MAPPED,
    Forward,
    Scope,
    allows_none,
    function_names,
    is_alias,
    mapped_argument,
    own_annotations,
    without_none,
)
from .columns import MappedColumn, as_declared, has_foreign_key
from .inference import aware, infer_type
from .messages import later, mistake
from .mixins import declared_attr
from .registry import Registry
from .relationships import Relationship
from .strays import refuse_stray

RESERVED = frozenset(
    {"metadata", "registry", "awaitable_attrs", "type_annotation_map", "_configure", "_holdfast"}
)


@dataclass(slots=True)
class Field:
    """One attribute of a class body: what was assigned, what was annotated, and where."""

    name: str
    value: Any
    annotation: Any
    owner: type[Any]
    scope: Scope


class Body:
    """The reading of one class body with its mixins."""

    def __init__(self, cls: type[Any], registry: Registry, top: type[Any]) -> None:
        self.cls = cls
        self.registry = registry
        self.top = top
        self.allows_unmapped = bool(getattr(cls, "__allow_unmapped__", False))
        self.relationships: dict[str, Relationship[Any]] = {}
        self.annotations: dict[str, tuple[Any, Scope]] = {}
        self.named: dict[str, Column[Any]] = {}
        self.copies: dict[Column[Any], Column[Any]] = {}
        self.hints: dict[Column[Any], TypeEngine[Any]] = {}
        self.deferred: set[Column[Any]] = set()

    # ------------------------------------------------------------ fields

    def _fields(self) -> list[Field]:
        found: dict[str, Field] = {}
        local = function_names(self.cls)
        for base in self.cls.__mro__:
            if base in self.top.__mro__:
                continue
            annotations = own_annotations(base)
            scope = Scope(base, self.cls, local)
            for name in merge_lists_w_ordering(list(vars(base)), list(annotations)):
                if name not in found and not name.startswith("__"):
                    found[name] = Field(name, vars(base).get(name), annotations.get(name), base, scope)
        return list(found.values())

    def columns(self) -> list[Column[Any]]:
        """Answer the columns of the class, complete and in order; relations are set aside."""
        fields = self._fields()
        for field in fields:
            self._copy(field)
        declared: list[MappedColumn[Any]] = []
        for field in fields:
            self._evaluate(field)
            column = self._read(field)
            if column is not None:
                _refuse_reserved(self.cls, field)
                declared.append(self._complete(field, column))
        declared.sort(key=lambda column: column.sort_order or 0)
        return [column.column for column in declared]

    def _copy(self, field: Field) -> None:
        """Give the class its own column of a mixin's, so that other attributes find it on the class."""
        if field.owner is self.cls:
            return
        column = as_declared(field.value)
        if column is not None:
            own = column.copy()
            self.copies[column.column] = own.column
            field.value = own
            setattr(self.cls, field.name, own)

    def _evaluate(self, field: Field) -> None:
        if isinstance(field.value, declared_attr):
            field.annotation = field.value.annotation()
            field.value = field.value.__get__(None, self.cls)
            setattr(self.cls, field.name, field.value)

    def _read(self, field: Field) -> MappedColumn[Any] | None:
        """Answer the column a field declares; None where it is a relation or no business of ours."""
        value = field.value
        refuse_stray(f"{self.cls.__name__}.{field.name}", type(value))
        if isinstance(value, Relationship):
            _refuse_reserved(self.cls, field)
            self.relationships[field.name] = value
            self.annotations[field.name] = (field.annotation, field.scope)
            return None
        column = as_declared(value)
        if column is not None:
            return column
        if value is None and field.annotation is not None and field.name not in vars(field.owner):
            return self._from_annotation(field)
        return None

    def _from_annotation(self, field: Field) -> MappedColumn[Any] | None:
        """Answer the column of a bare ``name: Mapped[str]``."""
        argument = self._argument(field)
        if argument is NOT_MAPPED or "__table__" in vars(self.cls):
            return None
        self._refuse_bare_relation(field, argument)
        return MappedColumn(Column())

    def _argument(self, field: Field) -> Any:
        """Answer what stands in ``Mapped[...]``; an annotation that is no business of ours may be anything."""
        try:
            return mapped_argument(field.annotation, field.scope, where=f"{self.cls.__name__}.{field.name}")
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            if field.value is None and "Mapped" not in str(field.annotation):
                return NOT_MAPPED
            raise mistake(
                f"{self.cls.__name__}.{field.name}: the annotation {field.annotation!r} cannot be read: {error}",
                write=f"{field.name}: Mapped[str]",
            ) from error

    def _refuse_bare_relation(self, field: Field, argument: Any) -> None:
        inner = without_none(argument)
        parts = [inner, *get_args(inner)]
        for part in parts:
            if isinstance(part, type) and ("__declared__" in vars(part) or issubclass(part, Forward)):
                known = (
                    "is not defined where the class is" if issubclass(part, Forward) else "is a mapped class"
                )
                raise mistake(
                    f"{self.cls.__name__}.{field.name}: {part.__name__} {known}, and there is no relationship()",
                    write=f"{field.name}: Mapped[...] = relationship()",
                    instead="for a relation" if issubclass(part, Forward) else "",
                )

    # ------------------------------------------------------------ columns

    def _complete(self, field: Field, declared: MappedColumn[Any]) -> MappedColumn[Any]:
        column: Any = declared.column
        hint = self._hint(field)
        if hint is not NOT_MAPPED:
            self._complete_from_hint(field, declared, hint)
        column.name = column.name or field.name
        column.key = column.key or column.name
        if column.type._isnull and not has_foreign_key(column):
            raise mistake(
                f"{self.cls.__name__}.{field.name} has no type",
                write=f"{field.name}: Mapped[str] = mapped_column()",
            )
        column.type = aware(column.type)
        if declared.deferred:
            self.deferred.add(column)
        self.named[field.name] = column
        return declared

    def _hint(self, field: Field) -> Any:
        """Answer what stands in the annotation's ``Mapped[...]``; an annotation without is a mistake."""
        if field.annotation is None:
            return NOT_MAPPED
        hint = self._argument(field)
        if hint is NOT_MAPPED and not self.allows_unmapped and get_origin(field.annotation) is not ClassVar:
            shown = field.annotation if isinstance(field.annotation, str) else _shown(field.annotation)
            raise mistake(
                f"{self.cls.__name__}.{field.name}: the annotation lacks Mapped",
                write=f"{field.name}: Mapped[{shown}] = mapped_column()",
            )
        return hint

    def _complete_from_hint(self, field: Field, declared: MappedColumn[Any], hint: Any) -> None:
        column: Any = declared.column
        if not declared.nullable_given:
            column.nullable = allows_none(hint)
        for extra in annotated_columns(hint):
            given = declared.nullable_given
            declared.take_from(extra)
            if not given and not extra.nullable_given:
                column.nullable = allows_none(hint) and not column.primary_key
        inferred = infer_type(hint, self.registry.type_annotation_map)
        if not column.type._isnull:
            return
        if has_foreign_key(column):
            if inferred is not None:
                self.hints[column] = inferred
        elif inferred is None:
            raise self._no_type(field, hint)
        else:
            column._set_type(inferred)

    def _no_type(self, field: Field, hint: Any) -> Exception:
        shown = _shown(hint)
        inner = without_none(hint)
        if isinstance(inner, type) and issubclass(inner, Forward):
            return mistake(
                f"{self.cls.__name__}.{field.name}: the name {inner.path!r} is not defined where the class is",
                write=f"from ... import {inner.path.partition('.')[0]}",
            )
        if isinstance(hint, TypeEngine) or (isinstance(hint, type) and issubclass(hint, TypeEngine)):
            return mistake(
                f"{self.cls.__name__}.{field.name}: {shown} is an SQL type; Mapped takes a Python type",
                write=f"{field.name}: Mapped[str] = mapped_column({shown})",
            )
        return mistake(
            f"{self.cls.__name__}.{field.name}: no column type is known for {shown}",
            write=f"{field.name}: Mapped[{shown}] = mapped_column(JSON)",
            instead="the column type, for example",
        )

    # ------------------------------------------------------------ table

    def table(self, columns: list[Column[Any]]) -> Any:
        """Answer the class's table: the one given whole, or one made of the columns."""
        given = getattr(self.cls, "__table__", None)
        if given is not None:
            return self._given_table(given, columns)
        name = getattr(self.cls, "__tablename__", None)
        if name is None:
            raise mistake(
                f"{self.cls.__name__} has no table", write=f'__tablename__ = "{self.cls.__name__.lower()}s"'
            )
        args, options = table_args(self.cls)
        metadata = self.cls.metadata
        schema = options.get("schema", metadata.schema)
        path = f"{schema}.{name}" if schema else name
        if path in metadata.tables and not options.keys() & {"extend_existing", "keep_existing"}:
            raise self._duplicate_table(path)
        try:
            return Table(name, metadata, *columns, *args, **options)
        except ArgumentError as error:
            metadata.remove(metadata.tables[path]) if path in metadata.tables else None
            raise mistake(
                f"{self.cls.__name__}: {error}", write=f'Table("{name}", ...)', instead="what is valid in"
            ) from error

    def _duplicate_table(self, path: str) -> Exception:
        users = [
            cls.__name__
            for cls, d in self.registry.declared.items()
            if getattr(d.mapper.table, "fullname", "") == path
        ]
        used = f" by {users[0]}" if users else ""
        return mistake(
            f"{self.cls.__name__}: the table {path!r} is already declared{used}",
            write=f'__tablename__ = "{path}_2"',
            instead="another name:",
        )

    def _given_table(self, given: Any, columns: list[Column[Any]]) -> Any:
        if not isinstance(given, FromClause):
            raise mistake(
                f"{self.cls.__name__}.__table__ is not a table",
                write='__table__ = Table("name", Base.metadata, ...)',
            )
        if not isinstance(given, Table):
            raise later(f"{self.cls.__name__}: a __table__ that is a {type(given).__name__}")
        for column in columns:
            if not given.c.contains_column(column):
                raise mistake(
                    f"{self.cls.__name__}: the column {column.key!r} is not in the given __table__",
                    write=f"{column.key} = __table__.c.{next(iter(given.c)).key}",
                )
        return given


def annotated_columns(hint: Any) -> Iterator[MappedColumn[Any]]:
    """Yield the `mapped_column` inside ``Annotated[...]``, also behind an alias or ``| None``."""
    hint = without_none(hint)
    if is_alias(hint):
        yield from annotated_columns((get_origin(hint) or hint).__value__)
    elif get_origin(hint) is Annotated:
        found = [part for part in get_args(hint)[1:] if isinstance(part, MappedColumn)]
        yield from found[:1]


def table_args(cls: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Answer ``__table_args__`` as positional and keyword arguments of ``Table``."""
    written = getattr(cls, "__table_args__", None)
    if written is None:
        return (), {}
    if isinstance(written, dict):
        return (), dict(written)
    if not isinstance(written, tuple):
        raise mistake(
            f"{cls.__name__}.__table_args__ is a {type(written).__name__}",
            write="__table_args__ = (Index(...),)",
        )
    if written and isinstance(written[-1], dict):
        return written[:-1], dict(written[-1])
    return written, {}


def _refuse_reserved(cls: type[Any], field: Field) -> None:
    if field.name in RESERVED:
        raise mistake(
            f"{cls.__name__}.{field.name}: the name {field.name!r} is taken by the base class",
            write=f'{field.name}_: Mapped[...] = mapped_column("{field.name}")',
        )


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
