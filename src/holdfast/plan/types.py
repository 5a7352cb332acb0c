"""How a dialect turns values into parameters and columns into values.

SQLAlchemy's types ask for the driver's type code when a row arrives.  We ask once, when the plan is
made, so the few types whose answer depends on that code are settled here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

Processor = Callable[[Any], Any]

_FLOAT8, _NUMERIC = 701, 1700  # PostgreSQL's type codes, which SQLAlchemy's number types ask for

_KNOWN_BINARY = frozenset(
    [
        "string",
        "VARCHAR",
        "text",
        "TEXT",
        "CHAR",
        "NCHAR",
        "NVARCHAR",
        "unicode",
        "unicode_text",
        "integer",
        "INTEGER",
        "small_integer",
        "SMALLINT",
        "big_integer",
        "BIGINT",
        "boolean",
        "BOOLEAN",
        "float",
        "FLOAT",
        "REAL",
        "double",
        "DOUBLE",
        "DOUBLE_PRECISION",
        "numeric",
        "NUMERIC",
        "DECIMAL",
        "datetime",
        "DATETIME",
        "TIMESTAMP",
        "date",
        "DATE",
        "time",
        "TIME",
        "interval",
        "INTERVAL",
        "uuid",
        "UUID",
        "large_binary",
        "BYTEA",
        "JSON",
        "JSONB",
    ]
)
"""Types by the name SQLAlchemy gives them.  A subclass for a type of an extension (CITEXT) has a name of its own."""


def result_processor(type_: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """What turns a driver's value into the Python value; None when they are the same."""
    inner = type_.dialect_impl(dialect)
    if dialect.name == "postgresql" and isinstance(inner, sqltypes.NumericCommon):
        return _number_processor(inner)
    if isinstance(inner, sqltypes.ARRAY) and isinstance(inner.item_type, (sqltypes.Numeric, sqltypes.Float)):
        return inner.result_processor(
            dialect, _FLOAT8 if isinstance(inner.item_type, sqltypes.Float) else _NUMERIC
        )
    return type_._cached_result_processor(dialect, None)


def _number_processor(type_: sqltypes.NumericCommon[Any]) -> Processor | None:
    """PostgreSQL gives numeric as Decimal and double precision as float, whatever was asked for."""
    if type_.asdecimal:
        return _to_decimal if isinstance(type_, sqltypes.Float) else None
    return _to_float


def _to_decimal(value: Any) -> Any:
    return Decimal(repr(value)) if type(value) is float else value


def _to_float(value: Any) -> Any:
    return float(value) if type(value) is Decimal else value


def bind_processor(type_: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """What turns a Python value into the driver's parameter; None when they are the same."""
    return type_._cached_bind_processor(dialect)


def has_binary_form(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether the type's binary wire form is one that every driver reads."""
    impl = type_.dialect_impl(dialect)
    if isinstance(impl, sqltypes.TypeDecorator):
        impl = impl.impl_instance
    if isinstance(impl, sqltypes.Enum):
        return not impl.native_enum
    return impl.__visit_name__ in _KNOWN_BINARY and _declared(type_).__visit_name__ in _KNOWN_BINARY


def _declared(type_: TypeEngine[Any]) -> Any:
    inner: Any = type_
    while isinstance(inner, sqltypes.TypeDecorator) and not isinstance(inner, sqltypes.Interval):
        inner = inner.impl_instance
    return inner
