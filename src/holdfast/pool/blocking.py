"""The pool for threads.

Rule: decisions are `state`'s; here is the lock, the waiting and the opening.  Connections are
opened and closed outside the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import perf_counter
from typing import Any

from holdfast.clock import SYSTEM, Clock
from holdfast.drivers import Driver
from holdfast.errors import PoolClosed, PoolTimeout
from holdfast.observe import Observers, PoolWaited
from holdfast.pool.settings import DEFAULT, PoolSettings, settle
from holdfast.pool.shared import forget, start_over_after_fork, timed_out
from holdfast.pool.state import KEEP, Discard, Lend, Open, PoolState, PoolStats, Refuse


class _Waiter:
    """A thread that waits, and what it was given: a `Lend`, an `Open` or a `Refuse`."""

    __slots__ = ("given", "lock")

    def __init__(self) -> None:
        self.lock = Lock()
        self.lock.acquire()
        self.given: Lend | Open | Refuse | None = None

    def give(self, what: Lend | Open | Refuse) -> None:
        self.given = what
        self.lock.release()


class BlockingPool:
    """Lends the connections of a blocking driver to threads."""

    def __init__(
        self,
        driver: Driver,
        settings: PoolSettings = DEFAULT,
        *,
        observers: Observers | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.settings = settle(settings, single=driver.single)
        self._single = driver.single
        self._connect: Callable[[], Any] = driver.connect
        self._observers = observers if observers is not None else Observers()
        self._clock = clock
        self._checks = self.settings.checks
        self._begin()
        start_over_after_fork(self)

    def __repr__(self) -> str:
        return f"BlockingPool({self.stats()})"

    def acquire(self) -> Any:
        """Lend a connection, opening one or waiting for one as need be.

        Raises:
            PoolTimeout: when none was free within ``pool_timeout`` seconds.
            PoolClosed: after `close`.
            ConnectionFailed: when a new one could not be opened.
        """
        with self._lock:
            connection = self._state.take()
        if connection is None:
            return self._acquire_slowly()
        return self._check(connection) if self._checks else connection

    def release(self, connection: Any, *, discard: bool = False) -> None:
        """Take a connection back; ``discard`` closes it."""
        with self._lock:
            action = self._state.returned(connection, discard)
        if action is KEEP:
            return
        if type(action) is Lend:
            action.waiter.give(action)
        elif type(action) is Discard:
            self._close_one(action.connection)
            if action.next is not None:
                action.next.waiter.give(action.next)

    def close(self) -> None:
        """Close idle connections, refuse whoever waits, and close lent ones when they return."""
        with self._lock:
            closing = self._state.close()
        for waiter in closing.waiters:
            waiter.give(Refuse())
        for connection in closing.connections:
            self._close_one(connection)

    def stats(self) -> PoolStats:
        with self._lock:
            return self._state.stats()

    def start_over(self) -> None:
        """Begin with empty books in a forked child; the parent's connections are left untouched."""
        forget(self._state)
        self._begin(closed=self._state.closed)

    def _begin(self, *, closed: bool = False) -> None:
        self._lock = Lock()
        self._born: dict[Any, float] = {}
        self._state = PoolState(self.settings.pool_size, self.settings.max_overflow, closed=closed)

    def _acquire_slowly(self) -> Any:
        waiter = _Waiter()
        with self._lock:
            given: Any = self._state.take()
            action = self._state.ask(waiter) if given is None else Lend(given)
        if type(action) is Lend:
            return self._check(given) if self._checks else given
        if type(action) is Open:
            return self._open()
        if type(action) is Refuse:
            raise PoolClosed
        return self._wait(waiter)

    def _wait(self, waiter: _Waiter) -> Any:
        start = perf_counter()
        try:
            in_time = waiter.lock.acquire(timeout=self.settings.pool_timeout)
        except BaseException:
            self._give_up(waiter)
            raise
        if not in_time and self._leave_queue(waiter):
            self._tell(start, timed_out=True)
            raise self._timed_out()
        self._tell(start)
        return self._accept(waiter)

    def _accept(self, waiter: _Waiter) -> Any:
        given = waiter.given
        if type(given) is Lend:
            return self._check(given.connection) if self._checks else given.connection
        if type(given) is Open:
            return self._open()
        raise PoolClosed

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Tell whether the waiter had to leave empty-handed; else it was served at the last moment."""
        with self._lock:
            left = self._state.gave_up(waiter)
        if not left:
            waiter.lock.acquire()
        return left

    def _give_up(self, waiter: _Waiter) -> None:
        """Leave the queue for good (Ctrl-C); what was given meanwhile goes back."""
        if self._leave_queue(waiter):
            return
        if type(waiter.given) is Lend:
            self.release(waiter.given.connection)
        elif type(waiter.given) is Open:
            self._open_failed()

    def _open(self) -> Any:
        try:
            connection = self._connect()
        except BaseException:
            self._open_failed()
            raise
        if self.settings.pool_recycle >= 0:
            self._born[connection] = self._clock.monotonic()
        with self._lock:
            action = self._state.opened(connection)
        if type(action) is Discard:
            self._close_one(connection)
            raise PoolClosed
        return connection

    def _open_failed(self) -> None:
        with self._lock:
            action = self._state.open_failed()
        if type(action) is Open:
            action.waiter.give(action)

    def _check(self, connection: Any) -> Any:
        """Replace a connection that is too old, or does not answer."""
        if self._is_fresh(connection) and self._answers(connection):
            return connection
        self.release(connection, discard=True)
        return self._acquire_slowly()

    def _is_fresh(self, connection: Any) -> bool:
        recycle = self.settings.pool_recycle
        return recycle < 0 or self._clock.monotonic() - self._born.get(connection, 0.0) <= recycle

    def _answers(self, connection: Any) -> bool:
        if not self.settings.pool_pre_ping:
            return True
        try:
            connection.ping()
        except Exception:
            return False
        except BaseException:
            self.release(connection, discard=True)
            raise
        return True

    def _close_one(self, connection: Any) -> None:
        self._born.pop(connection, None)
        with suppress(Exception):
            connection.close()

    def _tell(self, start: float, *, timed_out: bool = False) -> None:
        if self._observers:
            self._observers.emit(PoolWaited(perf_counter() - start, timed_out))

    def _timed_out(self) -> PoolTimeout:
        return timed_out(self.stats(), self.settings, single=self._single)
