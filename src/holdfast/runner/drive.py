"""Carrying out one operation on one connection, blocking.

Rule: an error is thrown into the generator *outside* the ``except`` that caught it, so that our
error has neither cause nor context: the driver's text may quote a user's values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, TypeVar

from holdfast.errors import HoldfastError
from holdfast.observe import Observers, StatementEnded, StatementFailed, StatementStarted
from holdfast.runner.outcome import judge
from holdfast.runner.protocol import Translate
from holdfast.steps import Answer, Command, Operation, Step

T = TypeVar("T")
Perform = Callable[[Step], Any]
sql_log = logging.getLogger("holdfast.sql")


def drive(
    operation: Operation[T],
    step: Step,
    translate: Translate,
    perform: Perform,
    connection: Any = None,
) -> T:
    """Carry out an operation from this step on; answers what it returns.

    ``perform`` carries out steps.  With a ``connection`` all but commands meet it directly, which saves a call.
    """
    send = operation.send
    failure: BaseException | None = None
    while True:
        answer: Any = None
        try:
            if connection is None or type(step) is Command:
                answer = perform(step)
            else:
                answer = step.perform(connection)
        except BaseException as error:
            failure = to_throw(error, step, translate)
        try:
            step = send(answer) if failure is None else operation.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            failure = None  # else it would hold this frame, which holds it, and the connection


def to_throw(error: BaseException, step: Step, translate: Translate) -> BaseException:
    """Give what the generator shall see instead of a driver's exception."""
    if isinstance(error, HoldfastError) or not isinstance(error, Exception):
        return error
    return judge(translate(error, step.sql, getattr(step, "params", ())), step)


def end(operation: Operation[Any]) -> None:
    """Let an operation that was left between two steps undo its own notes; it may ask for nothing more."""
    with suppress(RuntimeError):  # it asked for a clean-up, which the connection gets without its asking
        operation.close()


class Teller:
    """Tells observers and the log what is done, for all sessions of a database; without both it is not in the way."""

    __slots__ = ("echo", "observers")

    def __init__(self, observers: Observers, echo: bool | str) -> None:
        self.observers = observers
        self.echo = echo

    @property
    def active(self) -> bool:
        return bool(self.echo) or self.observers.active

    def started(self, step: Step) -> float:
        if self.echo:
            sql_log.info("%s", step.sql)
        if self.observers.active:
            self.observers.emit(StatementStarted(step.sql))
        return perf_counter()

    def ended(self, step: Step, answer: Any, start: float) -> None:
        if self.observers.active:
            self.observers.emit(StatementEnded(step.sql, _rowcount(answer), perf_counter() - start))

    def failed(self, step: Step, error: BaseException, start: float) -> None:
        if self.observers.active:
            self.observers.emit(StatementFailed(step.sql, error, perf_counter() - start))

    def tell(self, step: Step, connection: Any, translate: Translate) -> Any:
        """Carry out a step and tell of it."""
        start = self.started(step)
        failure: BaseException | None = None
        answer: Any = None
        try:
            answer = step.perform(connection)
        except BaseException as error:
            failure = to_throw(error, step, translate)
        if failure is not None:
            self.failed(step, failure, start)
            try:
                raise failure
            finally:
                failure = None  # as in `drive`
        self.ended(step, answer, start)
        return answer


SILENT = Teller(Observers(), echo=False)


def _rowcount(answer: Any) -> int:
    if isinstance(answer, int):
        return answer
    if isinstance(answer, Answer):
        return answer.rowcount if answer.keys is None else len(answer.rows)
    return -1 if answer is None or isinstance(answer, str) else len(answer)
