"""Loaded objects follow an UPDATE or DELETE on a server that cannot tell which rows it touched.

The keys are asked for before, with the locks that the change would take anyway, and what changed is asked for
after it; only where the session has objects of the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import Delete

from holdfast.capabilities import Capabilities
from holdfast.errors import ReturningNotSupported
from holdfast.model import Mapper
from holdfast.plan import Plan, touched_columns
from holdfast.steps import Operation, fetch

from .settle import settle_deleted

if TYPE_CHECKING:
    from .asking import Asking

Keys = list[tuple[Any, ...]]


def judge_returning(statement: Any, known: Capabilities) -> None:
    """Refuse RETURNING where the server has none for this kind of statement, before anything is sent."""
    kind = getattr(statement, "__visit_name__", None)
    has_it = {"insert": known.returning, "update": known.update_returning, "delete": known.delete_returning}
    if getattr(statement, "_returning", ()) and not has_it.get(str(kind), True):
        raise ReturningNotSupported(server=known.server, feature=f"{str(kind).upper()} ... RETURNING")


def ask_touched(
    core: Asking, plan: Plan, statement: Any, params: Mapping[str, Any] | None
) -> Operation[Keys]:
    """Ask which rows of loaded objects a change will touch, and lock them."""
    mapper = plan.touches
    assert mapper is not None
    keys = [mapper.columns[name] for name in mapper.primary_key]
    select = sa.select(*keys).select_from(statement.table).where(*statement._where_criteria).with_for_update()
    asked, bound, named = core.plan(select, params)
    rows = yield from fetch(*asked.bind(bound, named))
    found = core.hydrate(asked, rows, False)
    every = [(one,) for one in found] if len(keys) == 1 else [tuple(one) for one in found]
    return [key for key in every if _find(core, mapper, key) is not None]


def follow_touched(
    core: Asking, plan: Plan, statement: Any, names: Sequence[str], keys: Keys, put: Any
) -> Operation[None]:
    """Give loaded objects what their rows have now."""
    mapper = plan.touches
    assert mapper is not None
    if isinstance(statement, Delete):
        settle_deleted(core, mapper, [_find(core, mapper, key) for key in keys])
        return
    columns = touched_columns(statement, mapper, names)
    width = len(mapper.primary_key)
    if not keys or not columns:
        return
    found = sa.tuple_(*columns[:width]).in_(keys) if width > 1 else columns[0].in_([key for (key,) in keys])
    for row in (yield from core.run_core(sa.select(*columns).where(found))):
        changed = [mapper.attributes[column] for column in columns[width:]]
        instance = _find(core, mapper, tuple(row[:width]))
        put(core, mapper, instance, dict(zip(changed, row[width:], strict=True)))


def _find(core: Asking, mapper: Mapper, key: tuple[Any, ...]) -> Any:
    return core.find(mapper, key[0] if len(key) == 1 else key)
