"""Runs operations on a connection of an async pool.

Rule: a step that was cancelled half-way leaves its connection clean or thrown away; a clean-up
command is finished in spite of cancellation, within a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from holdfast.errors import ConnectionLost
from holdfast.observe import Observers
from holdfast.runner.drive import Teller, to_throw
from holdfast.runner.protocol import AsyncLender, Translate
from holdfast.steps import Command, Operation, Step

T = TypeVar("T")
CLEANUP_SECONDS = 5.0


class AsyncRunner:
    """Carries out the operations of one async session, one after the other."""

    __slots__ = ("_cut", "_owed", "_pool", "_teller", "_translate", "connection")

    def __init__(
        self,
        pool: AsyncLender,
        translate: Translate,
        observers: Observers | None = None,
        *,
        echo: bool | str = False,
    ) -> None:
        self._pool = pool
        self._translate = translate
        self._teller = Teller(observers if observers is not None else Observers(), echo)
        self.connection: Any = None
        self._cut = False  # a statement was cancelled half-way and none has succeeded since
        self._owed = False  # a cancellation was put off by a clean-up

    def __repr__(self) -> str:
        return f"AsyncRunner(connection={self.connection!r})"

    async def __call__(self, operation: Operation[T]) -> T:
        """Carry out an operation; answers what it returns, raises what it raises."""
        try:
            step = operation.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            return await self._drive(operation, step)
        except GeneratorExit:  # the coroutine is closed unfinished, and may not await any more
            self._abandon()
            raise
        finally:
            connection = self.connection
            if connection is None or self._cut:
                await self._settle()
            elif not connection.in_transaction:
                self.connection = None
                await self._pool.release(connection, discard=not connection.usable)
            if self._owed:
                self._pay()

    async def close(self) -> None:
        """Roll back what is open and give the connection back."""
        connection = self.connection
        if connection is None:
            return
        clean = not connection.in_transaction
        if not clean and connection.usable:
            clean = await self._finish(connection.command("ROLLBACK"))
        self.connection = None
        await self._pool.release(connection, discard=not (clean and connection.usable))
        self._pay()

    async def discard(self) -> None:
        """Throw the connection away, and with it what is open."""
        connection, self.connection = self.connection, None
        if connection is not None:
            await self._pool.release(connection, discard=True)

    async def _drive(self, operation: Operation[T], step: Step) -> T:
        send = operation.send
        perform = self._tell if self._teller.active else None
        while True:
            failure: BaseException | None = None
            answer: Any = None
            try:
                connection = self.connection
                if connection is None or (type(step) is Command and step.cleanup):
                    answer = await self._perform_apart(step)
                elif perform is None:
                    answer = await step.perform(connection)
                else:
                    answer = await perform(step)
            except BaseException as error:
                failure = to_throw(error, step, self._translate)
                if isinstance(failure, (asyncio.CancelledError, ConnectionLost)):
                    self._cut = True  # asyncpg learns of its end later than we do
            try:
                step = send(answer) if failure is None else operation.throw(failure)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]

    async def _perform_apart(self, step: Step) -> Any:
        """Carry out a step without a connection yet, or a clean-up."""
        cleanup = isinstance(step, Command) and step.cleanup
        if self.connection is None:
            if cleanup:
                return None  # nothing is open, so there is nothing to clean
            self.connection = await self._pool.acquire()
        if not cleanup:
            return await (self._tell(step) if self._teller.active else step.perform(self.connection))
        task = asyncio.ensure_future(self._tell(step))
        if await self._wait_for(task):
            answer = task.result()
            self._cut = False
            return answer
        await self.discard()  # and with the connection goes what was to be cleaned
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
            raise failure
        self._teller.ended(step, answer, start)
        return answer

    async def _settle(self) -> None:
        """Give a connection back whose statement was cut; it must first answer again."""
        connection, self.connection, self._cut = self.connection, None, False
        if connection is None:
            return
        clean = connection.usable and await self._finish(connection.ping())
        if clean and connection.in_transaction:
            clean = await self._finish(connection.command("ROLLBACK"))
        await self._pool.release(connection, discard=not (clean and connection.usable))

    def abandon(self) -> None:
        """Cut the connection when nobody will come back for it; needs no event loop."""
        self._abandon()

    def _abandon(self) -> None:
        connection, self.connection, self._cut = self.connection, None, False
        if connection is not None:
            self._pool.abandon(connection)

    async def _finish(self, work: Awaitable[Any]) -> bool:
        """Wait for a clean-up whatever cancels us; tell whether it went well in time."""
        task = asyncio.ensure_future(work)
        return await self._wait_for(task) and not task.cancelled() and task.exception() is None

    async def _wait_for(self, task: asyncio.Future[Any]) -> bool:
        """Wait for a task whatever cancels us; tell whether it ended in time."""
        end = asyncio.get_running_loop().time() + CLEANUP_SECONDS
        while not task.done():
            remaining = end - asyncio.get_running_loop().time()
            if remaining <= 0:
                task.cancel()
                return False
            try:
                await asyncio.wait({task}, timeout=remaining)
            except asyncio.CancelledError:
                self._owed = True
        return True

    def _pay(self) -> None:
        owed, self._owed = self._owed, False
        if owed:
            raise asyncio.CancelledError
