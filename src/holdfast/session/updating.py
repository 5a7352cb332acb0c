"""Changed objects become updated rows: one statement for all of a class that changed the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement, select, update

from holdfast.errors import ReturningNotSupported
from holdfast.model import MISSING, Mapper
from holdfast.native import changed, take, values_of
from holdfast.steps import Operation

from .inserting import by_expression, has_expression, take_back
from .settle import settle_updated
from .shape import Shape
from .versions import compared, condition, raise_versions, stale

if TYPE_CHECKING:
    from .core import SessionCore
    from .writes import Writer


def update_objects(
    core: SessionCore, writer: Writer, shape: Shape, changes: dict[tuple[str, ...], list[Any]]
) -> Operation[None]:
    """Update the rows of changed objects of one class, by which columns changed."""
    for names, group in changes.items():
        held = values_of(group)
        values = [take(held, name) for name in names]
        if not shape.inline_updates and not has_expression(values):
            yield from _update_group(core, writer, shape, names, group, values)
            continue
        plain, special = ([], group) if shape.inline_updates else by_expression(group, names)
        if plain:
            held = values_of(plain)
            values = [take(held, name) for name in names]
            yield from _update_group(core, writer, shape, names, plain, values)
        for instance in special:
            yield from _update_expression(core, shape, names, instance)


def by_changes(core: SessionCore, shape: Shape, instances: list[Any]) -> dict[tuple[str, ...], list[Any]]:
    """Group by which columns changed, in the order of the table."""
    columns = shape.mapper.columns
    if core.deleted or core.new:
        skipped = core.deleted.keys() | core.new.keys()
        instances = [one for one in instances if id(one) not in skipped]
    found = changed(instances, core.dirty, columns, MISSING, ClauseElement)
    if shape.updates:
        found = _with_updates(core, shape, found)
    if shape.mapper.version is not None:
        found = raise_versions(core, shape.mapper, found)
    groups: dict[tuple[str, ...], list[Any]] = {}
    for said, group in found.items():
        groups.setdefault(tuple(name for name in columns if name in said), []).extend(group)
    return groups


def _with_updates(core: SessionCore, shape: Shape, found: Any) -> Any:
    """Columns that change with every update (``onupdate``)."""
    wider: dict[tuple[str, ...], list[Any]] = {}
    for names, group in found.items():
        more = [name for name in shape.updates if name not in names]
        for name in more:
            for instance in group:
                core.write_value(instance, name, shape.updates[name]())
        wider.setdefault((*names, *more), []).extend(group)
    return wider


def changed_columns(core: SessionCore, columns: Any, instance: Any) -> list[str]:
    """Attributes whose value differs from the row's, keys among them."""
    change = core.dirty.get(id(instance))
    if change is None or id(instance) in core.deleted or id(instance) in core.new:
        return []
    values = instance.__dict__
    return [
        name
        for name, before in change.originals.items()
        if name in columns and (now := values.get(name, MISSING)) is not before and differs(before, now)
    ]


def differs(before: Any, now: Any) -> bool:
    """Whether a value is another one; an SQL expression always is."""
    if before is now or now is MISSING:
        return False
    if before is MISSING or isinstance(now, ClauseElement):
        return True
    return bool(before != now)


def _update_group(
    core: SessionCore,
    writer: Writer,
    shape: Shape,
    names: tuple[str, ...],
    instances: list[Any],
    values: list[list[Any]],
) -> Operation[None]:
    mapper, columns = shape.mapper, shape.mapper.columns
    for name, column in zip(names, values, strict=True):
        if columns[name].foreign_keys:  # filled in since it was judged, maybe
            shape.judge_missing(name, column)
    renewed = [name for name in shape.renewed if name not in names]
    count, rows = yield from writer.update(
        mapper.table,
        *compared(core, mapper, row_keys(core, mapper, instances, names), instances),
        [columns[name] for name in names],
        values,
        [columns[name] for name in renewed],
        width=len(mapper.primary_key),
    )
    if count != len(instances):
        raise stale(mapper, len(instances), count, "updated")
    if renewed:
        _take_renewed(mapper, instances, renewed, rows)
    settle_updated(core, mapper, instances, names)


def row_keys(
    core: SessionCore, mapper: Mapper, instances: list[Any], written: tuple[str, ...]
) -> list[Sequence[Any]]:
    """The keys of the objects' rows by column: as they were, where a key itself changed."""
    if any(name in written for name in mapper.primary_key):
        return list(zip(*(core.row_key(mapper, instance) for instance in instances), strict=True))
    held = values_of(instances)
    return [take(held, name) for name in mapper.primary_key]


def _take_renewed(mapper: Mapper, instances: list[Any], renewed: list[str], rows: list[Any]) -> None:
    """Rows come back in any order, with the keys and the version they have now."""
    width = len(mapper.primary_key)
    if mapper.version is not None:
        renewed = [mapper.version.name, *renewed]
    by_key = {tuple(row[:width]): row[width:] for row in rows}
    held = values_of(instances)
    found = [by_key[tuple(values[name] for name in mapper.primary_key)] for values in held]
    take_back(mapper, held, renewed, found)


def _update_expression(
    core: SessionCore, shape: Shape, names: tuple[str, ...], instance: Any
) -> Operation[None]:
    """An object with an SQL expression for a value is written by itself, and the value read back."""
    mapper, values = shape.mapper, instance.__dict__
    sent = {mapper.columns[name]: values[name] for name in names}
    sent |= {mapper.columns[name]: e for name, e in shape.inline_updates.items() if name not in names}
    computed = [name for name in names if isinstance(values[name], ClauseElement)]
    back = list(dict.fromkeys([*computed, *shape.renewed, *mapper.primary_key]))
    found = condition(core, mapper, instance)
    statement = update(mapper.table).where(found).values(sent)
    columns = [mapper.columns[name] for name in back]
    if core.backend.capabilities.update_returning:
        rows = yield from core.run_core(statement.returning(*columns))
    else:
        rows = yield from _update_and_ask(core, mapper, instance, statement, sent, columns)
    if len(rows) != 1:
        raise stale(mapper, 1, len(rows), "updated")
    take_back(mapper, [values], back, rows)
    settle_updated(core, mapper, [instance], names)


def _update_and_ask(
    core: SessionCore, mapper: Mapper, instance: Any, statement: Any, sent: dict[Any, Any], columns: list[Any]
) -> Operation[list[Any]]:
    """Update a row, and ask for what it has now, where UPDATE does not tell."""
    keys = [mapper.columns[name] for name in mapper.primary_key]
    if any(isinstance(sent.get(column), ClauseElement) for column in keys):
        raise ReturningNotSupported(
            server=core.backend.capabilities.server,
            feature="UPDATE ... RETURNING",
            mend=f"Give the key of {mapper.name} a plain value, not an SQL expression.",
        )
    before = core.row_key(mapper, instance)
    count = yield from core.run_count(statement)
    if count != 1:
        raise stale(mapper, 1, count, "updated")
    now = [sent.get(column, value) for column, value in zip(keys, before, strict=True)]
    found = select(*columns).where(*(column == value for column, value in zip(keys, now, strict=True)))
    return (yield from core.run_core(found))
