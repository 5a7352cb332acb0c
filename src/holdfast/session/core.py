"""The session without a server: identity map, changes, and the operations as generators.

A door gives each operation to its runner.  Methods that answer an `Operation` are generators; the others only think.

States of an object: no batch, *transient*; ``pending`` batch, *pending* (in ``new``); a batch of this session,
*persistent* (in the identity map); a batch without session, *detached*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import ref

import sqlalchemy as sa
from sqlalchemy.engine.result import Result
from sqlalchemy.sql.dml import UpdateBase

from holdfast.errors import (
    DetachedInstanceError,
    InvalidRequestError,
    MissingKey,
    NestedBegin,
    ObjectInOtherSession,
    SessionClosed,
    SessionInUse,
    TransactionFailed,
)
from holdfast.hydrate import hydrate
from holdfast.model import BATCH, DETACHED, MISSING, RAW, Batch, Mapper, Relation, RelationAttribute, mapper_of
from holdfast.model import InstrumentedList, InstrumentedSet, unknown_attribute
from holdfast.plan import Backend, Plan, build_plan
from holdfast.query import PLAIN, LoaderOption, LoadTree
from holdfast.steps import Answer, Fetch, Operation, command, execute, fetch, run
from holdfast.tx import Scope, begin_sql

from . import eager, loading, statements
from .changes import GONE, Change, Frame, forget_copy, make_transient
from .flush import Flush
from .results import change_result, named_result, rows_result

_EMPTY: frozenset[str] = frozenset()


class SessionCore:
    """One unit of work after another, on one database."""

    __slots__ = (
        "_got",
        "_pending",
        "autoflush",
        "awaiter",
        "backend",
        "busy",
        "closed",
        "deleted",
        "dirty",
        "epoch",
        "failed",
        "follows",
        "frames",
        "identities",
        "in_transaction",
        "new",
        "read",
        "scope",
        "touch",
    )

    def __init__(
        self,
        backend: Backend,
        *,
        scope: Scope | None = None,
        autoflush: bool = True,
        touch: Callable[[Operation[Any]], Any] | None = None,
        awaiter: Callable[[Operation[Any], Any, str], Any] | None = None,
    ) -> None:
        self.backend = backend
        self.autoflush = autoflush
        self.touch = touch
        self.awaiter = awaiter
        self.scope = scope
        self.identities: dict[Mapper, dict[Any, ref[Any]]] = {}
        self.new: dict[int, Any] = {}
        self.dirty: dict[int, Change] = {}
        self.deleted: dict[int, Any] = {}
        self.read: dict[tuple[int, str], Any] = {}
        self.frames: list[Frame] = []
        self.epoch = 0
        self.in_transaction = False
        self.failed = False
        self.closed = False
        self.busy = False
        self.follows = False
        self._pending: Batch | None = None
        self._got: dict[Mapper, Batch] = {}

    def __repr__(self) -> str:
        known = sum(len(identity) for identity in self.identities.values())
        state = "closed" if self.closed else "in transaction" if self.in_transaction else "open"
        return (
            f"<Session {state}, {known} known, {len(self.new)} new, {len(self.dirty)} changed, "
            f"{len(self.deleted)} deleted>"
        )

    # ------------------------------------------------------------ identity

    @property
    def frame(self) -> Frame:
        """The innermost frame; the outermost is there once something has changed."""
        if not self.frames:
            self.frames.append(Frame())
        return self.frames[-1]

    def identity(self, mapper: Mapper) -> dict[Any, ref[Any]]:
        """The identity map of one class: weak references by key."""
        found = self.identities.get(mapper)
        if found is None:
            found = self.identities[mapper] = {}
        return found

    def find(self, mapper: Mapper, key: Any) -> Any:
        """The object of a key, if the session has it."""
        member = self.identity(mapper).get(key)
        return None if member is None else member()

    def new_batch(self, mapper: Mapper, tree: LoadTree | None) -> Batch:
        batch = Batch(mapper, self, self.epoch, tree)
        forbidden = mapper.memo.get(("forbidden", tree))
        if forbidden is None:
            forbidden = mapper.memo["forbidden", tree] = _forbidden(mapper, tree or PLAIN)
        batch.forbidden = forbidden
        return batch

    def holds(self, instance: Any) -> bool:
        batch = instance.__dict__.get(BATCH)
        return batch is not None and batch.session is self and not self.closed

    def row_key(self, mapper: Mapper, instance: Any) -> tuple[Any, ...]:
        """The key of the object's row: as it was before any change that is not written yet."""
        return self.row_values(instance, mapper.primary_key)

    def row_values(self, instance: Any, names: Iterable[str]) -> tuple[Any, ...]:
        """What the object's row holds, as far as it was loaded."""
        change = self.dirty.get(id(instance))
        originals = change.originals if change is not None else {}
        values = instance.__dict__
        return tuple([originals.get(name, values.get(name)) for name in names])

    def enter_identity(self, mapper: Mapper, instance: Any) -> None:
        self.identity(mapper)[self._key(mapper, instance)] = ref(instance)

    def drop_identity(self, mapper: Mapper, instance: Any) -> None:
        key = self.row_key(mapper, instance)
        self.identity(mapper).pop(key[0] if len(key) == 1 else key, None)

    def _key(self, mapper: Mapper, instance: Any) -> Any:
        values = instance.__dict__
        key = tuple([values.get(name) for name in mapper.primary_key])
        return key[0] if len(key) == 1 else key

    def known(self) -> Iterator[Any]:
        """The persistent objects that are alive, then the pending ones."""
        for identity in self.identities.values():
            for member in list(identity.values()):
                instance = member()
                if instance is not None and self.holds(instance):
                    yield instance
        yield from list(self.new.values())

    # ------------------------------------------------------------ what instances tell (SessionPort)

    def note_change(self, instance: Any, name: str) -> None:
        """Remember what an attribute was before its first change."""
        values = instance.__dict__
        if values[BATCH].pending or self.closed:
            return
        change = self.dirty.get(id(instance))
        if change is None:
            self.frame.save(instance)
            change = self.dirty[id(instance)] = Change(instance)
        originals = change.originals
        if name not in originals:
            value = values.get(name, MISSING)
            if type(value) is InstrumentedList or type(value) is InstrumentedSet:
                value = list(value)
            elif name in instance.__mapper__.mutable:
                value = values.get(RAW + name, value)
            originals[name] = value

    def note_read(self, instance: Any, name: str) -> None:
        self.read[id(instance), name] = instance

    def note_written(self, instance: Any, name: str) -> None:
        """A value that can change in place was written: from now on it is compared with what was written."""
        from copy import deepcopy

        values = instance.__dict__
        if name in values:
            values[RAW + name] = deepcopy(values[name])
            self.read[id(instance), name] = instance

    def write_value(self, instance: Any, name: str, value: Any) -> None:
        """Set a column in the course of a flush."""
        if not instance.__dict__[BATCH].pending:
            self.note_change(instance, name)
        else:
            self.frame.save(instance)
        instance.__dict__[name] = value

    def peek(self, instance: Any, relation: Relation) -> Any:
        """The to-one target, if the identity map has it."""
        values = instance.__dict__
        attributes = relation.parent.attributes
        return self.find_target(relation, [values.get(attributes[local]) for local, _ in relation.pairs])

    def find_target(self, relation: Relation, values: Sequence[Any]) -> Any:
        """The object that the values of a foreign key lead to, if the identity map has it."""
        by_column = {remote: value for (_, remote), value in zip(relation.pairs, values, strict=True)}
        target = relation.target
        columns = [target.columns[name] for name in target.primary_key]
        if set(by_column) != set(columns):
            return None
        key = tuple(by_column[column] for column in columns)
        return None if None in key else self.find(target, key[0] if len(key) == 1 else key)

    def cascade_add(self, instance: Any) -> None:
        if not self.holds(instance) or id(instance) in self.deleted:
            self.add(instance)

    def released(self, relation: Relation, instance: Any) -> None:
        """A pending object that its owner let go is forgotten."""
        if id(instance) not in self.new:
            return
        if relation.back is None or instance.__dict__.get(relation.back.name) is None:
            self.expunge(instance)

    def changed_names(self, instance: Any) -> Any:
        change = self.dirty.get(id(instance))
        return _EMPTY if change is None else change.originals

    def keep_before_renewal(self, instance: Any) -> None:
        """A row read after this transaction wrote may hold what a rollback undoes."""
        if any(frame.wrote for frame in self.frames):
            self.frame.save(instance)

    def note_loaded(self, instances: Iterable[Any], name: str) -> None:
        """A relation loaded after this transaction wrote is forgotten by a rollback."""
        frame = next((frame for frame in reversed(self.frames) if frame.wrote), None)
        if frame is not None:
            frame.loaded += [(instance, name) for instance in instances]

    def load_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """Load what was touched, for all siblings, if the session may wait for it."""
        relation = mapper.relations.get(name)
        batch = instance.__dict__[BATCH]
        if relation is not None:
            if relation.direction.value == "many-to-one" and relation.simple and self._from_identity(instance, relation):
                return instance.__dict__[name]
            strategy = self._branch(batch, relation).strategy
            if name in batch.forbidden:
                raise InvalidRequestError(
                    f"{mapper.name}.{name} is not loaded, and raiseload() forbids to load it",
                    mend=f"Plan it: .options(selectinload({mapper.name}.{name})).",
                ) if strategy in ("raise", "raise_on_sql") else loading.refused(mapper, name)
        if self.touch is None:
            raise loading.refused(mapper, name)
        self.touch(self.load_attribute(instance, mapper, name))
        return instance.__dict__[name] if RAW + name not in instance.__dict__ else getattr(instance, name)

    def await_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """An awaitable for an attribute's value; loads it for all siblings."""
        if self.awaiter is None:
            raise InvalidRequestError(
                "awaitable_attrs belongs to async sessions", mend=f"Write object.{name}: touching it loads it."
            )
        return self.awaiter(self.load_attribute(instance, mapper, name), instance, name)

    def _from_identity(self, instance: Any, relation: Relation) -> bool:
        values = instance.__dict__
        if relation.name in values[BATCH].forbidden and self._branch(values[BATCH], relation).strategy == "raise":
            return False
        locals_ = [relation.parent.attributes[local] for local, _ in relation.pairs]
        if any(name not in values for name in locals_):
            return False
        if any(values[name] is None for name in locals_):
            values[relation.name] = None
            return True
        found = self.peek(instance, relation)
        if found is not None:
            values[relation.name] = found
        return found is not None

    def _branch(self, batch: Batch, relation: Relation) -> Any:
        return (batch.options or PLAIN).branch(relation)

    # ------------------------------------------------------------ guards

    def check_open(self) -> None:
        if self.closed:
            raise SessionClosed()

    def enter(self) -> None:
        """Begin an operation: one at a time."""
        if self.closed:
            raise SessionClosed()
        if self.busy:
            raise SessionInUse()
        self.busy = True

    def leave(self) -> None:
        self.busy = False

    # ------------------------------------------------------------ adding and removing

    def add(self, instance: Any) -> None:
        """Add an object and all it reaches along save-update cascades."""
        self.check_open()
        waiting = [instance]
        for found in waiting:  # grows as it goes, so that objects are added in the order they are reached
            if self._add_one(found):
                waiting.extend(_reachable(found, "save-update"))

    def add_all(self, instances: Iterable[Any]) -> None:
        """Add objects; new ones that reach nothing take the short way."""
        self.check_open()
        pending, new, added = self._pending or self._make_pending(), self.new, self.frame.added
        for instance in instances:
            values = getattr(instance, "__dict__", {})
            mapper = type(instance).__dict__.get("__mapper__")
            if mapper is None or BATCH in values or not mapper.reaches_nothing(values):
                self.add(instance)
            else:
                values[BATCH] = pending
                new[id(instance)] = added[id(instance)] = instance

    def _add_one(self, instance: Any) -> bool:
        mapper = mapper_of(instance)
        batch = instance.__dict__.get(BATCH)
        if batch is None:
            instance.__dict__[BATCH] = self._pending or self._make_pending()
            self.new[id(instance)] = instance
            self.frame.added[id(instance)] = instance
            return True
        if batch.session is self:
            return self.deleted.pop(id(instance), None) is not None
        if batch.session is not None and not batch.session.closed:
            raise ObjectInOtherSession(model=mapper.name)
        if batch is GONE:
            raise InvalidRequestError(
                f"This {mapper.name} was deleted", mend="Make a new object, or roll back the transaction that deleted it."
            )
        self._reattach(mapper, instance)
        return True

    def _make_pending(self) -> Batch:
        self._pending = batch = Batch(None, self)
        batch.pending = True
        return batch

    def _reattach(self, mapper: Mapper, instance: Any) -> None:
        """A detached object comes back as persistent."""
        key = self._key(mapper, instance)
        held = self.find(mapper, key)
        if held is not None and held is not instance:
            raise InvalidRequestError(
                f"The session has another {mapper.name} with the same key",
                mend="Write object = session.merge(object).",
            )
        batch = self.new_batch(mapper, None)
        member = ref(instance)
        batch.members.append(member)
        instance.__dict__[BATCH] = batch
        self.identity(mapper)[key] = member

    def delete(self, instance: Any) -> None:
        """Mark an object; the next flush deletes its row."""
        self.check_open()
        mapper = mapper_of(instance)
        if not self.holds(instance) or id(instance) in self.new:
            raise InvalidRequestError(
                f"This {mapper.name} has no row in this session to delete",
                mend="Load it here first, or take a pending object back with session.expunge(object).",
            )
        self.deleted[id(instance)] = instance

    def expunge(self, instance: Any) -> None:
        """Let an object go, and all that expunge cascades reach."""
        if not self.holds(instance):
            raise InvalidRequestError(
                f"This {mapper_of(instance).name} is not in this session", mend="Expunge it from the session that has it."
            )
        waiting, seen = [instance], {id(instance)}
        while waiting:
            found = waiting.pop()
            if not self.holds(found):
                continue
            self._expunge_one(found)
            for target in _reachable(found, "expunge"):
                if id(target) not in seen:
                    seen.add(id(target))
                    waiting.append(target)

    def _expunge_one(self, instance: Any) -> None:
        if id(instance) in self.new:
            del self.new[id(instance)]
            make_transient(instance)
            return
        self.drop_identity(mapper_of(instance), instance)
        self.dirty.pop(id(instance), None)
        self.deleted.pop(id(instance), None)
        instance.__dict__[BATCH] = DETACHED

    def expunge_all(self) -> None:
        """Let all objects go."""
        for instance in list(self.new.values()):
            make_transient(instance)
        for identity in self.identities.values():
            for member in identity.values():
                instance = member()
                if instance is not None and self.holds(instance):
                    instance.__dict__[BATCH] = DETACHED
        self.new.clear()
        self.forget_all()

    def forget_all(self) -> None:
        self.identities.clear()
        self.dirty.clear()
        self.deleted.clear()
        self.read.clear()
        self._got.clear()

    # ------------------------------------------------------------ flush, commit, rollback

    def has_changes(self) -> bool:
        return bool(self.new or self.dirty or self.deleted or (self.read and self._read_changed()))

    def _read_changed(self) -> bool:
        """Values that were in somebody's hands, and differ now from what was loaded."""
        changed = False
        for (_, name), instance in self.read.items():
            values = instance.__dict__
            if name in values and RAW + name in values and values[name] != values[RAW + name]:
                self._note_in_place(instance, name)
                changed = True
        return changed

    def _note_in_place(self, instance: Any, name: str) -> None:
        if self.holds(instance) and not instance.__dict__[BATCH].pending:
            self.note_change(instance, name)

    def forget_changes(self) -> None:
        self.dirty.clear()
        self.deleted.clear()

    def flush(self) -> Operation[None]:
        """Write what changed."""
        if not self.has_changes():
            return
        self._check_usable()
        self._read_changed()
        try:
            yield from Flush(self).run()
        except BaseException:
            self.failed = True
            raise

    def _autoflush(self) -> Operation[None]:
        if self.autoflush and (self.new or self.dirty or self.deleted or self.read):
            yield from self.flush()

    def _check_usable(self) -> None:
        if self.failed:
            raise TransactionFailed()

    def ensure_transaction(self) -> Operation[None]:
        if not self.in_transaction:
            yield from command(begin_sql(self.backend.capabilities, self.scope or Scope()))
            self.in_transaction = True

    def begin(self, scope: Scope) -> None:
        """Ask for a transaction; it is opened with the first statement."""
        if self.scope is not None or self.in_transaction:
            raise NestedBegin()
        self.scope = scope

    def commit(self) -> Operation[None]:
        """Flush, and make it last."""
        self._check_usable()
        yield from self.flush()
        if len(self.frames) > 1:
            raise InvalidRequestError(
                "A savepoint is open", mend="Leave its block first: with session.begin_nested(): ..."
            )
        if self.in_transaction:
            try:
                yield from command("COMMIT")
            except BaseException:
                self.failed = True
                raise
        self._end()
        self.frames.clear()

    def rollback(self) -> Operation[None]:
        """Undo what was not committed; objects go back to what they were, without a query."""
        try:
            if self.in_transaction:
                yield from command("ROLLBACK", cleanup=True)
        finally:
            while self.frames:
                self._restore(self.frames.pop())
            self._forget_unflushed()
            self._end()

    def _end(self) -> None:
        self.in_transaction = self.failed = False
        self.scope = None
        self.epoch += 1
        self._got.clear()
        self._purge()

    def _purge(self) -> None:
        """Drop dead references, now and then."""
        for identity in self.identities.values():
            if len(identity) > 1000:
                for key in [k for k, member in identity.items() if member() is None]:
                    del identity[key]

    def savepoint(self) -> Operation[str]:
        """Open a savepoint; answers its name."""
        self._check_usable()
        yield from self.flush()
        yield from self.ensure_transaction()
        if not self.frames:
            self.frames.append(Frame())
        name = f"holdfast_{len(self.frames)}"
        yield from command(f"SAVEPOINT {name}")
        self.frames.append(Frame())
        return name

    def release(self, name: str) -> Operation[None]:
        """Keep what was done since the savepoint."""
        self._check_usable()
        yield from self.flush()
        yield from command(f"RELEASE SAVEPOINT {name}")
        frame = self.frames.pop()
        frame.merge_into(self.frame)

    def rollback_to(self, name: str) -> Operation[None]:
        """Undo what was done since the savepoint."""
        try:
            yield from command(f"ROLLBACK TO SAVEPOINT {name}", cleanup=True)
            yield from command(f"RELEASE SAVEPOINT {name}", cleanup=True)
            self.failed = False
        finally:
            if len(self.frames) > 1:
                self._restore(self.frames.pop())
            self._forget_unflushed()
            self.epoch += 1

    def _restore(self, frame: Frame) -> None:
        for instance in frame.inserted.values():
            self.drop_identity(mapper_of(instance), instance)
        frame.restore()
        for instance in frame.added.values():
            self.new.pop(id(instance), None)
            make_transient(instance)
        for key, instance in frame.deleted.items():
            if key not in frame.inserted and key not in frame.added:
                self.identity(mapper_of(instance))[self._key(mapper_of(instance), instance)] = ref(instance)
        for instance, _, _ in frame.saved.values():
            self._restore_identity(instance)

    def _forget_unflushed(self) -> None:
        self.dirty.clear()
        self.deleted.clear()
        for (_, name), instance in self.read.items():
            forget_copy(instance, name)
        self.read.clear()

    def _restore_identity(self, instance: Any) -> None:
        """A changed key goes back, too."""
        if self.holds(instance) and not instance.__dict__[BATCH].pending:
            mapper = mapper_of(instance)
            identity = self.identity(mapper)
            key = self._key(mapper, instance)
            member = identity.get(key)
            if member is None or member() is not instance:
                for old in [k for k, m in identity.items() if m() is instance]:
                    del identity[old]
                identity[key] = ref(instance)

    def close(self) -> Operation[None]:
        """Roll back what is open; the session is at its end."""
        try:
            if self.in_transaction:
                yield from command("ROLLBACK", cleanup=True)
        finally:
            self.finish()

    def finish(self) -> None:
        """Let all objects go.  They are not visited: a batch whose session is closed is detached."""
        self.in_transaction = False
        self.closed = True
        self.touch = self.awaiter = None  # they lead back to the door: a ring for the garbage collector
        for instance in self.new.values():
            make_transient(instance)
        self.new.clear()
        self.frames.clear()
        self.forget_all()

    # ------------------------------------------------------------ asking

    def execute(
        self, statement: Any, params: Any = None, options: Mapping[str, Any] | None = None
    ) -> Operation[Result[Any]]:
        """Run any statement; answers a result."""
        if self.failed:
            raise TransactionFailed()
        if self.new or self.dirty or self.deleted or self.read:
            yield from self._autoflush()
        if isinstance(params, (list, tuple)):
            if len(params) != 1:
                return (yield from statements.execute_list(self, statement, params, options))
            params = params[0]
        if isinstance(statement, str):
            raise InvalidRequestError("A string is not a statement", mend='Write text("...").')
        plan, bound, params = self.plan(statement, params, options)
        if (plan.writes or self.scope is not None) and not self.in_transaction:
            yield from self.ensure_transaction()
        sql, values = plan.bind(bound, params)
        if plan.kind == "rows":
            rows = yield Fetch(sql, values, plan.binary)  # not `fetch`: a generator less on the hottest path
            return (yield from self._rows(plan, statement, rows, options))
        if plan.kind == "count":
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
            return build_plan(statement, self.backend.dialect, ()), (), params
        plans = self.backend.plans
        plan = plans.find(key.key)
        if plan is None:
            bound = key.bindparams
            plan = plans.get(key.key, lambda: build_plan(statement, self.backend.dialect, bound))
        if key.params:
            params = {**key.params, **(params or {})}
        return plan, key.bindparams, params

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
            return build_plan(statement, self.backend.dialect, bound, columns, in_step=in_step)

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

    def run_core(self, statement: Any) -> Operation[list[Any]]:
        """Run a Core statement with RETURNING inside a flush; answers processed rows."""
        plan, bound, params = self.plan(statement, None)
        sql, values = plan.bind(bound, params)
        rows = yield from fetch(sql, values, binary=plan.binary)
        out = self.hydrate(plan, rows, False)
        return [(value,) for value in out] if len(plan.slots) == 1 else out

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
        self, entity: Any, ident: Any, options: Sequence[LoaderOption] = (), refresh: bool = False, lock: Any = None
    ) -> Operation[Any]:
        """The object of a key: from the identity map if this transaction loaded it, else by one statement."""
        self._check_usable()
        mapper = mapper_of(entity)
        key = _key_of(mapper, ident)
        if not refresh and lock is None:
            member = self.identity(mapper).get(key)
            if member is not None and (found := member()) is not None:
                if not options and (found.__dict__[BATCH].epoch == self.epoch or id(found) in self.dirty):
                    return found
        if self.new or self.dirty or self.deleted or self.read:
            yield from self._autoflush()
        if options or lock is not None:
            return (yield from self._get_by_statement(mapper, key, options, lock))
        if self.scope is not None:
            yield from self.ensure_transaction()
        loader = loading.key_loader(self.backend, mapper)
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

    def _get_by_statement(self, mapper: Mapper, key: Any, options: Sequence[Any], lock: Any) -> Operation[Any]:
        values = key if isinstance(key, tuple) and len(mapper.primary_key) > 1 else (key,)
        columns = [mapper.columns[name] for name in mapper.primary_key]
        statement = sa.select(mapper.entity).where(*(c == v for c, v in zip(columns, values, strict=True)))
        if options:
            statement = statement.options(*options)
        if lock is not None:
            statement = statement.with_for_update(**({} if lock is True else dict(lock)))
        result = yield from self.execute(statement, None, {"populate_existing": True})
        return result.scalars().first()

    # ------------------------------------------------------------ loading

    def load_attribute(self, instance: Any, mapper: Mapper, name: str) -> Operation[None]:
        """Load an attribute for an object and its siblings."""
        yield from self._autoflush()
        if self.scope is not None:
            yield from self.ensure_transaction()
        if name in instance.__dict__:
            return
        batch = instance.__dict__[BATCH]
        members = batch.alive()
        if not any(member is instance for member in members):
            members.append(instance)
        relation = mapper.relations.get(name)
        if relation is None:
            lacking = [m for m in members if name not in m.__dict__ and RAW + name not in m.__dict__]
            yield from loading.load_column(self, mapper, lacking, name)
            if name not in instance.__dict__ and RAW + name not in instance.__dict__:
                raise loading.row_gone(mapper)
            return
        branch = self._branch(batch, relation)
        yield from loading.load_relation(self, mapper, members, relation, branch, False)

    def load_relation(self, mapper: Mapper, instances: Sequence[Any], relation: Relation) -> Operation[None]:
        """Load a relation in the course of a flush."""
        lacking = [i for i in instances if relation.name not in i.__dict__]
        if lacking:
            branch = PLAIN.branch(relation)
            yield from loading.load_relation(self, mapper, lacking, relation, branch, False)

    def load(self, objects: Any, path: Sequence[Any]) -> Operation[None]:
        """Load a path of relations for objects: one statement per step."""
        self._check_usable()
        yield from self._autoflush()
        if self.scope is not None:
            yield from self.ensure_transaction()
        here = _as_list(objects)
        for attribute in path:
            if not here:
                return
            mapper = mapper_of(here[0])
            for instance in here:
                if not self.holds(instance):
                    raise DetachedInstanceError(model=mapper.name, name=str(attribute))
            if not isinstance(attribute, RelationAttribute):
                yield from self._load_columns(mapper, here, attribute)
                continue
            relation = attribute.relation
            if relation.parent is not mapper:
                raise InvalidRequestError(
                    f"{relation.parent.name}.{relation.name} is no relation of {mapper.name}",
                    mend=f"Begin the path with a relation of {mapper.name}.",
                )
            branch = replace(PLAIN.branch(relation), strategy="selectin", criteria=attribute.extra)
            yield from loading.load_relation(self, mapper, here, relation, branch, bool(attribute.extra))
            here = list({id(t): t for o in here for t in eager.held(o, relation)}.values())

    def _load_columns(self, mapper: Mapper, instances: list[Any], attribute: Any) -> Operation[None]:
        name = mapper.attributes.get(attribute)
        if name is None:
            raise InvalidRequestError(
                f"{attribute} is no attribute of {mapper.name}", mend=f"Name an attribute of {mapper.name}."
            )
        lacking = [i for i in instances if name not in i.__dict__ and RAW + name not in i.__dict__]
        if lacking:
            yield from loading.load_column(self, mapper, lacking, name)

    def refresh(self, instance: Any, names: Iterable[str] | None = None, lock: Any = None) -> Operation[None]:
        """Read the object's row again; changes that were not flushed are lost."""
        self._check_usable()
        mapper = mapper_of(instance)
        if not self.holds(instance) or id(instance) in self.new:
            raise InvalidRequestError(
                f"This {mapper.name} has no row in this session", mend="Add it and flush first: session.flush()."
            )
        names = None if names is None else list(names)
        relations = [mapper.relations[n] for n in names or mapper.relations if n in mapper.relations]
        unknown = [n for n in names or () if n not in mapper.columns and n not in mapper.relations]
        if unknown:
            raise unknown_attribute(mapper, unknown[0])
        self._discard_changes(instance, names)
        yield from self._autoflush()
        columns = tuple(n for n in names or () if n in mapper.columns)
        if columns and lock is None:
            yield from loading.load_columns(self, mapper, [instance], columns, again=True)
        elif names is None or columns:
            key = self.row_key(mapper, instance)
            found = yield from self._get_by_statement(mapper, key[0] if len(key) == 1 else key, (), lock)
            if found is None:
                raise loading.row_gone(mapper)
        for relation in relations:
            if names is not None:
                yield from loading.load_relation(self, mapper, [instance], relation, PLAIN.branch(relation), True)
            else:
                instance.__dict__.pop(relation.name, None)

    def _discard_changes(self, instance: Any, names: Sequence[str] | None) -> None:
        """What was changed and not flushed goes back to what the row holds, before others are flushed."""
        for name in instance.__mapper__.mutable if names is None else names:
            forget_copy(instance, name)
        change = self.dirty.get(id(instance))
        if change is not None:
            change.take_back(names)
            if not change.originals:
                del self.dirty[id(instance)]

    def merge(self, instance: Any, load: bool = True) -> Operation[Any]:
        """Copy an object's state onto the session's object of the same key; answers that object."""
        yield from self._autoflush()
        before, self.autoflush = self.autoflush, False  # objects half copied must not be written
        try:
            return (yield from self._merge(instance, {}))
        finally:
            self.autoflush = before

    def _merge(self, instance: Any, done: dict[Any, Any]) -> Operation[Any]:
        if id(instance) in done:
            return done[id(instance)]
        mapper = mapper_of(instance)
        if self.holds(instance):
            done[id(instance)] = instance
            return instance
        values = instance.__dict__
        key = self._key(mapper, instance)
        complete = key is not None and not (isinstance(key, tuple) and None in key)
        merged = (yield from self.get(mapper.class_, key)) if complete else None
        if merged is None:
            merged = mapper.class_.__new__(mapper.class_)
            self.add(merged)
        done[id(instance)] = merged
        for name in mapper.columns:
            value = values.get(name, values.get(RAW + name, MISSING))
            held = merged.__dict__.get(name, merged.__dict__.get(RAW + name, MISSING))
            if value is not MISSING and (held is MISSING or held != value):
                setattr(merged, name, value)
        for relation in mapper.relations.values():
            arrived_by = (id(instance), relation.back)  # then this side knows only the one it was reached from
            if "merge" in relation.cascade and relation.name in values and arrived_by not in done:
                yield from self._merge_relation(merged, relation, values[relation.name], done)
        return merged

    def _merge_relation(self, merged: Any, relation: Relation, held: Any, done: dict[Any, Any]) -> Operation[None]:
        if relation.viewonly:
            return
        if not merged.__dict__[BATCH].pending and relation.name not in merged.__dict__:
            yield from self.load_relation(relation.parent, [merged], relation)
        targets = []
        for target in held if relation.uselist else [held] if held is not None else ():
            done[id(target), relation] = True
            targets.append((yield from self._merge(target, done)))
        setattr(merged, relation.name, targets if relation.uselist else targets[0] if targets else None)


# ---------------------------------------------------------------- small questions


def _forbidden(mapper: Mapper, tree: LoadTree) -> frozenset[str]:
    return frozenset(
        name
        for name, relation in mapper.relations.items()
        if tree.branch(relation).strategy in ("raise", "raise_on_sql")
    )


def _reachable(instance: Any, cascade: str) -> list[Any]:
    values = instance.__dict__
    return [
        target
        for relation in mapper_of(instance).reaches(cascade)
        if relation.name in values
        for target in eager.held(instance, relation)
    ]


def _as_list(objects: Any) -> list[Any]:
    if hasattr(type(objects), "__mapper__"):
        return [objects]
    return list({id(o): o for o in objects if o is not None}.values())


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
