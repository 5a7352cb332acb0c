"""Flush, commit, rollback, savepoints; what a rollback gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from holdfast.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseError,
    InvalidRequestError,
    NestedBegin,
    OperationalError,
    TransactionFailed,
)
from holdfast.model import (
    BATCH,
    RAW,
    mapper_of,
)
from holdfast.steps import THROWN_AWAY, Operation, command
from holdfast.tx import (
    Scope,
    begin_at_once,
    begin_sql,
    is_conflict,
    take_lock,
    take_number,
)

from .changes import Frame, Hook, forget_copy, make_transient
from .flush import Flush
from .locks import read_only_lock
from .membership import Membership

if TYPE_CHECKING:
    from .core import SessionCore


class Transactions(Membership):
    """A session that saves."""

    __slots__ = ()

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
        self.parted.clear()

    def flush(self) -> Operation[None]:
        """Write what changed."""
        if not self.has_changes():
            return
        self._check_usable()
        self._read_changed()
        self.flushing = True
        try:
            yield from Flush(cast("SessionCore", self)).run()
        except BaseException:
            self.failed = True
            raise
        finally:
            self.flushing = False

    def _autoflush(self) -> Operation[None]:
        if self.autoflush and (self.new or self.dirty or self.deleted or self.read):
            yield from self.flush()

    def _check_usable(self) -> None:
        if self.failed:
            raise TransactionFailed

    def operation_failed(self, error: BaseException, *, let_go: bool) -> None:
        """Learn from an error what became of the transaction; ``let_go``: its connection is no longer held.

        A transaction that the server has aborted, or that went with its connection, must be rolled back before anything
        else: statements would run outside it, or a COMMIT would answer and keep nothing.
        """
        if is_conflict(error):
            self.conflict = error
        if not self.in_transaction:
            return
        if let_go or not isinstance(error, Exception):
            self.failed = self.lost = True
        elif isinstance(error, DatabaseError) and self.backend.capabilities.aborts_on_error:
            self.failed = True

    def doom(self) -> OperationalError | None:
        """The conflict for which nothing of this transaction can last; None where it may last yet, or has maybe."""
        return self.conflict if (self.failed or not self.in_transaction) and not self.in_doubt else None

    def ensure_transaction(self) -> Operation[None]:
        if not self.in_transaction:
            begin, *more = begin_sql(self.backend.capabilities, self.scope or Scope())
            yield from command(begin)
            self.in_transaction, self.conflict = True, None  # one that kept it from opening is over
            for sql in more:
                yield from self._complete(sql)

    def _complete(self, sql: str) -> Operation[None]:
        """Say the rest of a BEGIN; without it the transaction would not be what was asked for."""
        try:
            yield from command(sql)
        except BaseException:
            self.failed = True
            raise

    def begin(self, scope: Scope) -> None:
        """Ask for a transaction; it is opened with the first statement."""
        if self.scope is not None or self.in_transaction:
            raise NestedBegin
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
            yield from self._commit()
        self.committed()

    def committed(self) -> None:
        """The transaction lasts."""
        self._end()
        self._take_hooks(self.frames, committed=True)
        self.frames.clear()

    def not_committed(self, error: ConnectionLost) -> None:
        """A COMMIT that was in doubt has not lasted."""
        self.in_doubt = False
        self.conflict = error

    def _commit(self) -> Operation[None]:
        """Say COMMIT; one that could write nothing is not done where its outcome is unknown."""
        scope = self.scope or Scope()
        asks = scope.resolve and not scope.read_only and self.backend.capabilities.transaction_status
        asks = asks and any(frame.wrote for frame in self.frames)
        number = (yield from take_number(self.backend.identities)) if asks else None
        try:
            yield from command("COMMIT", finish=True)
        except CommitOutcomeUnknown as error:
            self.failed = True
            if scope.read_only or (asks and number is None):
                raise ConnectionLost(statement=error.statement, orig=error.orig) from None
            self.in_doubt, error.transaction = True, number
            raise
        except BaseException as error:
            self.failed, self.in_doubt = True, not isinstance(error, Exception)
            raise

    def on_end(self, function: Callable[[], Any], *, committed: bool) -> None:
        """Keep a hook until the transaction ends; a savepoint that is undone takes its own with it."""
        self.check_open()
        self.frame.hooks.append(Hook(function, committed))

    def _take_hooks(self, frames: Iterable[Frame], *, committed: bool) -> None:
        if self.in_doubt:
            return  # nobody knows which of them should run
        for frame in frames:
            for hook in frame.hooks:
                if hook.after_commit is committed:
                    self.due.append(hook.function)

    def take_due(self) -> list[Callable[[], Any]]:
        """The hooks of the transaction that has just ended, once."""
        due, self.due = self.due, []
        return due

    def lock(self, name: str | int, *, wait: bool) -> Operation[bool]:
        """Take an advisory lock until the transaction ends; tell whether it was had."""
        self._check_usable()
        if self.backend.capabilities.advisory_locks:
            yield from self.ensure_transaction()
            return (yield from take_lock(self.backend.capabilities, name, wait=wait))
        if self.scope is not None and self.scope.read_only:
            raise read_only_lock()
        if wait or self.in_transaction:
            yield from self.ensure_transaction()
        elif not (yield from begin_at_once()):
            return False
        else:
            self.in_transaction, self.conflict = True, None
        return True

    def rollback(self) -> Operation[None]:
        """Undo what was not committed; objects go back to what they were, without a query."""
        try:
            if self.in_transaction:
                yield from self._end_lost("ROLLBACK")
        finally:
            self._undo()
            self._end()

    def _undo(self) -> None:
        """Give objects back what they were before the transaction."""
        self._undo_frames(0)

    def _undo_frames(self, place: int) -> None:
        """Undo the frame at a place, and those within it."""
        self._take_hooks(self.frames[place:], committed=False)
        while len(self.frames) > place:
            self._restore(self.frames.pop())
        self._forget_unflushed()

    def _end(self) -> None:
        self.in_transaction = self.failed = self.lost = self.in_doubt = False
        self.scope = self.conflict = None
        self.epoch += 1
        self._got.clear()
        self._purge()

    def _purge(self) -> None:
        """Drop dead references, now and then."""
        for identity in self.identities.values():
            if len(identity) > 1000:
                for key in [k for k, member in identity.items() if member() is None]:
                    del identity[key]

    def savepoint(self) -> Operation[Frame]:
        """Open a savepoint; answers its frame, by which it is released or undone."""
        self._check_usable()
        yield from self.flush()
        yield from self.ensure_transaction()
        if not self.frames:
            self.frames.append(Frame())
        frame = Frame(f"holdfast_{len(self.frames)}")
        yield from command(f"SAVEPOINT {frame.name}")
        self.frames.append(frame)
        return frame

    def has_savepoint(self, frame: Frame) -> bool:
        """Whether a savepoint is open: the end of its transaction closes it, too."""
        return any(open_ is frame for open_ in self.frames)

    def release(self, frame: Frame) -> Operation[None]:
        """Keep what was done since the savepoint."""
        self._check_usable()
        yield from self.flush()
        yield from command(f"RELEASE SAVEPOINT {frame.name}")
        while self.has_savepoint(frame):  # those within it are released with it
            self.frames.pop().merge_into(self.frame)

    def rollback_to(self, frame: Frame) -> Operation[None]:
        """Undo what was done since the savepoint."""
        try:
            yield from self._end_lost(f"ROLLBACK TO SAVEPOINT {frame.name}")
            yield from self._end_lost(f"RELEASE SAVEPOINT {frame.name}")
            self.failed = self.lost
            self.conflict = self.conflict if self.lost else None
        finally:
            self._undo_frames(self.frames.index(frame) if self.has_savepoint(frame) else len(self.frames))
            self.epoch += 1

    def _end_lost(self, sql: str) -> Operation[None]:
        """Undo on the server; where the transaction went with its connection, that is done already.

        A runner ends the whole transaction when a clean-up is refused.
        """
        if self.lost and "SAVEPOINT" in sql:
            return
        try:
            if (yield from command(sql, cleanup=True)) is THROWN_AWAY:
                self.failed = self.lost = True
        except DatabaseError as error:
            self.failed = self.lost = True
            if "SAVEPOINT" in sql and not isinstance(error, ConnectionLost):
                raise

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
        self.parted.clear()
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
                yield from self._end_lost("ROLLBACK")
        finally:
            if any(frame.wrote for frame in self.frames):
                self._undo()
            self.finish()

    def finish(self) -> None:
        """Let all objects go.  They are not visited: a batch whose session is closed is detached."""
        self.in_transaction = False
        self.closed = True
        self.touch = self.awaiter = None  # they lead back to the door: a ring for the garbage collector
        for instance in self.new.values():
            make_transient(instance)
        self.new.clear()
        if self.frames:
            self._take_hooks(self.frames, committed=False)
            self.frames.clear()
        self.forget_all()
