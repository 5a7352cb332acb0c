"""Runs operations on a connection of an async pool.

Rule: a step that was cancelled half-way leaves its connection clean or thrown away.  A clean-up or a COMMIT is
finished in spite of cancellation, within a deadline, and the cancellation is delivered afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from holdfast.errors import ConnectionLost
from holdfast.runner import outcome
from holdfast.runner.drive import SILENT, Teller, end, to_throw
from holdfast.runner.patience import Patience
from holdfast.runner.protocol import AsyncLender, Translate
from holdfast.steps import THROWN_AWAY, Command, Operation, Step

T = TypeVar("T")


class AsyncRunner:
    """Carries out the operations of one async session, one after the other."""

    __slots__ = ("_cut", "_patience", "_pool", "_teller", "_translate", "connection")

    def __init__(self, pool: AsyncLender, translate: Translate, teller: Teller = SILENT) -> None:
        self._pool = pool
        self._translate = translate
        self._teller = teller
        self._patience: Patience | None = None
        self.connection: Any = None
        self._cut = False  # a statement was cancelled half-way and none has succeeded since

    def __repr__(self) -> str:
        return f"AsyncRunner(connection={self.connection!r})"

    async def __call__(self, operation: Operation[T]) -> T:
        """Carry out an operation; answers what it returns, raises what it raises."""
        send = operation.send  # all in one body: a coroutine within it would cost a statement 1 µs
        failure: BaseException | None = None
        try:
            step = send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            if self.connection is None and not (type(step) is Command and step.is_kept):
                self.connection = self._pool.take()
            while True:
                answer: Any = None
                try:
                    answer = await self._perform(step)
                except BaseException as error:
                    failure = self._to_throw(error, step)
                try:
                    step = send(answer) if failure is None else operation.throw(failure)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                finally:
                    failure = None  # else it would hold this frame, which holds it, and the connection
        except GeneratorExit:  # the coroutine is closed unfinished, and may not await any more
            self._abandon()
            raise
        except BaseException as error:
            if not isinstance(error, Exception):
                end(operation)
                self._cut = self._cut or (self.connection is not None and self.connection.in_transaction)
            raise
        finally:
            connection = self.connection
            if connection is None or self._cut:
                await self._settle()
            elif not connection.in_transaction:
                self.connection = None
                if not self._pool.put(connection):
                    await self._pool.release(connection, discard=not connection.usable)
            if self._patience is not None:
                self._pay()

    async def close(self) -> None:
        """Roll back what is open and give the connection back."""
        if self.connection is None:
            return
        await self._settle(ping=False)
        self._pay()

    async def discard(self) -> None:
        """Throw the connection away, and with it what is open."""
        connection, self.connection = self.connection, None
        if connection is not None:
            await self._pool.release(connection, discard=True)

    def _perform(self, step: Step) -> Awaitable[Any]:
        """Begin a step; answers what to await."""
        connection = self.connection
        if connection is None or (type(step) is Command and step.is_kept):
            return self._perform_apart(step)
        return self._tell(step) if self._teller.active else step.perform(connection)

    def _to_throw(self, error: BaseException, step: Step) -> BaseException:
        failure = to_throw(error, step, self._translate)
        if isinstance(failure, ConnectionLost) or not isinstance(failure, Exception):
            self._cut = True  # asyncpg learns of its end later than we do
        return failure

    async def _perform_apart(self, step: Step) -> Any:
        """Carry out a step without a connection yet, a clean-up, or a COMMIT."""
        if type(step) is Command:
            if step.finish:
                return await self._perform_finish(step)
            if step.cleanup:
                return await self._perform_cleanup(step)
        self.connection = await self._pool.acquire()
        return await (self._tell(step) if self._teller.active else step.perform(self.connection))

    async def _perform_cleanup(self, step: Command) -> Any:
        if self.connection is None:
            return THROWN_AWAY  # nothing is open, so there is nothing to clean
        task = asyncio.ensure_future(self._tell(step))
        if not await self._wait_for(task) or task.cancelled() or outcome.gave_no_answer(task.exception()):
            self._abandon()
            return THROWN_AWAY
        if task.exception() is not None:
            await self._settle()  # what could not be undone in part is undone as a whole
        self._cut = False
        return task.result()

    async def _perform_finish(self, step: Command) -> Any:
        """Begin a COMMIT only on a connection that can carry it, and then wait for its answer."""
        if (refused := outcome.refusal(self.connection, step)) is not None:
            raise refused
        task = asyncio.ensure_future(self._tell(step))
        if not await self._wait_for(task, once_cancelled=True) or task.cancelled():
            self._abandon()
            raise outcome.given_up(step)
        if (contradicted := outcome.contradiction(task.result(), step)) is not None:
            raise contradicted
        return None

    async def _tell(self, step: Step) -> Any:
        start = self._teller.started(step)
        failure: BaseException | None = None
        answer: Any = None
        try:
            answer = await step.perform(self.connection)
        except BaseException as error:
            failure = to_throw(error, step, self._translate)
        if failure is not None:
            self._teller.failed(step, failure, start)
            try:
                raise failure
            finally:
                failure = None  # as in `__call__`
        self._teller.ended(step, answer, start)
        return answer

    async def _settle(self, *, ping: bool = True) -> None:
        """Give a connection back whose statement was cut; it must first answer again."""
        connection, self.connection, self._cut = self.connection, None, False
        if connection is None:
            return
        clean = in_time = True
        if connection.usable and ping:
            clean, in_time = await self._finish(connection.ping())
        if clean and connection.usable and connection.in_transaction:
            clean, in_time = await self._finish(connection.command("ROLLBACK"))
        if not in_time:
            self._pool.abandon(connection)  # to part politely from what does not answer only takes time
            return
        clean = clean and connection.usable and not connection.in_transaction
        await self._pool.release(connection, discard=not clean)

    def abandon(self) -> None:
        """Cut the connection when nobody will come back for it; needs no event loop."""
        self._abandon()

    def _abandon(self) -> None:
        connection, self.connection, self._cut = self.connection, None, False
        if connection is not None:
            self._pool.abandon(connection)

    def _wait_for(self, task: asyncio.Future[Any], *, once_cancelled: bool = False) -> Awaitable[bool]:
        if self._patience is None:
            self._patience = Patience()
        return self._patience.wait_for(task, once_cancelled=once_cancelled)

    def _pay(self) -> None:
        """Raise the cancellation that was put off, if there was one."""
        if self._patience is not None:
            self._patience.pay()

    async def _finish(self, work: Coroutine[Any, Any, Any]) -> tuple[bool, bool]:
        """Wait for a clean-up whatever cancels us; tell whether it went well, and whether in time."""
        task = asyncio.ensure_future(work)
        in_time = await self._wait_for(task)
        return in_time and not task.cancelled() and task.exception() is None, in_time
