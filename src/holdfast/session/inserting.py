"""New objects become rows: one statement for all of a class that leave the same columns to the server.

Work goes by column, not by object, wherever it can: types, lengths and missing values of a thousand objects are
looked at in a handful of passes in C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement, func, insert, select

from holdfast.errors import MissingKey, StaleDataError
from holdfast.model import RAW, Mapper
from holdfast.native import kinds, settle, values_of
from holdfast.steps import Operation

from .settle import settle_inserted
from .shape import Shape

if TYPE_CHECKING:
    from .core import SessionCore
    from .writes import Writer

Held = list[dict[str, Any]]
Columns = dict[str, list[Any]]
"""Values of the objects of one class, by attribute."""


def insert_objects(
    core: SessionCore, writer: Writer, shape: Shape, instances: list[Any], judged: Columns | None = None
) -> Operation[None]:
    """Insert objects of one class; their foreign keys are set already, and what they were is kept.

    ``judged`` are their values, where those are still what was judged: plain ones, all there.
    """
    held = values_of(instances)
    groups = _by_omitted(shape, instances, held)
    for omitted, group in groups.items():
        yield from _insert_group(core, writer, shape, omitted, group, judged if len(groups) == 1 else None)


def fill_defaults(shape: Shape, held: Held) -> None:
    """Python's defaults stand in for what was not set, and for a key that is None."""
    for name, make in shape.defaults.items():
        is_key = name in shape.mapper.primary_key
        for values in held:
            if name not in values or (is_key and values[name] is None):
                values[name] = make()


def _by_omitted(shape: Shape, instances: list[Any], held: Held) -> dict[tuple[str, ...], list[Any]]:
    """Group by which columns are left to the server; mostly that is one group."""
    lacks = [
        [values.get(name) is None for values in held]
        if name in shape.mapper.primary_key
        else [name not in values for values in held]
        for name in shape.left_out
    ]
    if all(len(set(column)) == 1 for column in lacks):
        return {
            tuple(name for name, column in zip(shape.left_out, lacks, strict=True) if column[0]): instances
        }
    groups: dict[tuple[str, ...], list[Any]] = {}
    for place, instance in enumerate(instances):
        omitted = tuple(name for name, column in zip(shape.left_out, lacks, strict=True) if column[place])
        groups.setdefault(omitted, []).append(instance)
    return groups


def _insert_group(
    core: SessionCore,
    writer: Writer,
    shape: Shape,
    omitted: tuple[str, ...],
    instances: list[Any],
    judged: Columns | None = None,
) -> Operation[None]:
    mapper = shape.mapper
    names = [name for name in shape.sent if name not in omitted]
    held = values_of(instances)
    values = [settle(held, name) for name in names] if judged is None else [judged[name] for name in names]
    if judged is None and has_expression(values):
        plain, special = by_expression(instances, names)
        if plain:
            yield from _insert_group(core, writer, shape, omitted, plain)
        for instance in special:
            yield from _insert_expression(core, shape, omitted, instance)
        return
    for name, column in zip(names, values, strict=True) if judged is None else ():
        if mapper.columns[name].foreign_keys:  # filled in since it was judged
            shape.judge_missing(name, column)
    rows = yield from _send(writer, shape, omitted, names, values, len(instances))
    take_back(mapper, held, [*omitted, *shape.computed], rows)
    settle_inserted(core, mapper, instances)


def _send(
    writer: Writer,
    shape: Shape,
    omitted: tuple[str, ...],
    names: list[str],
    values: list[list[Any]],
    count: int,
) -> Operation[list[Any]]:
    mapper, columns = shape.mapper, shape.mapper.columns
    unset = [name for name in mapper.primary_key if name not in omitted and name not in names]
    if unset:
        raise MissingKey(model=mapper.name, name=unset[0])
    returned = [columns[name] for name in (*omitted, *shape.computed)]
    inline = [(columns[name], shape.inline[name]) for name in omitted if name in shape.inline]
    sent = [columns[name] for name in names]
    rows = yield from writer.insert(mapper.table, sent, values, count, returned, inline)
    if returned and len(rows) != count:
        raise StaleDataError(
            f"{count} rows of {mapper.table.name} were sent and {len(rows)} inserted",
            mend="A trigger or rule left some out; insert those with session.execute(insert(...)).",
            may_pass=False,
        )
    return rows


def take_back(mapper: Mapper, held: Held, names: Sequence[str], rows: Sequence[Any]) -> None:
    """Give objects what the server filled in."""
    if len(names) == 1 and names[0] not in mapper.mutable:
        name = names[0]
        for values, (value,) in zip(held, rows, strict=True):
            values[name] = value
        return
    for values, row in zip(held, rows, strict=True) if names else ():
        for name, value in zip(names, row, strict=True):
            if name in mapper.mutable:
                values.pop(name, None)  # was an expression, maybe; the next read copies what came back
                values[RAW + name] = value
            else:
                values[name] = value


# ---------------------------------------------------------------- SQL expressions for values


def has_expression(values: Sequence[Sequence[Any]]) -> bool:
    """Whether any value is an SQL expression; looked at by type."""
    return any(issubclass(kind, ClauseElement) for column in values for kind in kinds(column))


def by_expression(instances: list[Any], names: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """(objects of plain values, objects with an SQL expression for a value)."""
    plain: list[Any] = []
    special: list[Any] = []
    for instance in instances:
        values = instance.__dict__
        has_one = any(isinstance(values.get(name), ClauseElement) for name in names)
        (special if has_one else plain).append(instance)
    return plain, special


def _insert_expression(
    core: SessionCore, shape: Shape, omitted: tuple[str, ...], instance: Any
) -> Operation[None]:
    """An object with an SQL expression for a value is written by itself, and the value read back."""
    mapper = shape.mapper
    values = instance.__dict__
    names = [name for name in shape.sent if name not in omitted]
    plain = [name for name in names if not isinstance(values.setdefault(name, None), ClauseElement)]
    back = [*omitted, *shape.computed, *(name for name in names if name not in plain)]
    back += [name for name in mapper.primary_key if name not in back]
    columns = [mapper.columns[name] for name in back]
    statement = insert(mapper.table).values({mapper.columns[name]: values[name] for name in names})
    if core.backend.capabilities.returning:
        rows = yield from core.run_core(statement.returning(*columns))
    else:
        yield from core.run_count(statement)
        rows = yield from core.run_core(select(*columns).where(*_inserted(mapper, values, plain)))
    take_back(mapper, [values], back, rows)
    settle_inserted(core, mapper, [instance])


def _inserted(mapper: Mapper, values: dict[str, Any], plain: list[str]) -> list[Any]:
    """The key of a row just inserted, where INSERT does not tell: one part of it may be the server's."""
    keys = {name: mapper.columns[name] for name in mapper.primary_key}
    made = [name for name in keys if name not in plain]
    if made and (len(made) > 1 or keys[made[0]] is not mapper.table._autoincrement_column):
        raise MissingKey(
            f"The key of this {mapper.name} is made by the server, which cannot tell it",
            mend=f"Give {mapper.name}.{made[0]} a plain value.",
        )
    return [
        column == (func.last_insert_id() if name in made else values[name]) for name, column in keys.items()
    ]
