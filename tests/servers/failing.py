"""A driver whose n-th call goes wrong, as real calls do.

Nothing is pretended: a lost connection is a socket that was shut, a refusal is the server's own, a cancellation is one
of the task that runs.  A connect is a call, too; one that is to fail gives a connection that is cut at once.  Calls are
counted from `Faults.arm`; a fault beyond the last call never happens, which `fired` tells.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import Any

from holdfast import AsyncDatabase, Database
from holdfast.drivers import ends

LOST, ANSWER_LOST, REFUSED = "lost", "answer lost", "refused"
CANCELLED, CANCELLED_TWICE = "cancelled", "cancelled twice"
INTERRUPTED, INTERRUPTED_AFTER = "interrupted", "interrupted after"
CALLS = ("fetch", "execute", "execute_many", "run", "command", "ping")
REFUSALS = {
    "sqlite": "SELECT * FROM nowhere",
    "postgresql": "SELECT 1 / 0",
    "mariadb": "SELECT * FROM nowhere",
}


class Faults:
    """Says which call of which database goes wrong, and how."""

    def __init__(self) -> None:
        self.kind, self.at, self.calls = "", 0, 0
        self.fired: str | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"Faults({self.kind} at {self.at}: {self.fired})"

    def arm(self, kind: str, at: int) -> None:
        self.kind, self.at, self.calls, self.fired = kind, at, 0, None

    def disarm(self) -> None:
        self.at = 0

    @property
    def cancels(self) -> bool:
        return self.kind in (CANCELLED, CANCELLED_TWICE)

    def is_due(self, what: str) -> bool:
        self.calls += 1
        if self.calls != self.at:
            return False
        self.fired = what
        return True

    def cancel(self) -> None:
        """Cancel the task that works, once or again and again."""
        assert self.task is not None
        assert self.loop is not None
        self.task.cancel()
        if self.kind == CANCELLED_TWICE:
            self.loop.call_soon(self.task.cancel)
            self.loop.call_soon(self.loop.call_soon, self.task.cancel)

    def cancel_from_thread(self) -> None:
        """The same from a worker's thread, which goes on when the loop has delivered it."""
        assert self.loop is not None
        delivered, loop = threading.Event(), self.loop

        def act() -> None:
            self.cancel()
            loop.call_soon(loop.call_soon, delivered.set)

        loop.call_soon_threadsafe(act)
        assert delivered.wait(30)


def name_of(call: str, *words: Any) -> str:
    """The statement of a call, or what it is."""
    return words[0] if words and isinstance(words[0], str) else call


class FailingConnection:
    """A blocking connection."""

    def __init__(self, real: Any, faults: Faults, server: str) -> None:
        self.real, self.faults, self.server = real, faults, server

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if name not in CALLS:
            return found

        def call(*words: Any) -> Any:
            if not self.faults.is_due(name_of(name, *words)):
                return found(*words)
            return self._fail(found, *words)

        return call

    def _fail(self, found: Any, *words: Any) -> Any:
        kind = self.faults.kind
        if kind == INTERRUPTED:
            raise KeyboardInterrupt
        if kind == REFUSED:
            return self.real.run(REFUSALS[self.server], ())
        if kind == LOST:
            self._cut()
        if self.faults.cancels:
            self.faults.cancel_from_thread()
        answer = found(*words)
        if kind == ANSWER_LOST:
            self._cut()
            self.real.ping()
        if kind == INTERRUPTED_AFTER:
            raise KeyboardInterrupt
        return answer

    def _cut(self) -> None:
        if isinstance(self.real.raw, sqlite3.Connection):
            self.real.close()
        else:
            self.real.cut()


class FailingAsyncConnection:
    """An async connection."""

    def __init__(self, real: Any, faults: Faults, server: str) -> None:
        self.real, self.faults, self.server = real, faults, server

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if name not in CALLS:
            return found

        async def call(*words: Any) -> Any:
            if not self.faults.is_due(name_of(name, *words)):
                return await found(*words)
            return await self._fail(found, *words)

        return call

    async def _fail(self, found: Any, *words: Any) -> Any:
        kind = self.faults.kind
        if kind == REFUSED:
            return await self.real.run(REFUSALS[self.server], ())
        if kind == LOST:
            self._cut()
        if self.faults.cancels:
            self.faults.cancel()
        answer = await found(*words)
        if kind == ANSWER_LOST:
            self._cut()
            await self.real.ping()
        return answer

    def _cut(self) -> None:
        raw = self.real.raw
        socket = (
            raw._transport.get_extra_info("socket").fileno()
            if hasattr(raw, "_transport")
            else raw.pgconn.socket
        )
        ends.hang_up(socket)


def fail_through(db: Database | AsyncDatabase, faults: Faults) -> None:
    """Let every connection that a database opens from now on go wrong as `faults` says."""
    opened = db._opened
    connect = opened.driver.connect
    threaded = opened.driver.threaded

    async def connect_async() -> Any:
        due = faults.is_due("connect")
        if due and faults.cancels:
            faults.cancel()
        connection = FailingAsyncConnection(await connect(), faults, db.dialect_name)
        if due and not faults.cancels:
            connection._cut()
        return connection

    def connect_blocking() -> Any:
        if not faults.is_due("connect"):
            return FailingConnection(connect(), faults, db.dialect_name)
        if faults.kind in (INTERRUPTED, INTERRUPTED_AFTER):
            raise KeyboardInterrupt
        if faults.cancels:
            faults.cancel_from_thread()
        connection = FailingConnection(connect(), faults, db.dialect_name)
        if not faults.cancels:
            connection._cut()
        return connection

    if isinstance(db, AsyncDatabase):
        opened.driver.connect = connect_blocking if threaded else connect_async
    else:
        opened.driver.connect = connect_blocking
