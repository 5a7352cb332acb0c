"""How a column is declared: ``Mapped[...]`` on the left, ``mapped_column()`` on the right.

To a type checker `Mapped` is a descriptor: ``User.name`` is an SQL expression, ``user.name`` the value.
At run time it is a mark in an annotation, and the class attribute becomes a non-data descriptor
(see `attributes`), so that a loaded value is found in the instance's ``__dict__``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from sqlalchemy import Column, ColumnElement, ForeignKey
from sqlalchemy.schema import FetchedValue, SchemaItem
from sqlalchemy.sql import roles
from sqlalchemy.sql.elements import SQLColumnExpression
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine

from .comparing import EntityColumn
from .messages import later

if TYPE_CHECKING:
    from sqlalchemy.sql._typing import _ColumnExpressionArgument
    from sqlalchemy.sql.elements import SQLCoreOperations

T = TypeVar("T")
T_co = TypeVar("T_co", bound=Any, covariant=True)


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


UNSET: Any = _Unset()


class InstrumentedAttribute(
    SQLColumnExpression[T_co], roles.DDLConstraintColumnRole, roles.JoinTargetRole, roles.OnClauseRole
):
    """What ``User.name`` and ``User.posts`` are to a type checker: an SQL expression of the value's type."""

    __slots__ = ()

    if TYPE_CHECKING:
        key: str
        name: str

        def any(
            self, criterion: _ColumnExpressionArgument[bool] | None = None, **values: Any
        ) -> ColumnElement[bool]:
            """Ask whether a to-many relation holds an object (for which the criterion is true)."""
            ...

        def has(
            self, criterion: _ColumnExpressionArgument[bool] | None = None, **values: Any
        ) -> ColumnElement[bool]:
            """Ask whether a to-one relation holds an object (for which the criterion is true)."""
            ...

        def of_type(self, entity: Any) -> InstrumentedAttribute[T_co]:
            """Take the relation to an alias of its target."""
            ...

        def and_(self, *criteria: _ColumnExpressionArgument[bool]) -> InstrumentedAttribute[T_co]:
            """Narrow the relation for one join or load."""
            ...


