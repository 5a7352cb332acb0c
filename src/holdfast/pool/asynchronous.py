"""The pool for tasks of one event loop.

Rule: decisions are `state`'s; here is the waiting and the opening.  Everything between two
``await`` is atomic, so there is no lock.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter
from typing import Any, cast

from holdfast.clock import SYSTEM, Clock
from holdfast.drivers import AsyncDriver, Driver
from holdfast.errors import InvalidRequestError, PoolClosed, PoolTimeout
from holdfast.observe import Observers, PoolWaited
from holdfast.pool.settings import DEFAULT, PoolSettings, settle
from holdfast.pool.shared import forget, start_over_after_fork, timed_out
from holdfast.pool.state import KEEP, Discard, Lend, Open, PoolState, PoolStats, Refuse
from holdfast.runner import Worker

CLOSE_SECONDS = 5.0
_Given = Lend | Open | Refuse


class AsyncPool:
    """Lends the connections of an async driver, or workers of a threaded one, to tasks."""

    def __init__(
        self,
        driver: Driver | AsyncDriver,
        settings: PoolSettings = DEFAULT,
        *,
        observers: Observers | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.settings = settle(settings, single=driver.single)
        self._single = driver.single
        self._driver = driver
        self._observers = observers if observers is not None else Observers()
        self._clock = clock
        self._checks = self.settings.checks
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin()
        start_over_after_fork(self)

    def __repr__(self) -> str:
        return f"AsyncPool({self.stats()})"

    async def acquire(self) -> Any:
        """Lend a connection, opening one or waiting for one as need be.

        Raises:
            PoolTimeout: when none was free within ``pool_timeout`` seconds.
            PoolClosed: after `close`.
            ConnectionFailed: when a new one could not be opened.
        """
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        connection = self._state.take()
        if connection is None:
            return await self._acquire_slowly()
        return await self._check(connection) if self._checks else connection

    async def release(self, connection: Any, *, discard: bool = False) -> None:
        """Take a connection back; ``discard`` closes it."""
        action = self._state.returned(connection, discard)
        if action is KEEP:
            return
        if type(action) is Lend:
            action.waiter.set_result(action)
        elif type(action) is Discard:
            if action.next is not None:
                action.next.waiter.set_result(action.next)
            await self._close_one(action.connection)

    def abandon(self, connection: Any) -> None:
        """Cut a connection at once, for a coroutine that may not wait any more."""
        action = self._state.returned(connection, discard=True)
        if type(action) is Discard and action.next is not None:
            action.next.waiter.set_result(action.next)
        with suppress(Exception):
            connection.terminate()

    async def close(self) -> None:
        """Close idle connections, refuse whoever waits, and close lent ones when they return."""
        closing = self._state.close()
        for waiter in closing.waiters:
            waiter.set_result(Refuse())
        for connection in closing.connections:
            await self._close_one(connection)

    def stats(self) -> PoolStats:
        return self._state.stats()

    def _move(self) -> None:
        """Begin with empty books on another loop, once the one before is closed."""
        if self._loop is not None and not self._loop.is_closed():
            raise InvalidRequestError(
                "An async database is used from two event loops",
                mend="Make one for each loop: `db = AsyncDatabase(url)`.",
            )
        for connection in (*self._state.idle, *self._state.lent):
            with suppress(Exception):  # what hangs on a closed loop can only be cut
                connection.terminate()
        self._begin(closed=self._state.closed)
        self._loop = asyncio.get_running_loop()

    def start_over(self) -> None:
        """Begin with empty books in a forked child; the parent's connections are left untouched."""
        forget(self._state)
        self._loop = None
        self._begin(closed=self._state.closed)

    def _begin(self, *, closed: bool = False) -> None:
        self._born: dict[Any, float] = {}
        self._state = PoolState(self.settings.pool_size, self.settings.max_overflow, closed=closed)

    async def _acquire_slowly(self) -> Any:
        waiter: asyncio.Future[_Given] = asyncio.get_running_loop().create_future()
        action = self._state.ask(waiter)
        if type(action) is Open:
            return await self._open()
        if type(action) is Refuse:
            raise PoolClosed
        return await self._wait(waiter)

    async def _wait(self, waiter: asyncio.Future[_Given]) -> Any:
        start = perf_counter()
        try:
            await asyncio.wait({waiter}, timeout=self.settings.pool_timeout)
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise
        if not waiter.done():
            self._state.gave_up(waiter)
            self._tell(start, timed_out=True)
            raise self._timed_out()
        self._tell(start)
        return await self._accept(waiter.result())

    async def _accept(self, given: _Given) -> Any:
        if type(given) is Lend:
            return await self._check(given.connection) if self._checks else given.connection
        if type(given) is Open:
            return await self._open()
        raise PoolClosed

    def _give_up(self, waiter: asyncio.Future[_Given]) -> None:
        """Leave the queue; what was given meanwhile goes to the next."""
        if self._state.gave_up(waiter) or not waiter.done():
            return
        given = waiter.result()
        if type(given) is Open:
            self._open_failed()
        elif type(given) is Lend:
            action = self._state.returned(given.connection)
            if type(action) is Lend:
                action.waiter.set_result(action)
            elif type(action) is Discard:
                action.connection.terminate()

    async def _open(self) -> Any:
        try:
            connection = await self._connect()
        except BaseException:
            self._open_failed()
            raise
        if self.settings.pool_recycle >= 0:
            self._born[connection] = self._clock.monotonic()
        if type(self._state.opened(connection)) is Discard:
            await self._close_one(connection)
            raise PoolClosed
        return connection

    async def _connect(self) -> Any:
        if self._driver.threaded:
            return await Worker.open(self._driver.connect)
        return await cast(AsyncDriver, self._driver).connect()

    def _open_failed(self) -> None:
        action = self._state.open_failed()
        if type(action) is Open:
            action.waiter.set_result(action)

    async def _check(self, connection: Any) -> Any:
        """Replace a connection that is too old, or does not answer."""
        if self._is_fresh(connection) and await self._answers(connection):
            return connection
        await self.release(connection, discard=True)
        taken = self._state.take()
        return await self._check(taken) if taken is not None else await self._acquire_slowly()

    def _is_fresh(self, connection: Any) -> bool:
        recycle = self.settings.pool_recycle
        return recycle < 0 or self._clock.monotonic() - self._born.get(connection, 0.0) <= recycle

    async def _answers(self, connection: Any) -> bool:
        if not self.settings.pool_pre_ping:
            return True
        try:
            await connection.ping()
        except Exception:
            return False
        except BaseException:
            await self.release(connection, discard=True)
            raise
        return True

    async def _close_one(self, connection: Any) -> None:
        """Close politely within a time, else cut."""
        self._born.pop(connection, None)
        try:
            await asyncio.wait_for(connection.close(), CLOSE_SECONDS)
        except asyncio.CancelledError:
            connection.terminate()
            raise
        except Exception:
            with suppress(Exception):
                connection.terminate()

    def _tell(self, start: float, *, timed_out: bool = False) -> None:
        if self._observers:
            self._observers.emit(PoolWaited(perf_counter() - start, timed_out))

    def _timed_out(self) -> PoolTimeout:
        return timed_out(self.stats(), self.settings, single=self._single)
