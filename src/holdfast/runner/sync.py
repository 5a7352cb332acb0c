"""Runs operations on a connection of a blocking pool.

Rule: between two operations a connection is held only while it is in a transaction.  Ctrl-C ends a statement and
with it the transaction; a COMMIT or a clean-up it waits for.
"""

from __future__ import annotations

from typing import Any, TypeVar

from holdfast.runner import outcome
from holdfast.runner.drive import SILENT, Teller, drive, end
from holdfast.runner.interrupt import Shield
from holdfast.runner.protocol import Lender, Translate
from holdfast.steps import THROWN_AWAY, Command, Operation, Step

T = TypeVar("T")


class SyncRunner:
    """Carries out the operations of one session, one after the other."""

    __slots__ = ("_pool", "_shield", "_teller", "_translate", "connection")

    def __init__(self, pool: Lender, translate: Translate, teller: Teller = SILENT) -> None:
        self._pool = pool
        self._translate = translate
        self._teller = teller
        self._shield: Shield | None = None
        self.connection: Any = None

    def __repr__(self) -> str:
        return f"SyncRunner(connection={self.connection!r})"

    def __call__(self, operation: Operation[T]) -> T:
        """Carry out an operation; answers what it returns, raises what it raises.

        An operation without a step costs no connection.
        """
        try:
            step = operation.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        teller = self._teller
        try:
            if teller.echo or teller.observers.active or type(step) is Command:
                return drive(operation, step, self._translate, self._perform)
            if self.connection is None and (failure := self._borrow()) is not None:
                return self._go_on(operation, failure)
            return drive(operation, step, self._translate, self._perform, self.connection)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._settle(operation)
            raise
        finally:
            if self._shield is not None:
                self._shield.spare()
            connection = self.connection
            if connection is not None and not connection.in_transaction:
                self.connection = None
                self._pool.release(connection, discard=not connection.usable)
            if self._shield is not None:
                self._put_down()

    def close(self) -> None:
        """Roll back what is open and give the connection back."""
        if self.connection is None:
            return
        try:
            self._end()
        finally:
            self._put_down()

    def abandon(self) -> None:
        """Throw the connection away when nobody will come back for it; waits for nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self._pool.abandon(connection)

    def discard(self) -> None:
        """Throw the connection away, and with it what is open."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self._pool.release(connection, discard=True)

    def _borrow(self) -> BaseException | None:
        try:
            self.connection = self._pool.acquire()
        except BaseException as error:
            return error
        return None

    def _go_on(self, operation: Operation[T], failure: BaseException) -> T:
        """Tell an operation that there is no connection; it may ask again."""
        try:
            step = operation.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        return drive(operation, step, self._translate, self._perform)

    def _perform(self, step: Step) -> Any:
        """Carry out a step when there may be no connection yet, or somebody listens."""
        if type(step) is Command and step.is_kept:
            return self._perform_kept(step)
        if self.connection is None:
            self.connection = self._pool.acquire()
        if self._teller.active:
            return self._teller.tell(step, self.connection, self._translate)
        return step.perform(self.connection)

    def _perform_kept(self, step: Command) -> Any:
        """Carry out a COMMIT or a clean-up, which Ctrl-C waits for."""
        if not self._may_begin(step):
            return THROWN_AWAY
        try:
            answer = self._teller.tell(step, self.connection, self._translate)
        except Exception:
            if step.cleanup:
                self._end()  # what could not be undone in part is undone as a whole
            raise
        if (contradicted := outcome.contradiction(answer, step)) is not None:
            raise contradicted
        return answer

    def _may_begin(self, step: Command) -> bool:
        """Put Ctrl-C off for a COMMIT or a clean-up; tell whether there is anything to end."""
        if step.finish:
            refused = outcome.refusal(self.connection, step)
            if refused is not None:
                raise refused
        elif self.connection is None:
            return False  # nothing is open, so there is nothing to clean
        self._put_up()
        return True

    def _settle(self, operation: Operation[Any]) -> None:
        """End the transaction of an operation that Ctrl-C or the like has ended."""
        end(operation)
        if self.connection is not None:
            self._end()

    def _end(self) -> None:
        """Roll back what is open, and give the connection back clean or throw it away, whatever comes."""
        self._put_up()
        connection = self.connection
        try:
            if connection.usable and connection.in_transaction:
                connection.command("ROLLBACK")
        except Exception:
            pass  # it shows in the connection's state
        finally:
            if self._shield is not None:
                self._shield.spare()
            self.connection = None
            self._pool.release(connection, discard=connection.in_transaction or not connection.usable)

    def _put_up(self) -> None:
        if self._shield is None:
            self._shield = Shield(self.connection.cut)
        self._shield.raise_up()

    def _put_down(self) -> None:
        shield, self._shield = self._shield, None
        if shield is not None:
            shield.put_down()
