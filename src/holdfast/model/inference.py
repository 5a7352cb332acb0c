"""Which SQL type a Python type means: the table, and the order in which it is asked.

``type_annotation_map`` of the base is asked before the table at every step, and the whole annotation
before its parts: an alias or ``Annotated`` first as such, then what it stands for; a generic such as
``dict[str, Any]`` first as such, then ``dict``.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, get_args, get_origin
from uuid import UUID

from sqlalchemy import (
    JSON,
    Boolean,
    Date,
    Double,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Time,
    Uuid,
)
from sqlalchemy.types import ARRAY, DateTime, PickleType, TypeDecorator, TypeEngine, to_instance
from typing_extensions import TypeAliasType

from .annotations import is_alias, without_none
from .types import AwareDateTime

TYPES: Mapping[Any, Any] = {
    bool: Boolean,
    int: Integer,
    float: Double,
    Decimal: Numeric,
    str: String,
    bytes: LargeBinary,
    datetime: AwareDateTime,
    date: Date,
    time: Time,
    timedelta: Interval,
    UUID: Uuid,
    enum.Enum: Enum(enum.Enum),
    Literal: Enum(enum.Enum),
    dict: JSON,
    list: JSON,
}


def infer_type(hint: Any, custom: Mapping[Any, Any]) -> TypeEngine[Any] | None:
    """Answer the SQL type of an annotation, or None where none is known."""
    for candidate in _readings(hint):
        for key, python_type in _keys(candidate):
            found = _lookup(key, custom)
            resolved = found and found._resolve_for_python_type(
                python_type, key, key if key is not Literal else python_type
            )
            if resolved:
                return aware(resolved)
    return None


def _readings(hint: Any) -> Iterator[Any]:
    hint = without_none(hint)
    yield hint
    if is_alias(hint):
        yield from _readings(_alias_value(hint))
    elif get_origin(hint) is Annotated:
        yield from _readings(get_args(hint)[0])
    elif isinstance(hint, NewType):
        yield from _readings(hint.__supertype__)


def _alias_value(hint: Any) -> Any:
    if isinstance(hint, TypeAliasType) or get_origin(hint) is None:
        return hint.__value__
    return get_origin(hint).__value__[get_args(hint)]


def _keys(hint: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (key to look up, Python type that the SQL type is asked to stand for)."""
    origin = get_origin(hint)
    if origin is Literal:
        yield from ((hint, hint), (Literal, hint))
    elif origin is not None:
        yield from ((hint, hint), (origin, origin))
    elif typing.is_typeddict(hint):
        yield from ((hint, hint), (dict, dict))
    elif isinstance(hint, type):
        yield from ((base, hint) for base in hint.__mro__)
    else:
        yield hint, hint


def _lookup(key: Any, custom: Mapping[Any, Any]) -> Any:
    try:
        found = custom.get(key)
        found = TYPES.get(key) if found is None else found
    except TypeError:  # an annotation that cannot be hashed
        return None
    return None if found is None else to_instance(found)


def aware(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Answer the type a column gets: a plain `DateTime` becomes `AwareDateTime`."""
    if type(type_) is DateTime and not type_._variant_mapping:
        return AwareDateTime()
    return type_


def can_change_in_place(type_: TypeEngine[Any]) -> bool:
    """Say whether values of a type are mutable Python objects (JSON, arrays, pickles)."""
    if isinstance(type_, (JSON, ARRAY, PickleType)) or type_.__visit_name__ == "HSTORE":
        return True
    if isinstance(type_, TypeDecorator) and can_change_in_place(type_.impl_instance):
        return True
    return any(can_change_in_place(variant) for variant in type_._variant_mapping.values())
