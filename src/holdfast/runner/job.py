"""Work on its way to a thread and back, which a task awaits.

A job is awaited without a future: asyncio takes anything that speaks like one.  A future would have the loop turn once
more between the work's end and the task's next step; a job wakes its task in the turn that brings the end
(docs/decisions/one-hop.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

from holdfast.runner import outcome
from holdfast.runner.drive import drive
from holdfast.runner.protocol import Translate
from holdfast.steps import Command, Operation, Step


class Job:
    """What a thread shall do for a task of an event loop, and how it ended.

    To asyncio it is a future with one waiter.  A cancellation wakes the waiter before the thread is back.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_context",
        "_wake",
        "cancelled",
        "cleaning",
        "ended",
        "error",
        "loop",
        "spoiled",
        "value",
    )

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.cancelled = False
        self.cleaning = False
        self.ended = False
        self.spoiled = False  # a clean-up failed
        self.value: Any = None
        self.error: BaseException | None = None
        self._wake: Callable[[Job], Any] | None = None
        self._context: Context | None = None
        self._asyncio_future_blocking = False

    def work(self) -> Any:
        """What the thread does."""
        raise NotImplementedError

    def deliver(self) -> None:
        """Hand the end to whoever waits; runs on the loop."""
        self.ended = True
        if (wake := self._wake) is not None:
            self._wake = None
            if self._context is None:
                wake(self)
            else:
                self._context.run(wake, self)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end; answers the value, raises the error."""
        if not self.ended:
            self._asyncio_future_blocking = True
            yield self
        if self.error is not None:
            error, self.error = self.error, None
            try:
                raise error
            finally:
                del error  # else the error would hold its traceback, and that this frame, for ever
        return self.value

    def coming_back(self) -> asyncio.Future[None]:
        """A future that is done when the thread is, for a waiter that was woken before."""
        back: asyncio.Future[None] = self.loop.create_future()
        self.add_done_callback(lambda _: None if back.done() else back.set_result(None))
        return back

    # ------------------------------------------------------------ what asyncio asks of a future

    def get_loop(self) -> Any:
        """The loop of whoever waits."""
        return self.loop

    def add_done_callback(self, wake: Callable[[Job], Any], *, context: Context | None = None) -> None:
        """Have the waiter woken at the end."""
        self._wake = wake
        self._context = context

    def cancel(self, msg: Any = None) -> bool:
        """Wake the waiter with a cancellation; it is for the waiter to stop the thread."""
        if (wake := self._wake) is None:
            return False
        self._wake = None
        self.cancelled = True
        self.loop.call_soon(wake, self, context=self._context)
        return True

    def result(self) -> None:
        """Refuse, by raising, a waiter that is to be cancelled; the rest says `__await__`."""
        if self.cancelled:
            raise asyncio.CancelledError


class Call(Job):
    """One function."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], Any], loop: Any) -> None:
        super().__init__(loop)
        self._function = function

    def work(self) -> Any:
        return self._function()


class Drive(Job):
    """An operation from its first step on; a cancellation ends it at the next, a clean-up excepted."""

    __slots__ = ("_connection", "_operation", "_step", "_tell", "_translate")

    def __init__(
        self,
        operation: Operation[Any],
        step: Step,
        connection: Any,
        translate: Translate,
        tell: Any,
        loop: Any,
    ) -> None:
        super().__init__(loop)
        self._operation = operation
        self._step = step
        self._connection = connection
        self._translate = translate
        self._tell = tell

    def work(self) -> Any:
        return drive(self._operation, self._step, self._translate, self._perform)

    def _perform(self, step: Step) -> Any:
        if type(step) is Command:
            return self._perform_command(step)
        if self.cancelled:
            raise asyncio.CancelledError
        self.cleaning = False
        return self._carry_out(step)

    def _perform_command(self, step: Command) -> Any:
        if self.cancelled and not step.cleanup:
            raise asyncio.CancelledError
        self.cleaning = step.is_kept
        if step.finish:
            refused = outcome.refusal(self._connection, step)
            if refused is not None:
                raise refused
        try:
            return self._carry_out(step)
        except Exception:
            self.spoiled = step.cleanup
            raise

    def _carry_out(self, step: Step) -> Any:
        if self._tell is None:
            return step.perform(self._connection)
        return self._tell(step, self._connection, self._translate)
