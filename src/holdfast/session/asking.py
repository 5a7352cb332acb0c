"""Statements and keys in, results and objects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import ref

import sqlalchemy as sa
from sqlalchemy.engine.result import Result
from sqlalchemy.sql.dml import UpdateBase

from holdfast.errors import (
    ImplicitCommit,
    InvalidRequestError,
    MissingKey,
    TransactionFailed,
)
from holdfast.hydrate import hydrate
from holdfast.model import (
    BATCH,
    Mapper,
    mapper_of,
)
from holdfast.plan import Plan, build_plan, commits_what_is_open
from holdfast.query import LoaderOption
from holdfast.steps import Answer, Fetch, Operation, execute, fetch, run

from . import eager, statements
from .keys import key_loader
from .locks import judge_locks, lock_options, read_only_lock
from .results import change_result, named_result, rows_result
from .touched import judge_returning
from .transactions import Transactions


class Asking(Transactions):
    """A session that is asked."""

    __slots__ = ()

    def execute(
        self, statement: Any, params: Any = None, options: Mapping[str, Any] | None = None
    ) -> Operation[Result[Any]]:
        """Run any statement; answers a result."""
        if self.failed:
            raise TransactionFailed
        if self.new or self.dirty or self.deleted or self.read:
            yield from self._autoflush()
        if isinstance(params, (list, tuple)):
            if len(params) != 1 or statements.updates_by_key(statement, params) is not None:
                return (yield from statements.execute_list(self, statement, params, options))
            params = params[0]
        if isinstance(statement, str):
            raise InvalidRequestError("A string is not a statement", mend='Write text("...").')
        plan, bound, params = self.plan(statement, params, options)
        if plan.commits:
            self._refuse_commit()
        elif plan.writes or self.scope is not None:
            if plan.locks and self.scope is not None and self.scope.read_only:
                raise read_only_lock()
            if not self.in_transaction:
                yield from self.ensure_transaction()
        sql, values = plan.bind(bound, params)
        if plan.kind == "rows":
            rows = yield Fetch(sql, values, plan.binary)  # not `fetch`: a generator less on the hottest path
            if plan.loads is False and not plan.writes:
                return rows_result(plan, hydrate(plan, rows, self, _asks_refresh(statement, options)))
            return (yield from self._rows(plan, statement, rows, options))
        if plan.kind == "count":
            untold = plan.touches is not None and not self.backend.capabilities.changes_tell
            if untold and statements.follows(self, statement, options):
                return (yield from statements.run_untold(self, plan, statement, params, (sql, values)))
            count = yield from execute(sql, values)
            self.changed_behind()
            return change_result(None, None, count)
        answer = yield from run(sql, values)
        return (yield from self._unknown(plan, statement, answer, options))

    def changed_behind(self) -> None:
        """A statement changed rows without objects: what is loaded is refreshed by the next row that comes."""
        self.frame.wrote = True
        self.epoch += 1
        self._got.clear()

    def plan(
        self, statement: Any, params: Any, options: Mapping[str, Any] | None = None
    ) -> tuple[Plan, Sequence[Any], Any]:
        """The plan of a statement, its bound parameters, and the values given by name."""
        if isinstance(statement, UpdateBase):
            return self._plan_change(statement, params, options)
        make_key = getattr(statement, "_generate_cache_key", None)
        key = make_key() if make_key is not None else None
        if key is None:
            return self._build(statement, ()), (), params
        plans = self.backend.plans
        plan = plans.find(key.key)
        if plan is None:
            bound = key.bindparams
            plan = plans.get(key.key, lambda: self._build(statement, bound))
        if key.params:
            params = {**key.params, **(params or {})}
        return plan, key.bindparams, params

    def _build(self, statement: Any, bound: Sequence[Any], *rest: Any, in_step: bool = False) -> Plan:
        """Make a plan, unless the server lacks a lock it asks for; what locks is in need of a transaction."""
        capabilities = self.backend.capabilities
        judge_returning(statement, capabilities)
        locks = judge_locks(statement, capabilities.locks, server=capabilities.server)
        plan = build_plan(statement, self.backend.dialect, bound, *rest, in_step=in_step)
        if not capabilities.ddl_transactional and plan.kind != "rows":
            plan.commits = commits_what_is_open(plan.sql)
        if locks:
            plan.locks = plan.writes = plan.refreshes = True
        return plan

    def _plan_change(
        self, statement: Any, params: Any, options: Mapping[str, Any] | None
    ) -> tuple[Plan, Sequence[Any], Any]:
        """Values given by name are part of an INSERT's or UPDATE's form; so is what it tells of loaded objects."""
        key = statement._generate_cache_key()
        params = statements.named(statement, params) if params else None
        columns = tuple(params) if params else None
        in_step = statements.wants_step(self, statement, options)
        bound = key.bindparams if key is not None else ()

        def make() -> Plan:
            return self._build(statement, bound, columns, in_step=in_step)

        plan = make() if key is None else self.backend.plans.get((key.key, columns, in_step), make)
        if key is not None and key.params:
            params = {**key.params, **(params or {})}
        return plan, bound, params

    def _rows(
        self, plan: Plan, statement: Any, rows: Sequence[Any], options: Mapping[str, Any] | None
    ) -> Operation[Result[Any]]:
        out = self.hydrate(plan, rows, plan.refreshes or _asks_refresh(statement, options))
        if plan.loads is not False:
            yield from self.load_planned(plan, out, statement)
        if plan.writes and isinstance(statement, UpdateBase):
            return statements.finish_change(self, plan, statement, out)
        return rows_result(plan, out)

    def _unknown(
        self, plan: Plan, statement: Any, answer: Answer, options: Mapping[str, Any] | None
    ) -> Operation[Result[Any]]:
        if plan.writes:
            self.changed_behind()
        if answer.keys is None:
            return change_result(None, None, answer.rowcount)
        if not plan.slots:
            return named_result(answer.keys, answer.rows)
        places = _places(plan.memo["names"], answer.keys)
        rows = [tuple(row[i] for i in places) for row in answer.rows]
        return (yield from self._rows(plan, statement, rows, options))

    def _refuse_commit(self) -> None:
        """A statement that commits what is open may only come where nothing is."""
        if self.in_transaction or self.scope is not None:
            raise ImplicitCommit(server=self.backend.capabilities.server)

    def run_core(self, statement: Any) -> Operation[list[Any]]:
        """Run a Core statement with RETURNING inside a flush; answers processed rows."""
        plan, bound, params = self.plan(statement, None)
        sql, values = plan.bind(bound, params)
        rows = yield from fetch(sql, values, binary=plan.binary)
        out = self.hydrate(plan, rows, False)
        return [(value,) for value in out] if len(plan.slots) == 1 else out

    def run_count(self, statement: Any) -> Operation[int]:
        """Run a Core statement inside a flush; answers how many rows it touched."""
        plan, bound, params = self.plan(statement, None, {"synchronize_session": False})
        return (yield from execute(*plan.bind(bound, params)))

    def hydrate(self, plan: Plan, rows: Sequence[Any], refresh: bool) -> list[Any]:
        return hydrate(plan, rows, self, refresh)

    def hydrate_targets(self, plan: Plan, rows: Sequence[Any]) -> list[Any]:
        """Make the targets of a relation; those that are known already stay among their siblings."""
        self.follows = True
        try:
            return self.hydrate(plan, rows, False)
        finally:
            self.follows = False

    def load_planned(
        self, plan: Plan, out: Sequence[Any], statement: Any = None, chain: tuple[Mapper, ...] = ()
    ) -> Operation[None]:
        """Load the relations that options or the model want at once."""
        if plan.loads is None:
            plan.loads = eager.has_loads(plan.slots)
        if plan.loads:
            yield from eager.load_planned(self, plan, out, statement, chain)

    def get(
        self,
        entity: Any,
        ident: Any,
        options: Sequence[LoaderOption] = (),
        refresh: bool = False,
        lock: Any = None,
    ) -> Operation[Any]:
        """The object of a key: from the identity map if this transaction loaded it, else by one statement."""
        self._check_usable()
        mapper = mapper_of(entity)
        if ident is None:
            return None  # an optional foreign key that is empty
        key = _key_of(mapper, ident)
        lock = None if lock is None else lock_options(lock)  # a call less on a hot path
        if not refresh and lock is None:
            member = self.identity(mapper).get(key)
            found = None if member is None or options else member()
            if found is not None and (found.__dict__[BATCH].epoch == self.epoch or id(found) in self.dirty):
                return found
        if self.new or self.dirty or self.deleted or self.read:
            yield from self._autoflush()
        if options or lock is not None:
            return (yield from self._get_by_statement(mapper, key, options, lock))
        if self.scope is not None:
            yield from self.ensure_transaction()
        loader = key_loader(self.backend, mapper)
        sql, values = loader.bind(key)
        rows = yield Fetch(sql, values, loader.plan.binary)
        out = self.hydrate(loader.plan, rows, refresh)
        if not out:
            return None
        self._join_got(mapper, out[0])
        if loader.plan.loads is not False:
            yield from self.load_planned(loader.plan, out)
        return out[0]

    def _join_got(self, mapper: Mapper, instance: Any) -> None:
        """Objects got one by one are siblings too: the first touch loads for all of them."""
        batch = self._got.get(mapper)
        if batch is None or batch.epoch != self.epoch:
            self._got[mapper] = instance.__dict__[BATCH]
            return
        batch.members.append(ref(instance))
        instance.__dict__[BATCH] = batch

    def _get_by_statement(
        self, mapper: Mapper, key: Any, options: Sequence[Any], lock: dict[str, Any] | None
    ) -> Operation[Any]:
        values = key if isinstance(key, tuple) and len(mapper.primary_key) > 1 else (key,)
        columns = [mapper.columns[name] for name in mapper.primary_key]
        statement = sa.select(mapper.entity).where(*(c == v for c, v in zip(columns, values, strict=True)))
        if options:
            statement = statement.options(*options)
        if lock is not None:
            statement = statement.with_for_update(**lock)
        result = yield from self.execute(statement, None, {"populate_existing": True})
        return result.scalars().first()


def _asks_refresh(statement: Any, options: Mapping[str, Any] | None) -> bool:
    if options and options.get("populate_existing"):
        return True
    said = getattr(statement, "_execution_options", None)
    return bool(said and said.get("populate_existing"))


def _places(names: Sequence[str], keys: Sequence[str]) -> list[int]:
    if all(name in keys for name in names):
        return [keys.index(name) for name in names]
    if len(names) == len(keys):
        return list(range(len(names)))
    missing = next(name for name in names if name not in keys)
    raise InvalidRequestError(f"The statement gives no column {missing!r}", mend=f"Select {missing} in it.")


def _key_of(mapper: Mapper, ident: Any) -> Any:
    """A key as the identity map has it: a value, or a tuple in the order of the key's columns."""
    names = mapper.primary_key
    if len(names) == 1 and not isinstance(ident, (tuple, dict)):
        return ident
    if isinstance(ident, Mapping):
        ident = tuple(ident.get(name) for name in names)
    elif not isinstance(ident, tuple):
        ident = (ident,)
    if len(ident) != len(names):
        raise InvalidRequestError(
            f"The key of {mapper.name} has {len(names)} columns and {len(ident)} values were given",
            mend=f"Give ({', '.join(names)}).",
        )
    if any(value is None for value in ident):
        raise MissingKey(model=mapper.name, name=names[0], mend="A key cannot be None.")
    return ident[0] if len(ident) == 1 else ident
