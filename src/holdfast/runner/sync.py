"""Runs operations on a connection of a blocking pool.

Rule: between two operations a connection is held only while it is in a transaction.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar

from holdfast.observe import Observers
from holdfast.runner.drive import Teller, drive
from holdfast.runner.protocol import Lender, Translate
from holdfast.steps import Command, Operation, Step

T = TypeVar("T")


class SyncRunner:
    """Carries out the operations of one session, one after the other."""

    __slots__ = ("_pool", "_teller", "_translate", "connection")

    def __init__(
        self,
        pool: Lender,
        translate: Translate,
        observers: Observers | None = None,
        *,
        echo: bool | str = False,
    ) -> None:
        self._pool = pool
        self._translate = translate
        self._teller = Teller(observers if observers is not None else Observers(), echo)
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
                return drive(operation, step, self._translate, perform=self._perform)
            if self.connection is None and (failure := self._borrow()) is not None:
                return self._go_on(operation, failure)
            return drive(operation, step, self._translate, self.connection)
        finally:
            connection = self.connection
            if connection is not None and not connection.in_transaction:
                self.connection = None
                self._pool.release(connection, discard=not connection.usable)

    def close(self) -> None:
        """Roll back what is open and give the connection back."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        with suppress(Exception):
            if connection.in_transaction:
                connection.command("ROLLBACK")
        self._pool.release(connection, discard=connection.in_transaction or not connection.usable)

    def abandon(self) -> None:
        """Throw the connection away when nobody will come back for it."""
        self.discard()

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
        return drive(operation, step, self._translate, perform=self._perform)

    def _perform(self, step: Step) -> Any:
        """Carry out a step when there may be no connection yet, or somebody listens."""
        if self.connection is None:
            if isinstance(step, Command) and step.cleanup:
                return None  # nothing is open, so there is nothing to clean
            self.connection = self._pool.acquire()
        if self._teller.active:
            return self._teller.tell(step, self.connection, self._translate)
        return step.perform(self.connection)
