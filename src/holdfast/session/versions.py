"""Versions: what a flush compares and raises, and when a loaded object may take a newer one.

The rule of all: an object's version is never newer than any of its values.  Then a write of a value that was read
before somebody else's change meets another version in the row, and is told of.  A version that is too old costs a
needless `StaleDataError`; one that is too new would lose an update.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from holdfast.errors import InvalidRequestError, StaleDataError
from holdfast.model import MISSING, Mapper
from holdfast.steps import Operation

if TYPE_CHECKING:
    from .asking import Asking
    from .state import SessionState

Groups = dict[tuple[str, ...], list[Any]]
"""Changed objects by which columns changed."""


def raise_versions(core: SessionState, mapper: Mapper, groups: Groups) -> Groups:
    """Give changed objects their next version; who was given one already, by hand too, keeps it."""
    version = mapper.version
    if version is None or version.generate is None:
        return groups
    raised: Groups = {}
    for names, group in groups.items():
        if version.name not in names:
            for instance, (old,) in zip(group, loaded_versions(core, mapper, group), strict=True):
                core.write_value(instance, version.name, version.generate(old))
            names = (*names, version.name)
        raised.setdefault(names, []).extend(group)
    return raised


def loaded_versions(core: SessionState, mapper: Mapper, instances: Sequence[Any]) -> list[tuple[Any]]:
    """The versions the objects were loaded with."""
    assert mapper.version is not None
    names = (mapper.version.name,)
    found: list[Any] = [core.row_values(instance, names) for instance in instances]
    if (MISSING,) in found or (None,) in found:
        raise InvalidRequestError(
            f"An object of {mapper.name} has no {mapper.version.name}, so its row cannot be compared",
            mend=f"Call session.refresh(object) first; rows whose {mapper.version.name} is NULL need a first one: 1.",
        )
    return found


def compared(
    core: SessionState, mapper: Mapper, keys: list[Any], instances: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """The columns a row is found by, and their values: the key, and the version where the class has one."""
    columns = [mapper.columns[name] for name in mapper.primary_key]
    if mapper.version is None:
        return columns, keys
    versions = [version for (version,) in loaded_versions(core, mapper, instances)]
    return [*columns, mapper.columns[mapper.version.name]], [*keys, versions]


def condition(core: SessionState, mapper: Mapper, instance: Any) -> Any:
    """The WHERE of one object's row."""
    keys = [[value] for value in core.row_key(mapper, instance)]
    columns, values = compared(core, mapper, keys, [instance])
    return sa.and_(*(column == value for column, (value,) in zip(columns, values, strict=True)))


def stale(mapper: Mapper, count: int, found: int, done: str) -> StaleDataError:
    """The error of rows that were not found as they were loaded; ``done``: updated, deleted."""
    rows = f"{count} rows of {mapper.name} were" if count != 1 else f"A row of {mapper.name} was"
    if mapper.version is None:
        happened = f"{rows} to be {done}, and {found} found: somebody deleted the rest"
    else:
        happened = f"{rows} to be {done}, and {found} had the {mapper.version.name} that was loaded: somebody changed or deleted the rest"
    return StaleDataError(happened, table=mapper.table.name, model=mapper.name, count=count, found=found)


def judge_merge(mapper: Mapper, given: Mapping[str, Any], merged: Any) -> None:
    """Refuse to merge what was read from another version of the row, or from a row that is gone."""
    if mapper.version is None or given.get(mapper.version.name) is None:
        return
    if merged is None or merged.__dict__.get(mapper.version.name) != given[mapper.version.name]:
        what = "is gone" if merged is None else f"has another {mapper.version.name} by now"
        raise StaleDataError(
            f"A {mapper.name} that was to be merged was read from a row that {what}",
            mend=f"Load it anew and do the work again; without a {mapper.version.name} a merge compares nothing.",
            table=mapper.table.name,
            model=mapper.name,
            may_pass=False,
        )


def followed(
    mapper: Mapper, held: Mapping[str, Any], changed: Container[str], values: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What a loaded object takes of a row that a statement of its session changed.

    It takes the version only where that is the next of its own, for then nobody else changed the row in between; and not
    where the statement changed what the object has changed too, and not written.
    """
    version = mapper.version
    if version is None or version.name not in values or version.generate is None:
        return values
    last = held.get(version.name)
    follows = last is not None and version.generate(last) == values[version.name]
    if follows and not any(name in changed for name in values):
        return values
    return {name: value for name, value in values.items() if name != version.name}


def compared_names(mapper: Mapper, params: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The version, where all sets of an update by key give it: it says which row, as the key does."""
    version = mapper.version
    return (version.name,) if version is not None and all(version.name in one for one in params) else ()


def ask_versions(
    core: Asking, mapper: Mapper, keys: Sequence[tuple[Any, ...]]
) -> Operation[Mapping[Any, Any]]:
    """The versions of rows this transaction has just changed, by key."""
    assert mapper.version is not None
    columns = [mapper.columns[name] for name in mapper.primary_key]
    found = sa.tuple_(*columns).in_(keys) if len(columns) > 1 else columns[0].in_([key for (key,) in keys])
    rows = yield from core.run_core(sa.select(*columns, mapper.columns[mapper.version.name]).where(found))
    return {tuple(row[:-1]): row[-1] for row in rows}
