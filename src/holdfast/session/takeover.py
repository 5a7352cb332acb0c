"""A new object with the key of one that is deleted in the same flush takes over its row.

``user.memberships = [Membership(group=same)]`` means a new object and an old row: an insert would meet the row
before it is deleted, and to delete it first would hurt the rows that refer to it.  So the row is updated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.model import MISSING, Mapper

from .changes import Change
from .inserting import fill_defaults
from .settle import settle_deleted, settle_inserted
from .shape import Shape

if TYPE_CHECKING:
    from .core import SessionCore


def find_heirs(core: SessionCore, mapper: Mapper, instances: list[Any]) -> dict[int, tuple[Any, Any]]:
    """(new object, the deleted object with its key), by the new one's id."""
    going = {core.row_key(mapper, one): one for one in core.deleted.values() if one.__mapper__ is mapper}
    if not going:
        return {}
    names = mapper.primary_key
    keys = {id(one): (one, tuple([one.__dict__.get(name) for name in names])) for one in instances}
    return {place: (one, going[key]) for place, (one, key) in keys.items() if key in going}


def take_over(core: SessionCore, shape: Shape, heirs: list[tuple[Any, Any]]) -> list[Any]:
    """Make the new objects persistent, all their columns changed; answer them, to be updated."""
    mapper = shape.mapper
    new = [heir for heir, _ in heirs]
    version = mapper.version.name if mapper.version is not None else None
    versions = [core.row_values(old, [version])[0] if version else None for _, old in heirs]
    core.frame.save_all(new)
    fill_defaults(shape, [heir.__dict__ for heir in new])
    settle_deleted(core, mapper, [old for _, old in heirs])
    settle_inserted(core, mapper, new)
    for heir, last in zip(new, versions, strict=True):
        change = core.dirty[id(heir)] = Change(heir)
        for name in shape.sent:
            if name not in mapper.primary_key and (name in heir.__dict__ or name not in shape.generated):
                heir.__dict__.setdefault(name, None)
                change.originals[name] = MISSING
        if version:  # goes on from the old row's
            change.originals.pop(version, None)
            heir.__dict__[version] = last
    return new
