"""Mistakes are told before anything is sent: values of new and changed objects are judged while no transaction is open.

What a flush itself fills in, keys that come from objects not yet inserted, is looked at again when it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement

from holdfast.model import Mapper
from holdfast.native import settle, take, values_of

from .inserting import Columns, fill_defaults, has_expression
from .shape import Shape, shape_of
from .updating import by_changes

if TYPE_CHECKING:
    from .core import SessionCore
    from .work import Link

Changes = dict[tuple[str, ...], list[Any]]
"""Changed objects of a class by which columns changed."""


def judge_new(
    core: SessionCore, mapper: Mapper, instances: list[Any], links: Sequence[list[Link]]
) -> Columns | None:
    """Judge new objects of one class; attributes that links will fill may still be empty.

    Answers their values, if those are what will be written: plain ones, and none to be filled in.
    """
    shape = shape_of(mapper, core.backend)
    core.frame.save_all(instances)
    held = values_of(instances)
    fill_defaults(shape, held)
    filled = {name for group in links for link in group for _, name in link.pairs}
    columns: Columns = {}
    special = False
    for name in shape.sent:
        columns[name] = values = (take if name in shape.left_out or name in filled else settle)(held, name)
        plain = plain_values(values)
        special = special or plain is not values
        shape.check(name)(plain)
        if name not in filled and name not in shape.left_out:
            shape.judge_missing(name, plain)
    return None if special or filled else columns


def judge_changed(core: SessionCore, mapper: Mapper, instances: list[Any]) -> Changes:
    """Judge changed objects of one class; answer how they changed, which cost something to find out."""
    shape: Shape = shape_of(mapper, core.backend)
    changes = by_changes(core, shape, instances)
    for names, group in changes.items():
        held = values_of(group)
        for name in names:
            shape.validate(name, plain_values(take(held, name)))
    return changes


def plain_values(values: list[Any]) -> list[Any]:
    """The values that are no SQL expressions."""
    return [v for v in values if not isinstance(v, ClauseElement)] if has_expression([values]) else values