class Mapped(SQLColumnExpression[T_co], roles.DDLConstraintColumnRole):
    """Mark an attribute as mapped: ``name: Mapped[str]``, ``posts: Mapped[list["Post"]]``."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[T_co]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T_co: ...
        def __get__(self, instance: object | None, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: SQLCoreOperations[T_co] | T_co) -> None: ...
        def __delete__(self, instance: Any) -> None: ...


class MappedColumn(Mapped[T_co]):
    """A column as declared; what `mapped_column` returns."""

    __slots__ = ("column", "default_given", "deferred", "nullable_given", "sort_order")

    column: Column[Any]

    def __init__(
        self, column: Column[Any], *, nullable_given: bool = False, default_given: bool = False
    ) -> None:
        self.column = column
        self.nullable_given = nullable_given
        self.default_given = default_given
        self.deferred: bool | None = None
        self.sort_order: int | None = None

    def copy(self) -> MappedColumn[T_co]:
        """Make the column of another class, for a mixin."""
        twin = MappedColumn[T_co](
            self.column._copy(), nullable_given=self.nullable_given, default_given=self.default_given
        )
        twin.deferred, twin.sort_order = self.deferred, self.sort_order
        return twin

    def take_from(self, other: MappedColumn[Any]) -> None:
        """Fill what is not said here from a `mapped_column` inside ``Annotated``."""
        other.column._merge(self.column, omit_defaults=self.default_given)
        self.nullable_given = self.nullable_given or other.nullable_given
        if self.deferred is None:
            self.deferred = other.deferred
        if self.sort_order is None:
            self.sort_order = other.sort_order

    def __clause_element__(self) -> Column[Any]:
        return self.column

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> Any:
        """Build an expression of the column, for ``Index`` and ``primaryjoin`` in the class body."""
        return op(self.column, *other, **kwargs)

    def reverse_operate(self, op: OperatorType, other: Any, **kwargs: Any) -> Any:
        """Build an expression with the column on the right."""
        return self.column.reverse_operate(op, other, **kwargs)

    __sa_operate__ = operate

    def __repr__(self) -> str:
        return f"<mapped_column {self.column!r}>"


DATACLASS_ARGUMENTS = ("init", "repr", "default_factory", "compare", "kw_only", "hash", "dataclass_metadata")


def mapped_column(
    __name_or_type: str | type[TypeEngine[Any]] | TypeEngine[Any] | SchemaItem | None = None,
    __type: type[TypeEngine[Any]] | TypeEngine[Any] | SchemaItem | None = None,
    /,
    *args: SchemaItem,
    name: str | None = UNSET,
    type_: type[TypeEngine[Any]] | TypeEngine[Any] | None = UNSET,
    primary_key: bool = UNSET,
    nullable: bool | None = UNSET,
    default: Any = UNSET,
    insert_default: Any = UNSET,
    server_default: Any = UNSET,
    onupdate: Any = UNSET,
    server_onupdate: FetchedValue | None = UNSET,
    index: bool | None = UNSET,
    unique: bool | None = UNSET,
    key: str | None = UNSET,
    comment: str | None = UNSET,
    autoincrement: bool | Literal["auto", "ignore_fk"] = UNSET,
    info: dict[Any, Any] | None = UNSET,
    doc: str | None = UNSET,
    quote: bool | None = UNSET,
    system: bool = UNSET,
    deferred: bool | None = None,
    deferred_group: str | None = None,
    deferred_raiseload: bool | None = None,
    sort_order: int | None = None,
    use_existing_column: bool = False,
    active_history: bool = False,
    init: Any = UNSET,
    repr: Any = UNSET,  # noqa: A002 - SQLAlchemy's name
    default_factory: Callable[[], Any] = UNSET,
    compare: Any = UNSET,
    kw_only: Any = UNSET,
    hash: Any = UNSET,  # noqa: A002 - SQLAlchemy's name
    dataclass_metadata: Mapping[Any, Any] | None = UNSET,
    **dialect_options: Any,
) -> MappedColumn[Any]:
    """Declare a column; takes everything SQLAlchemy's ``Column`` takes.

    ``deferred=True`` leaves the column out of loads until it is touched or asked for.
    The type may be left out where ``Mapped[...]`` or a foreign key says it.
    ``sort_order`` moves the column within the table, 0 being where it stands.
    The dataclass arguments (``init``, ``repr``, ``default_factory`` …) raise `NotSupported`.
    """
    given = {name: value for name, value in locals().items() if value is not UNSET}
    refuse_dataclass_arguments("mapped_column", given)
    options = {name: given[name] for name in COLUMN_OPTIONS if name in given}
    positional: list[Any] = [part for part in (__name_or_type, __type) if part is not None]
    declared: MappedColumn[Any] = MappedColumn(
        EntityColumn(*positional, *args, **options, **dialect_options),
        nullable_given=given.get("nullable") is not None,
        default_given="default" in given or "insert_default" in given,
    )
    declared.sort_order = sort_order
    declared.deferred = True if deferred is None and (deferred_group or deferred_raiseload) else deferred
    return declared


COLUMN_OPTIONS = (
    *("name", "type_", "primary_key", "nullable", "default", "insert_default", "server_default", "onupdate"),
    *(
        "server_onupdate",
        "index",
        "unique",
        "key",
        "comment",
        "autoincrement",
        "info",
        "doc",
        "quote",
        "system",
    ),
)


def refuse_dataclass_arguments(function: str, given: Mapping[str, Any]) -> None:
    """Raise for arguments that only mean something where a model is a dataclass."""
    for name in DATACLASS_ARGUMENTS:
        if given.get(name, UNSET) is not UNSET:
            raise later(
                f"{function}({name}=...), which belongs to MappedAsDataclass,", write=f"{function}(...)"
            )


def as_declared(value: Any) -> MappedColumn[Any] | None:
    """Answer a class attribute as a declared column, or None where it is not one."""
    if isinstance(value, MappedColumn):
        return value
    if isinstance(value, Column):
        return MappedColumn(value, nullable_given=True, default_given=value.default is not None)
    return None


def has_foreign_key(column: Column[Any]) -> bool:
    """Say whether a foreign key will give the column its type."""
    return any(isinstance(key, ForeignKey) for key in column.foreign_keys)
