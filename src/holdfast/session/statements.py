"""INSERT, UPDATE and DELETE by statement: lists of parameters, updates by key, loaded objects kept in step.

A statement changes rows behind the objects of a session.  Where the session has objects of the class, an UPDATE or
DELETE returns the keys and changed columns of its rows, and the objects follow; the execution option
``synchronize_session=False`` spares that.  INSERT ... RETURNING answers rows in the order of its VALUES on every
server we know; who must be certain asks for ``sort_by_parameter_order=True`` and pays a statement for each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import ClauseElement
from sqlalchemy.engine.result import Result
from sqlalchemy.sql.dml import Delete, Insert, Update

from holdfast.hydrate import renew
from holdfast.model import RAW, Mapper
from holdfast.plan import Plan, build_plan, column_values, entity_of
from holdfast.steps import Operation, execute, execute_each, execute_many, fetch

from .results import change_result
from .settle import settle_deleted
from .touched import ask_touched, follow_touched
from .versions import ask_versions, compared_names, followed, stale

if TYPE_CHECKING:
    from .asking import Asking

CHUNK = 100
"""Rows of one INSERT ... RETURNING."""

_KEY = "holdfast_key_"
Parameters = Sequence[Mapping[str, Any]]


# ---------------------------------------------------------------- loaded objects


def wants_step(core: Asking, statement: Any, options: Mapping[str, Any] | None) -> bool:
    """Whether an UPDATE or DELETE must tell which rows it touched."""
    known = core.backend.capabilities
    if not known.changes_tell and not (known.delete_returning and statement._returning):
        return False
    return follows(core, statement, options)


def follows(core: Asking, statement: Any, options: Mapping[str, Any] | None) -> bool:
    """Whether loaded objects follow an UPDATE or DELETE."""
    mapper = None if isinstance(statement, Insert) else entity_of(statement.table)
    if mapper is None:
        return False
    said = {**statement._execution_options, **(options or {})}
    if said.get("synchronize_session", "auto") is False:
        return False
    if isinstance(statement, Delete) and any(entity_of(e) is not None for e in statement._returning):
        return True  # what it returns is deleted already
    return any(member() is not None for member in core.identity(mapper).values())


def run_untold(
    core: Asking, plan: Plan, statement: Any, params: Mapping[str, Any] | None, sent: Any
) -> Operation[Result[Any]]:
    """Run a change that loaded objects follow where the server does not tell of rows; ``sent``: SQL and values."""
    keys = yield from ask_touched(core, plan, statement, params)
    count = yield from execute(*sent)
    core.changed_behind()
    yield from follow_touched(core, plan, statement, tuple(params or ()), keys, _put)
    return change_result(None, None, count)


def finish_change(core: Asking, plan: Plan, statement: Any, out: list[Any]) -> Result[Any]:
    """Make the result of a change that gave rows, and bring loaded objects in step."""
    core.frame.wrote = True
    if isinstance(statement, Delete) or (plan.touches is not None and not plan.in_step):
        core.changed_behind()
    asked = plan.asked
    if not plan.in_step:
        return change_result(plan, out, len(out))
    rows = out if len(plan.slots) > 1 else [(value,) for value in out]
    _follow(core, plan, statement, asked, rows)
    if not asked:
        return change_result(None, None, len(rows))
    return change_result(plan, [row[0] if asked == 1 else row[:asked] for row in rows], len(rows))


def _follow(core: Asking, plan: Plan, statement: Any, first: int, rows: Sequence[Any]) -> None:
    mapper = plan.touches
    assert mapper is not None
    width = len(mapper.primary_key)
    names = plan.in_step[width:]
    gone = []
    for row in rows:
        instance = core.find(mapper, row[first] if width == 1 else tuple(row[first : first + width]))
        if instance is None:
            continue
        if isinstance(statement, Delete):
            gone.append(instance)
        else:
            _put(core, mapper, instance, dict(zip(names, row[first + width :], strict=True)))
    settle_deleted(core, mapper, gone)


def _put(core: Asking, mapper: Mapper, instance: Any, values: Mapping[str, Any]) -> None:
    """Give a loaded object the values its row has now; what was changed and not flushed stays."""
    core.frame.save(instance)
    held, changed = instance.__dict__, core.changed_names(instance)
    for name, value in followed(mapper, held, changed, values).items():
        key = RAW + name if name in mapper.mutable else name
        if name not in changed and (key in held or name in held):
            renew(held, mapper, name, key, value, changed)


# ---------------------------------------------------------------- lists of parameters


def named(statement: Any, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters by column key, of parameters by attribute name."""
    mapper = entity_of(getattr(statement, "table", None))
    return params if mapper is None else column_values(mapper, params)


def execute_list(
    core: Asking, statement: Any, params: Parameters, options: Mapping[str, Any] | None
) -> Operation[Result[Any]]:
    """Run a statement for each set of parameters."""
    if not params:
        return change_result(None, None, 0)
    yield from core.ensure_transaction()
    if getattr(statement, "_returning", ()):
        return (yield from _returning_list(core, statement, params, options))
    mapper = updates_by_key(statement, params)
    if mapper is not None:
        return (yield from _update_by_key(core, statement, mapper, params))
    count = yield from _send_list(core, statement, params)
    core.changed_behind()
    return change_result(None, None, count)


