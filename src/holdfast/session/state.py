"""What a session holds: its objects by key, what changed, and what it may do next.

States of an object: no batch, *transient*; ``pending`` batch, *pending* (in ``new``); a batch of this session,
*persistent* (in the identity map); a batch without session, or of a closed one, *detached*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NoReturn
from weakref import ref

from holdfast.errors import (
    OperationalError,
    SessionClosed,
    SessionInUse,
)
from holdfast.model import (
    BATCH,
    MISSING,
    RAW,
    Batch,
    InstrumentedList,
    InstrumentedSet,
    Mapper,
    Relation,
    note_detached,
)
from holdfast.plan import Backend
from holdfast.query import PLAIN, LoadTree
from holdfast.steps import Operation
from holdfast.tx import Scope

from .changes import Change, Frame

_EMPTY: frozenset[str] = frozenset()


class SessionState:
    """The identity map, the changes, and the guards of one session."""

    change_kind: ClassVar[type[Change]] = Change
    """What `native.AttributeSetter` makes of the first change of an object."""

    __slots__ = (
        "_got",
        "_pending",
        "abandoned",
        "autoflush",
        "awaiter",
        "backend",
        "busy",
        "closed",
        "conflict",
        "deleted",
        "dirty",
        "due",
        "epoch",
        "failed",
        "flushing",
        "follows",
        "frames",
        "identities",
        "in_doubt",
        "in_transaction",
        "leaving",
        "lost",
        "new",
        "parted",
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
        self.parted: dict[tuple[int, Relation], Any] = {}  # let go by an owner, maybe of this very window
        self.read: dict[tuple[int, str], Any] = {}
        self.frames: list[Frame] = []
        self.epoch = 0
        self.in_transaction = False
        self.failed = False
        self.conflict: OperationalError | None = None  # the last one that an operation met: see `doom`
        self.in_doubt = False  # whether its COMMIT has lasted
        self.due: list[Callable[[], Any]] = []  # hooks of what has just ended
        self.lost = False
        self.leaving = False
        self.flushing = False
        self.closed = False
        self.abandoned = False  # an attempt of a unit of work that runs again
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
        key = (
            "forbidden" if tree is None or tree is PLAIN else ("forbidden", tree)
        )  # to hash a tree costs 1 µs
        forbidden = mapper.memo.get(key)
        if forbidden is None:
            forbidden = mapper.memo[key] = _forbidden(mapper, tree or PLAIN)
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

    def check_open(self) -> None:
        if self.closed:
            raise SessionClosed

    def refuse(self) -> NoReturn:
        """Refuse an operation: the session is closed, or another one is under way."""
        raise SessionClosed if self.closed else SessionInUse

    # ------------------------------------------------------------ what instances and flushes tell

    def note_change(self, instance: Any, name: str) -> None:
        """Remember what an attribute was before its first change."""
        values = instance.__dict__
        if values[BATCH].pending:
            return
        if self.closed:
            note_detached(instance, name)
            return
        key = id(instance)
        change = self.dirty.get(key)
        if change is None:
            (self.frames[-1] if self.frames else self.frame).save(instance)
            change = self.dirty[key] = Change(instance)
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

    def find_owner(self, relation: Relation, target: Any) -> Any:
        """Who has a target of a one-to-many relation by its row, if the identity map has that one."""
        names = {local: relation.target.attributes[remote] for local, remote in relation.pairs}
        columns = [relation.parent.columns[name] for name in relation.parent.primary_key]
        if set(names) != set(columns):
            return None
        key = self.row_values(target, [names[column] for column in columns])
        return None if None in key else self.find(relation.parent, key[0] if len(key) == 1 else key)

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


def _forbidden(mapper: Mapper, tree: LoadTree) -> frozenset[str]:
    return frozenset(
        name
        for name, relation in mapper.relations.items()
        if tree.branch(relation).strategy in ("raise", "raise_on_sql")
    )
