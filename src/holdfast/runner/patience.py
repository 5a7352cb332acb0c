"""Waiting for work on an event loop that a cancellation must not stop.

Theory: ``task.cancel()`` cancels what a task waits for, so what must go on runs in a task of its own, and whoever waits
notes the cancellation and pays it afterwards.  ``asyncio.timeout`` and task groups count cancellations on the task
itself, so that one `CancelledError` afterwards serves however many came.
"""

from __future__ import annotations

import asyncio
from typing import Any

CLEANUP_SECONDS = 5.0
"""How long a clean-up may take; and a COMMIT, counted from the first cancellation."""
_TURNS = 20


class Patience:
    """What waits on behalf of one session, and the cancellation that it owes."""

    __slots__ = ("owes",)

    def __init__(self) -> None:
        self.owes = False

    async def wait_for(self, task: asyncio.Future[Any], *, once_cancelled: bool = False) -> bool:
        """Wait for a task whatever cancels us; tell whether it ended in time.

        The time runs from now, or, ``once_cancelled``, from the first cancellation.
        """
        loop = asyncio.get_running_loop()
        end = None if once_cancelled else loop.time() + CLEANUP_SECONDS
        while not task.done():
            if end is not None and loop.time() >= end:
                await self._stop(task)
                return False
            try:
                await _until_done(loop, task, end)
            except asyncio.CancelledError:
                self.owes = True
                end = loop.time() + CLEANUP_SECONDS if end is None else end
        return True

    def pay(self) -> None:
        """Raise the cancellation that was put off, if there was one."""
        owes, self.owes = self.owes, False
        if owes:
            raise asyncio.CancelledError

    async def _stop(self, task: asyncio.Future[Any]) -> None:
        """Cancel a task until it has let its socket go: psycopg answers the first with a question of its own.

        Only then may the connection be cut; the number of a closed socket is soon another's.
        """
        task.add_done_callback(_look_at)
        for _ in range(_TURNS):
            if task.done():
                return
            task.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                self.owes = True


async def _until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Future[Any], end: float | None) -> None:
    """Wait until a task is done or its time is over; ``asyncio.wait`` takes three times as long for it."""
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(*_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    timer = loop.call_at(end, wake) if end is not None else None
    try:
        await waiter
    finally:
        task.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()


def _look_at(task: asyncio.Future[Any]) -> None:
    """Let the end of a task that nobody waits for any more pass in silence."""
    if not task.cancelled():
        task.exception()
