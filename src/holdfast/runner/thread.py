"""Runs the operations of an async session for a blocking driver, each in one hop to a thread.

Rule: a connection has a thread of its own, and everything it does happens there.  An operation
crosses once: one put into a queue, one call back into the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from holdfast.runner import outcome
from holdfast.runner.drive import SILENT, Teller
from holdfast.runner.job import Call, Drive, Job
from holdfast.runner.protocol import AsyncLender, Translate
from holdfast.runner.returns import Returns, work_off
from holdfast.steps import THROWN_AWAY, Command, Operation, Step

T = TypeVar("T")
INTERRUPT_SECONDS = 0.02


class Worker:
    """A blocking connection and its thread."""

    __slots__ = ("_jobs", "_thread", "connection", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        work = (self._jobs, Returns(self.loop))
        self._thread = Thread(target=work_off, args=work, name="holdfast-worker", daemon=True)
        self.connection: Any = None

    def __repr__(self) -> str:
        return f"Worker({self.connection!r})"

    @classmethod
    async def open(cls, connect: Callable[[], Any]) -> Worker:
        """Start a thread and open a connection on it."""
        worker = cls()
        worker._thread.start()

        def open_connection() -> None:
            worker.connection = connect()

        try:
            await worker.call(open_connection)
        except BaseException:
            worker.terminate()
            raise
        return worker

    @property
    def in_transaction(self) -> bool:
        return bool(self.connection.in_transaction)

    @property
    def usable(self) -> bool:
        return bool(self.connection.usable)

    async def call(self, work: Callable[[], T], *, cleaning: bool = False) -> T:
        """Run a function on the thread; a cancellation waits for its end, and interrupts what cleans nothing."""
        job = Call(work, self.loop)
        job.cleaning = cleaning
        self.begin(job)
        try:
            return await job  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            await self.stop(job)
            raise

    def begin(self, job: Job) -> None:
        """Put a job into the thread's queue; whoever does awaits it, and stops it when cancelled."""
        self._jobs.put(job)

    async def stop(self, job: Job) -> None:
        """Interrupt the statement under way, and wait until the thread has come back.

        An interrupt between two statements is lost, and one during a clean-up would harm; so it is
        repeated until the thread is back, and left out during a clean-up.
        """
        job.cancelled = True
        while not job.ended:
            if self.connection is not None and not job.cleaning:
                self.connection.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({job.coming_back()}, timeout=INTERRUPT_SECONDS)

    async def ping(self, timeout_seconds: float | None = None) -> None:
        await self.call(self.connection.ping)

    async def command(self, sql: str) -> None:
        await self.call(lambda: self.connection.command(sql))

    async def roll_back(self) -> None:
        """Roll back what is open, to its end in spite of cancellation; an error shows in the connection's state."""
        if self.usable and self.in_transaction:
            with suppress(Exception):
                await self.call(lambda: self.connection.command("ROLLBACK"), cleaning=True)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        try:
            await self.call(self.connection.close, cleaning=True)
        finally:
            self._jobs.put(None)

    def terminate(self) -> None:
        """Let the thread close the connection when it can; nobody waits."""
        if self.connection is not None:
            self.connection.cancel()
            self._jobs.put(Call(self.connection.close, None))
        self._jobs.put(None)


class AsyncThreadRunner:
    """Carries out the operations of one async session on the thread of its connection."""

    __slots__ = ("_pool", "_teller", "_translate", "connection")

    def __init__(self, pool: AsyncLender, translate: Translate, teller: Teller = SILENT) -> None:
        self._pool = pool
        self._translate = translate
        self._teller = teller
        self.connection: Worker | None = None

    def __repr__(self) -> str:
        return f"AsyncThreadRunner(connection={self.connection!r})"

    async def __call__(self, operation: Operation[T]) -> T:
        """Carry out an operation in one hop; answers what it returns, raises what it raises."""
        try:
            step = operation.send(None)
            if self.connection is None and not (type(step) is Command and step.is_kept):
                self.connection = self._pool.take()
            while self.connection is None:
                failure = None if _is_cleanup(step) else await self._borrow(step)
                if self.connection is None:
                    step = operation.send(THROWN_AWAY) if failure is None else operation.throw(failure)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        worker = self.connection
        tell = self._teller.tell if self._teller.active else None
        job = Drive(operation, step, worker.connection, self._translate, tell, worker.loop)
        worker.begin(job)
        try:
            return await job  # type: ignore[no-any-return]
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                await worker.stop(job)
            if not isinstance(error, Exception) and worker.in_transaction:
                await self.close()
            raise
        finally:
            if job.spoiled:
                await self.close()  # what could not be undone in part is undone as a whole
            elif self.connection is worker and not worker.connection.in_transaction:
                self.connection = None
                if not self._pool.put(worker):
                    await self._pool.release(worker, discard=not worker.connection.usable)

    async def _borrow(self, step: Step) -> BaseException | None:
        if type(step) is Command and step.finish:
            return outcome.refusal(None, step)  # a COMMIT belongs to the connection that has the transaction
        try:
            self.connection = await self._pool.acquire()
        except BaseException as error:
            return error
        return None

    async def close(self) -> None:
        """Roll back what is open and give the connection back."""
        worker, self.connection = self.connection, None
        if worker is None:
            return
        try:
            await worker.roll_back()
        finally:
            await self._pool.release(worker, discard=worker.in_transaction or not worker.usable)

    def abandon(self) -> None:
        """Cut the connection when nobody will come back for it; needs no event loop."""
        worker, self.connection = self.connection, None
        if worker is not None:
            self._pool.abandon(worker)

    async def discard(self) -> None:
        """Throw the connection away, and with it what is open."""
        worker, self.connection = self.connection, None
        if worker is not None:
            await self._pool.release(worker, discard=True)


def _is_cleanup(step: Step) -> bool:
    return type(step) is Command and step.cleanup
