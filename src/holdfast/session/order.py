"""The order in which rows are written and deleted, from foreign keys alone; no statements here.

Between tables the foreign keys decide, but for those of relations with ``post_update``, which are filled after
all inserts and emptied before all deletes.  Where a table refers to itself, or tables to one another, rows decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, Table

from holdfast.errors import CircularDependencyError
from holdfast.model import Direction, Mapper, mapper_of

Read = Callable[[Any, Sequence[str]], tuple[Any, ...]]
"""Gives what an object's row holds in some attributes."""


def late_columns(mappers: Iterable[Mapper]) -> set[Column[Any]]:
    """Foreign keys that relations with ``post_update`` fill."""
    return {mapper.columns[name] for mapper, names in late_keys(mappers) for name in names}


def late_keys(mappers: Iterable[Mapper]) -> Iterator[tuple[Mapper, list[str]]]:
    """(class, attributes) of the foreign keys that relations with ``post_update`` between these classes fill."""
    known = set(mappers)
    for mapper in known:
        for relation in mapper.relations.values():
            if not relation.post_update or relation.target not in known:
                continue
            if relation.direction is Direction.MANY_TO_ONE:
                yield mapper, [mapper.attributes[local] for local, _ in relation.pairs]
            elif relation.direction is Direction.ONE_TO_MANY:
                yield relation.target, [relation.target.attributes[remote] for _, remote in relation.pairs]


def table_ranks(mappers: Iterable[Mapper]) -> dict[Mapper, int]:
    """The order in which tables are written: a table after those its foreign keys name, where there is no circle."""
    by_table: dict[Table, Mapper] = {mapper.table: mapper for mapper in mappers}
    late = late_columns(by_table.values())
    ranks: dict[Mapper, int] = {}
    waiting = dict.fromkeys(by_table)
    while waiting:
        ready = [table for table in waiting if not _names_any(table, waiting, late)] or [next(iter(waiting))]
        for table in ready:
            del waiting[table]
            ranks[by_table[table]] = len(ranks)
    return ranks


def _names_any(table: Table, others: Iterable[Table], late: set[Column[Any]]) -> bool:
    return any(
        key.column.table in others and key.column.table is not table and key.parent not in late
        for key in table.foreign_keys
    )


# ---------------------------------------------------------------- deletes


def delete_order(
    groups: dict[Mapper, list[Any]], ranks: dict[Mapper, int], read: Read
) -> list[tuple[Mapper, list[Any]]]:
    """Objects to delete, those first that no other refers to; one group per table where there is no circle."""
    mappers = sorted(groups, key=ranks.__getitem__, reverse=True)
    late = late_columns(mappers)
    tables = {mapper.table for mapper in mappers}
    done: set[Table] = set()
    for mapper in mappers:
        if any(
            _names_any(other.table, [mapper.table], late) and other.table not in done for other in mappers
        ):
            return _by_level(groups, mappers, _references(mappers, tables, late), read)
        done.add(mapper.table)
    keys = _references(mappers, tables, late)
    return [(mapper, _leaves_first(mapper, groups[mapper], keys, read)) for mapper in mappers]


def _references(
    mappers: list[Mapper], tables: set[Table], late: set[Column[Any]]
) -> dict[Mapper, list[ForeignKeyConstraint]]:
    return {
        mapper: [
            key
            for key in mapper.table.foreign_key_constraints
            if key.referred_table in tables and not late.intersection(key.columns)
        ]
        for mapper in mappers
    }


References = dict[Mapper, list[ForeignKeyConstraint]]


def _leaves_first(mapper: Mapper, instances: list[Any], keys: References, read: Read) -> list[Any]:
    if len(instances) < 2 or all(key.referred_table is not mapper.table for key in keys[mapper]):
        return instances
    levels = _by_level({mapper: instances}, [mapper], keys, read, strict=False)
    return [instance for _, group in levels for instance in group]


def _by_level(
    groups: dict[Mapper, list[Any]], mappers: list[Mapper], keys: References, read: Read, strict: bool = True
) -> list[tuple[Mapper, list[Any]]]:
    """Round by round those that none of the remaining refers to."""
    found = _row_index(groups, keys, read)
    refers = {id(i): _referred(i, keys[m], found, read) - {id(i)} for m in mappers for i in groups[m]}
    remaining = {mapper: list(groups[mapper]) for mapper in mappers}
    out: list[tuple[Mapper, list[Any]]] = []
    while any(remaining.values()):
        in_use = {place for group in remaining.values() for i in group for place in refers[id(i)]}
        ready = {m: [i for i in group if id(i) not in in_use] for m, group in remaining.items()}
        if not any(ready.values()):
            if strict:
                raise _circle(remaining)
            ready = {m: list(group) for m, group in remaining.items()}
        for mapper, group in ready.items():
            gone = set(map(id, group))
            remaining[mapper] = [i for i in remaining[mapper] if id(i) not in gone]
        out += [(mapper, group) for mapper, group in ready.items() if group]
    return out


def _row_index(groups: dict[Mapper, list[Any]], keys: References, read: Read) -> dict[Any, int]:
    """Which object has the values that a foreign key may name."""
    index: dict[Any, int] = {}
    for constraint in {key for constraints in keys.values() for key in constraints}:
        columns = tuple(element.column for element in constraint.elements)
        for mapper, group in groups.items():
            if mapper.table is constraint.referred_table:
                names = [mapper.attributes[column] for column in columns]
                index |= {(columns, read(instance, names)): id(instance) for instance in group}
    return index


def _referred(instance: Any, keys: list[ForeignKeyConstraint], index: dict[Any, int], read: Read) -> set[int]:
    mapper = mapper_of(instance)
    found = set()
    for key in keys:
        values = read(instance, [mapper.attributes[element.parent] for element in key.elements])
        place = index.get((tuple(element.column for element in key.elements), values))
        if place is not None:
            found.add(place)
    return found


def _circle(remaining: dict[Mapper, list[Any]]) -> CircularDependencyError:
    names = ", ".join(sorted(mapper.name for mapper, group in remaining.items() if group))
    return CircularDependencyError(
        f"Objects of {names} refer to one another, so that none can be deleted first",
        mend="Write relationship(..., post_update=True) on one side of the circle.",
    )
