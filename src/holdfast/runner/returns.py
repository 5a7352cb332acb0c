"""The way back from a thread to its event loop.

Rule: only the thread writes to the bell, and the bell is closed when neither thread nor loop refers to it any more; so
nothing is ever written to a descriptor that has meanwhile become another file's.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from queue import SimpleQueue

from holdfast.runner.job import Job


class Returns:
    """Hands jobs that a thread has ended to the loop that waits for them.

    Where the system and the loop can, an eventfd rings: that costs two thirds of what
    ``loop.call_soon_threadsafe`` does (docs/decisions/one-hop.md).
    """

    __slots__ = ("_bell", "_ended", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended: deque[Job] = deque()
        self._bell = _hang_bell(loop, self._deliver)

    def __del__(self) -> None:
        if self._bell is not None:
            os.close(self._bell)

    def hand_over(self, job: Job) -> None:
        """Give an ended job to the loop; runs on the thread."""
        if self._bell is None:
            with suppress(RuntimeError):  # the loop was closed; nobody waits
                self._loop.call_soon_threadsafe(job.deliver)
        else:
            self._ended.append(job)
            os.eventfd_write(self._bell, 1)

    def end(self) -> None:
        """Have the loop forget the bell; the thread's last act."""
        if self._bell is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.remove_reader, self._bell)

    def _deliver(self) -> None:
        assert self._bell is not None
        os.eventfd_read(self._bell)
        self._ended.popleft().deliver()


def _hang_bell(loop: asyncio.AbstractEventLoop, deliver: Callable[[], None]) -> int | None:
    """Make a counter that a thread can raise, and have the loop listen to it; None where that cannot be."""
    if not hasattr(os, "eventfd"):
        return None
    bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    try:
        # In a context of its own: the loop would hold that of whoever happened to open the connection.
        Context().run(loop.add_reader, bell, deliver)
    except NotImplementedError:
        os.close(bell)
        return None
    return bell


def work_off(jobs: SimpleQueue[Job | None], returns: Returns) -> None:
    """Do jobs until there is a None; a thread's whole life."""
    while (job := jobs.get()) is not None:
        try:
            job.value = job.work()
        except BaseException as error:
            job.error = error
        if job.loop is not None:
            returns.hand_over(job)
        del job
    returns.end()
