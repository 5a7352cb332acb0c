"""Which objects belong to a session: adding, deleting, letting go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import ref

from holdfast.errors import (
    InvalidRequestError,
    ObjectInOtherSession,
)
from holdfast.model import (
    BATCH,
    CHANGED,
    DETACHED,
    MISSING,
    RAW,
    Batch,
    Mapper,
    Relation,
    mapper_of,
)
from holdfast.native import kinds, values_of

from . import eager
from .changes import GONE, Change, make_transient
from .state import SessionState


class Membership(SessionState):
    """A session that objects enter and leave."""

    __slots__ = ()

    def cascade_add(self, instance: Any) -> None:
        if not self.holds(instance) or id(instance) in self.deleted:
            self.add(instance)

    def released(self, relation: Relation, instance: Any) -> None:
        """Its owner let an object go: a pending one is forgotten, one with a row is looked at by the flush."""
        if id(instance) not in self.new:
            self.parted[id(instance), relation] = instance
        elif relation.back is None or instance.__dict__.get(relation.back.name) is None:
            self.expunge(instance)

    def add(self, instance: Any) -> None:
        """Add an object and all it reaches along save-update cascades."""
        self.check_open()
        waiting = [instance]
        for found in waiting:  # grows as it goes, so that objects are added in the order they are reached
            if self._add_one(found) or found is instance:
                waiting.extend(_reachable(found, "save-update"))
                waiting.extend(self._let_go(found))

    def _let_go(self, instance: Any) -> list[Any]:
        """What a detached object held before its changes: the flush must know it to let it go."""
        change = self.dirty.get(id(instance))
        if change is None:
            return []
        held: list[Any] = []
        for relation in mapper_of(instance).reaches("save-update"):
            before = change.originals.get(relation.name)
            if before is not None and before is not MISSING:
                held += before if relation.uselist else [before]
        return [one for one in held if BATCH in one.__dict__ and not self.holds(one)]

    def add_all(self, instances: Iterable[Any]) -> None:
        """Add objects; new ones of one class that reach nothing take the short way."""
        self.check_open()
        every = list(instances)
        classes = kinds(every)
        mapper = classes.pop().__dict__.get("__mapper__") if len(classes) == 1 else None
        held = [] if mapper is None else values_of(every)
        if mapper is None or any([BATCH in one or not mapper.reaches_nothing(one) for one in held]):  # noqa: C419
            for instance in every:
                self.add(instance)
            return
        pending = self._pending or self._make_pending()
        for values in held:
            values[BATCH] = pending
        entries = dict(zip(map(id, every), every, strict=True))
        self.new.update(entries)
        self.frame.added.update(entries)

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
        refuse_abandoned(mapper, batch)
        if batch is GONE:
            raise InvalidRequestError(
                f"This {mapper.name} was deleted",
                mend="Make a new object, or roll back the transaction that deleted it.",
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
        originals = instance.__dict__.pop(CHANGED, None)
        for name in mapper.mutable:
            if name in instance.__dict__ and RAW + name in instance.__dict__:
                self.note_read(instance, name)  # in somebody's hands, maybe changed in place
        if originals:  # changed while no session held it
            self.frame.save_as(instance, originals)
            change = self.dirty[id(instance)] = Change(instance)
            change.originals.update(originals)

    def delete(self, instance: Any) -> None:
        """Mark an object; the next flush deletes its row."""
        self.check_open()
        mapper = mapper_of(instance)
        if any(id(instance) in frame.deleted for frame in self.frames):
            return  # gone already, maybe as an orphan with the flush of a query
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
                f"This {mapper_of(instance).name} is not in this session",
                mend="Expunge it from the session that has it.",
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
            for frame in self.frames:
                frame.forget(instance)
            make_transient(instance)
            return
        self.drop_identity(mapper_of(instance), instance)
        self._leave_changed(self.dirty.pop(id(instance), None))
        self.deleted.pop(id(instance), None)
        for frame in self.frames:
            frame.forget(instance)
        instance.__dict__[BATCH] = DETACHED

    def _leave_changed(self, change: Change | None) -> None:
        """What was not written yet goes with the object, and is written by the session that takes it back."""
        if change is not None and change.originals:
            change.instance.__dict__[CHANGED] = change.originals

    def expunge_all(self) -> None:
        """Let all objects go."""
        for change in self.dirty.values():
            self._leave_changed(change)
        for instance in list(self.new.values()):
            make_transient(instance)
        for identity in self.identities.values():
            for member in identity.values():
                instance = member()
                if instance is not None and self.holds(instance):
                    instance.__dict__[BATCH] = DETACHED
        self.new.clear()
        for frame in self.frames:
            frame.forget_all()
        self.forget_all()

    def forget_all(self) -> None:
        self.identities.clear()
        self.dirty.clear()
        self.deleted.clear()
        self.parted.clear()
        self.read.clear()
        self._got.clear()


def refuse_abandoned(mapper: Mapper, batch: Batch | None) -> None:
    """Refuse what an attempt held that runs again: it was read before the conflict, and its changes were undone."""
    if batch is not None and batch.session is not None and batch.session.abandoned:
        raise ObjectInOtherSession(
            f"The {mapper.name} belongs to an attempt that was undone and runs again, so it is out of date",
            mend=f"Load it in each attempt: `session.get_one({mapper.name}, key)`.",
        )


def _reachable(instance: Any, cascade: str) -> list[Any]:
    values = instance.__dict__
    return [
        target
        for relation in mapper_of(instance).reaches(cascade)
        if relation.name in values
        for target in eager.held(instance, relation)
    ]
