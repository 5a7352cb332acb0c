"""From the bound parameters of a statement to the driver's positional parameters.

The usual statement gets a generated function that reads each value by its place in the cache key.  A statement
with IN lists, or with values given by name, takes the general road through SQLAlchemy's own expansion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter

from holdfast.errors import HoldfastError, InvalidRequestError, WrongType

from .plan import Bind
from .types import bind_processor


def make_bind(compiled: SQLCompiler, listed: Sequence[BindParameter[Any]]) -> Bind:
    """A function from (bound parameters, values by name) to (SQL, positional parameters).

    A value that its type cannot turn into a parameter becomes an error without the value.
    """
    bind = _make_bind(compiled, listed)

    def guarded(bound: Sequence[Any], named: Mapping[str, Any] | None) -> tuple[str, Sequence[Any]]:
        try:
            return bind(bound, named)
        except HoldfastError:
            raise
        except _REFUSALS as error:
            refused = error
        raise WrongType(statement=compiled.string, orig=refused)

    return guarded


_REFUSALS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""What the bind processors of SQLAlchemy's types raise."""


def _make_bind(compiled: SQLCompiler, listed: Sequence[BindParameter[Any]]) -> Bind:
    general = _general_bind(compiled, listed)
    if compiled.post_compile_params or compiled.literal_execute_params or compiled.insert_prefetch:
        return general
    if compiled.update_prefetch:
        return general
    places = _places(compiled, listed)
    quick = _quick_reader(compiled, places)
    sql = compiled.string
    required = any(b.required for b in compiled.binds.values())

    def bind(bound: Sequence[Any], named: Mapping[str, Any] | None) -> tuple[str, Sequence[Any]]:
        if named or required:
            return general(bound, named)
        return sql, quick(bound)

    return bind


def _places(compiled: SQLCompiler, listed: Sequence[BindParameter[Any]]) -> dict[str, int]:
    """The place in the cache key's list for each name in the compiled statement."""
    by_key = {bound.key: index for index, bound in enumerate(listed)}
    places: dict[str, int] = {}
    for bound, name in compiled.bind_names.items():
        for relative in bound._cloned_set:
            if relative.key in by_key:
                places[name] = by_key[relative.key]
                break
    return places


def _quick_reader(compiled: SQLCompiler, places: Mapping[str, int]) -> Any:
    values: dict[str, Any] = {}
    parts = []
    for number, name in enumerate(compiled.positiontup or ()):
        bound = compiled.binds[name]
        if name in places:
            text = f"b[{places[name]}].effective_value"
        else:
            values[f"k{number}"] = bound.effective_value
            text = f"k{number}"
        processor = bind_processor(bound.type, compiled.dialect)
        if processor is not None:
            values[f"p{number}"] = processor
            text = f"p{number}({text})"
        parts.append(text)
    source = f"lambda b: ({', '.join(parts)}{',' if parts else ''})"
    return eval(source, values)


def _general_bind(compiled: SQLCompiler, listed: Sequence[BindParameter[Any]]) -> Bind:
    places = _places(compiled, listed)
    prefetch = [*compiled.insert_prefetch, *compiled.update_prefetch]
    names_of = {bound.key: name for bound, name in compiled.bind_names.items()}
    inserting = bool(compiled.insert_prefetch)

    def bind(bound: Sequence[Any], named: Mapping[str, Any] | None) -> tuple[str, Sequence[Any]]:
        values = _collect(compiled, places, bound, named or {})
        for column in prefetch:
            key = names_of.get(column.key, column.key)
            if named is None or column.key not in named:
                values[key] = _default_value(column, inserting, values)
        state = compiled._process_parameters_for_postcompile(values)
        processors: dict[str, Any] = {**compiled._bind_processors, **state.processors}
        ordered = [
            values[name] if (processor := processors.get(name)) is None else processor(values[name])
            for values in (state.parameters,)
            for name in state.positiontup or ()
        ]
        return state.statement, ordered

    return bind


def _collect(
    compiled: SQLCompiler, places: Mapping[str, int], bound: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for parameter, name in compiled.bind_names.items():
        if parameter.key in named:
            values[name] = named[parameter.key]
        elif name in places and not bound[places[name]].required:
            values[name] = bound[places[name]].effective_value
        elif parameter.required:
            raise InvalidRequestError(
                f"The statement has a parameter {parameter.key!r} and no value for it.",
                mend=f"Give it: execute(statement, {{{parameter.key!r}: ...}}).",
            )
        else:
            values[name] = parameter.effective_value
    return values


def _default_value(column: Any, inserting: bool, values: Mapping[str, Any]) -> Any:
    default = column.default if inserting else column.onupdate
    return default.arg(_Context(column, values)) if default.is_callable else default.arg


class _Context:
    """What a default's function may ask: the other values of its row, by SQLAlchemy's names."""

    __slots__ = ("_column", "_values")

    def __init__(self, column: Any, values: Mapping[str, Any]) -> None:
        self._column = column
        self._values = values

    @property
    def current_parameters(self) -> dict[str, Any]:
        return self.get_current_parameters()

    def get_current_parameters(self, isolate_multiinsert_params: bool = True) -> dict[str, Any]:
        """Answer the values of the row; of a row of several, by their own names where that is asked."""
        values = dict(self._values)
        if not isolate_multiinsert_params or not any(name.endswith("_m0") for name in values):
            return values
        index = getattr(self._column, "index", -1) + 1  # SQLAlchemy numbers the rows after the first
        return {
            name.removesuffix(f"_m{index}"): v for name, v in values.items() if name.endswith(f"_m{index}")
        }