def _send_list(core: Asking, statement: Any, params: Parameters, *, exact: bool = False) -> Operation[int]:
    """One batch for each run of sets that have the same names and make the same SQL; ``exact``: rows are counted."""
    one_by_one = len(params) == 1 or (exact and not core.backend.capabilities.counts_many)
    send = execute_each if one_by_one else execute_many
    core.frame.wrote = True
    counts = []
    for _, group in groupby(params, key=frozenset):
        alike = list(group)
        plan, bound, _ = core.plan(statement, dict(alike[0]), {"synchronize_session": False})
        sets = [plan.bind(bound, named(statement, one)) for one in alike]
        for sql, batch in groupby(sets, key=itemgetter(0)):
            counts.append((yield from send(sql, [values for _, values in batch])))
    return -1 if min(counts) < 0 else sum(counts)


def _returning_list(
    core: Asking, statement: Any, params: Parameters, options: Mapping[str, Any] | None
) -> Operation[Result[Any]]:
    plain = isinstance(statement, Insert) and not statement._values and not statement._multi_values
    if not plain or statement._sort_by_parameter_order:
        return (yield from _returning_one_by_one(core, statement, params, options))
    out: list[Any] = []
    plan = None
    for names, group in groupby(params, key=lambda one: tuple(sorted(one))):
        alike = list(group)
        size = max(1, min(CHUNK, core.backend.capabilities.max_bound_values // max(1, len(names) * 2)))
        for start in range(0, len(alike), size):
            chunk = [named(statement, one) for one in alike[start : start + size]]
            plan = _rows_plan(core, statement, tuple(chunk[0]), len(chunk))
            values = {f"{name}__{n}": v for n, one in enumerate(chunk) for name, v in one.items()}
            sql, bound = plan.bind((), values)
            rows = yield from fetch(sql, bound, binary=plan.binary)
            out += core.hydrate(plan, rows, True)
    assert plan is not None
    return finish_change(core, plan, statement, out)


def _rows_plan(core: Asking, statement: Any, names: tuple[str, ...], count: int) -> Plan:
    """The plan of an INSERT of so many rows; values go by name, so that one plan serves any."""
    types = {name: statement.table.c[name].type if name in statement.table.c else None for name in names}

    def make() -> Plan:
        rows: list[dict[str, Any]] = [
            {name: sa.bindparam(f"{name}__{n}", type_=types[name]) for name in names} for n in range(count)
        ]
        return build_plan(statement.values(rows), core.backend.dialect, ())

    key = statement._generate_cache_key()
    if key is None or key.bindparams:
        return make()
    return core.backend.plans.get((key.key, names, count), make)


def _returning_one_by_one(
    core: Asking, statement: Any, params: Parameters, options: Mapping[str, Any] | None
) -> Operation[Result[Any]]:
    out: list[Any] = []
    plan = None
    for one in params:
        plan, bound, given = core.plan(statement, dict(one), options)
        sql, values = plan.bind(bound, given)
        rows = yield from fetch(sql, values, binary=plan.binary)
        out += core.hydrate(plan, rows, True)
    assert plan is not None
    return finish_change(core, plan, statement, out)


# ---------------------------------------------------------------- updates by key


def updates_by_key(statement: Any, params: Parameters) -> Mapper | None:
    """``execute(update(User), [{"id": 1, "name": ...}, ...])``: the key says which row, the rest what changes."""
    if not isinstance(statement, Update) or statement._where_criteria:
        return None
    mapper = entity_of(statement.table)
    if mapper is None or not all(name in one for one in params for name in mapper.primary_key):
        return None
    return mapper


def _update_by_key(
    core: Asking, statement: Any, mapper: Mapper, params: Parameters
) -> Operation[Result[Any]]:
    keys = mapper.primary_key
    found_by = (*keys, *compared_names(mapper, params))
    statement = statement.where(*(mapper.columns[name] == sa.bindparam(_KEY + name) for name in found_by))
    renamed = [
        {_KEY + name if name in found_by else name: value for name, value in one.items()} for one in params
    ]
    exact = len(found_by) > len(keys)
    count = yield from _send_list(core, statement, renamed, exact=exact)
    core.changed_behind()
    if exact and count != len(params):
        raise stale(mapper, len(params), count, "updated")
    yield from _follow_by_key(core, mapper, params, found_by)
    return change_result(None, None, count)


def _follow_by_key(
    core: Asking, mapper: Mapper, params: Parameters, found_by: Sequence[str]
) -> Operation[None]:
    """Give loaded objects what their rows were given, and ask for the versions these have now."""
    keys = mapper.primary_key
    whole: dict[Any, Any] = {}
    for one in params:
        key = tuple(one[name] for name in keys)
        instance = core.find(mapper, key if len(keys) > 1 else key[0])
        if instance is None:
            continue
        plain = {n: v for n, v in one.items() if n in mapper.columns and not isinstance(v, ClauseElement)}
        _put(core, mapper, instance, {n: v for n, v in plain.items() if n not in found_by})
        if len(plain) == len(one) and not any(name in core.changed_names(instance) for name in one):
            whole[key] = instance
    if whole and mapper.version is not None:
        for key, version in (yield from ask_versions(core, mapper, list(whole))).items():
            _put(core, mapper, whole[key], {mapper.version.name: version})
