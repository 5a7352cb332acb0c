"""The pool for tasks of one event loop.

Rule: decisions are `state`'s and `health`'s; here is the waiting and the opening.  Everything
between two ``await`` is atomic, so there is no lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from holdfast.clock import SYSTEM, Clock
from holdfast.drivers import AsyncDriver, Driver
from holdfast.errors import InvalidRequestError, PoolClosed, PoolTimeout
from holdfast.observe import Observers, PoolWaited
from holdfast.pool.advice import PoolAdvice, advise, questions
from holdfast.pool.callsite import find_site
from holdfast.pool.health import PING_SECONDS, Health, is_read_only
from holdfast.pool.settings import DEFAULT, PoolSettings, settle
from holdfast.pool.shared import forget, new_state, start_over_after_fork, timed_out
from holdfast.pool.state import KEEP, RECENT, Discard, Lend, Member, Open, Refuse, Wait
from holdfast.pool.statistics import Holder, Meter, PoolStats, collect, holders_of
from holdfast.runner import Worker

CLOSE_SECONDS = 5.0
_running_loop = asyncio._get_running_loop
_Given = Lend | Open | Refuse | None
_Waiter = asyncio.Future[_Given]


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
        self._now: Callable[[], float] = clock.monotonic
        self._peeks = not driver.threaded
        self._asks = self.settings.asks
        self._health = Health(self.settings, peeks=self._peeks)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.meter: Meter | None = None
        self._begin()
        start_over_after_fork(self)

    def __repr__(self) -> str:
        return f"<AsyncPool {self.stats().now}>"

    async def acquire(self) -> Any:
        """Lend a connection, opening one or waiting for one as need be.

        Raises:
            PoolTimeout: when none was free within ``pool_timeout`` seconds.
            PoolClosed: after `close`.
            ConnectionFailed: when a new one could not be opened.
        """
        if asyncio.get_running_loop() is not self._loop:
            self._move()
        connection = self.take()
        if connection is not None:
            return connection
        start = self._now()
        member = await self._find(self._state.take(start), start)
        member.site = find_site()
        if self.meter is not None:
            self.meter.waited(self._now() - start)
        return member.connection

    def take(self) -> Any:
        """Lend what is idle and beyond doubt, at once; None where `acquire` has to look, to open or to wait."""
        state = self._state
        if not state.idle or self._asks or _running_loop() is not self._loop:
            return None
        member = state.idle[-1]
        if member.generation != state.generation or (self._peeks and not member.connection.peek()):
            return None
        state.take(self._now())
        member.site = find_site()
        if self.meter is not None:
            self.meter.waited(0.0)
        return member.connection

    def put(self, connection: Any) -> bool:
        """Take back what is in no transaction, if that is all there is to do; else False, and it is for `release`."""
        if self.meter is not None or not connection.usable:
            return False
        return self._state.kept(connection, self._now())

    async def release(self, connection: Any, *, discard: bool = False) -> None:
        """Take a connection back, rolling back a transaction left open; ``discard`` closes it."""
        if not discard and connection.in_transaction:
            discard = not await self._tidy(connection)
        now = self._now()
        if self.meter is not None:
            self._meter_use(connection, now)
        state = self._state
        action = state.returned(connection, now, discard)
        if type(action) is Discard:
            # First the closing, for the server counts its places; then the waiter, whatever came of it.
            try:
                await self._close_one(connection)
            finally:
                self._carry_out(action.next)
        elif action is not KEEP:
            self._cut(self._carry_out(action))
        elif now >= state.sweep_at:
            await self._close_all(state.sweep(now))

    def abandon(self, connection: Any) -> None:
        """Cut a connection at once, for a coroutine that may not wait any more.

        A garbage collector calls this, too, in whatever thread it runs; then the loop does it in its turn.
        """
        loop = self._loop
        if loop is not None and loop.is_running() and loop is not _running_loop():
            with suppress(RuntimeError):  # it ended just now, and its connections with it
                loop.call_soon_threadsafe(self._throw_away, connection)
        else:
            self._throw_away(connection)

    def _throw_away(self, connection: Any) -> None:
        self._cut(self._carry_out(self._state.returned(connection, self._now(), discard=True)))

    async def close(self) -> None:
        """Close idle connections, refuse whoever waits, and close lent ones when they return."""
        closing = self._state.close()
        for waiter in closing.waiters:
            if not waiter.done():
                waiter.set_result(Refuse())
        await self._close_all(closing.connections)

    def stats(self) -> PoolStats:
        """Tell how the pool does: `PoolStats`."""
        return collect(self._state, self._creates, self._now())

    def holders(self, most: int | None = None) -> tuple[Holder, ...]:
        """Tell who holds connections, the longest first, with the line that borrowed each; None for all."""
        return holders_of(self._state, self._now(), most)

    def holder_of(self, connection: Any) -> Holder | None:
        """Tell who holds a connection."""
        member = self._state.lent.get(connection)
        return Holder.of(member, self._now()) if member is not None else None

    async def advice(self, *, instances: int = 1, server_cores: int | None = None) -> PoolAdvice:
        """Compute what the pool's size should be, with the reasons; print the answer.

        ``instances`` is how many programs like this one share the server.  ``server_cores`` is how
        many cores the server has; without it, the answer says what was assumed.  The server is asked
        on a connection outside the pool, so that an exhausted pool can be advised too.
        """
        answers = []
        if asked := questions(self._driver):
            connection = await self._connect()
            try:
                answers = [await connection.fetch(sql, (), False) for sql in asked]
            finally:
                await self._close_one(connection)
        return advise(self._driver, answers, self.stats(), self.settings, instances, server_cores)

    def hear(self, error: BaseException) -> None:
        """Hear of an error of a statement: it may cast doubt on the connections."""
        if self._health.hear(error, self._state.generation, self._now()):
            self._state.suspect()

    def _move(self) -> None:
        """Begin with empty books on another loop, once the one before is closed."""
        if self._loop is not None and not self._loop.is_closed():
            raise InvalidRequestError(
                "An async database is used from two event loops",
                mend="Make one for each loop: `db = AsyncDatabase(url)`.",
            )
        for member in (*self._state.idle, *self._state.lent.values()):
            self._cut(member.connection)  # what hangs on a closed loop can only be cut
        self._begin(closed=self._state.closed)
        self._loop = asyncio.get_running_loop()

    def start_over(self) -> None:
        """Begin with empty books in a forked child; the parent's connections are left untouched."""
        forget(self._state)
        self._loop = None
        self._begin(closed=self._state.closed)

    def _begin(self, *, closed: bool = False) -> None:
        self._creates: deque[float] = deque(maxlen=RECENT)
        self._state = new_state(self.settings, closed=closed)

    # ------------------------------------------------------------ lending

    async def _find(self, member: Member | None, start: float) -> Member:
        """Find a member when there is none at hand, or the one at hand is in doubt."""
        if member is not None and await self._is_good(member):
            return member
        while True:
            waiter: _Waiter = asyncio.get_running_loop().create_future()
            action: _Given | Wait = self._ask(waiter) if member is None else self._exchange(member, waiter)
            if type(action) is Wait:
                action = await self._wait(waiter, start)
            if type(action) is Open:
                # Not asked: it has just spoken to the server, and where that hangs up again this would not end.
                return await self._open()
            if type(action) is not Lend:
                raise PoolClosed
            member = action.member
            if await self._is_good(member):
                return member

    def _ask(self, waiter: _Waiter) -> Lend | Open | Wait | Refuse:
        return self._state.ask(waiter, self._now())

    def _exchange(self, member: Member, waiter: _Waiter) -> Lend | Open | Wait | Refuse:
        # What does not answer is cut: to part politely from it would only take time.
        self._cut(member.connection)
        return self._state.exchange(member.connection, waiter, self._now())

    async def _wait(self, waiter: _Waiter, start: float) -> _Given:
        patience = max(0.0, self.settings.pool_timeout - (self._now() - start))
        timer = asyncio.get_running_loop().call_later(patience, self._expire, waiter)
        try:
            given = await waiter
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise
        finally:
            timer.cancel()
        self._tell(start, timed_out=given is None)
        if given is None:
            raise self._timed_out()
        return given

    def _expire(self, waiter: _Waiter) -> None:
        """Send a waiter away empty-handed when its time is over."""
        if self._state.gave_up(waiter, timed_out=True) and not waiter.done():
            waiter.set_result(None)

    def _give_up(self, waiter: _Waiter) -> None:
        """Leave the queue; what was given meanwhile goes to the next."""
        if self._state.gave_up(waiter) or waiter.cancelled():
            return
        given = waiter.result()
        if type(given) is Lend:
            self._cut(self._carry_out(self._state.passed_on(given.member, self._now())))
        elif type(given) is Open:
            self._carry_out(self._state.left_unopened())

    async def _open(self) -> Member:
        start = self._now()
        try:
            connection = await self._connect()
        except BaseException:
            self._carry_out(self._state.open_failed())
            raise
        now = self._now()
        self._creates.append(now - start)
        if self.meter is not None:
            self.meter.created(now - start)
        action = self._state.opened(connection, now)
        if type(action) is Discard:
            await self._close_one(connection)
            raise PoolClosed
        assert type(action) is Lend
        if action.next is not None:
            self._carry_out(action.next)
        return action.member

    async def _connect(self) -> Any:
        if self._driver.threaded:
            return await Worker.open(self._driver.connect)
        return await cast(AsyncDriver, self._driver).connect()

    # ------------------------------------------------------------ health

    async def _is_good(self, member: Member) -> bool:
        """Whether a member may be lent: young enough, and answering where that is in doubt."""
        generation = self._state.generation
        if self._health.is_too_old(member, self._now()):
            return False
        if not self._health.wants_ping(member, generation):
            return True
        if not await self._answers(member.connection, self._health.asks_read_only(member)):
            self._state.suspect(member)
            return False
        member.generation = generation
        return True

    async def _answers(self, connection: Any, ask_read_only: bool) -> bool:
        try:
            await connection.ping(PING_SECONDS)
            question = self._driver.capabilities.ask_read_only if ask_read_only else None
            if question is None:
                return True
            async with asyncio.timeout(PING_SECONDS):
                return not is_read_only(await connection.fetch(question, (), False))
        except Exception:
            return False
        except BaseException:
            self.abandon(connection)
            raise

    # ------------------------------------------------------------ taking back

    async def _tidy(self, connection: Any) -> bool:
        """Roll back what a borrower left open; tell whether the connection is clean."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await connection.command("ROLLBACK")
        except Exception:
            return False
        except BaseException:
            self.abandon(connection)
            raise
        return not connection.in_transaction and bool(connection.usable)

    def _carry_out(self, action: Any) -> Any:
        """Hand over to a waiter; answers the connection that is left to be closed, if any.

        Who was cancelled in this very turn of the loop still stands in the queue: it is passed by.
        """
        unplaced = None
        while action is not None and action is not KEEP:
            if type(action) is Discard:
                unplaced, action = action.connection, action.next
                continue
            if not action.waiter.done():
                action.waiter.set_result(action)
                break
            if type(action) is Lend:
                action = self._state.passed_on(action.member, self._now())
            else:
                action = self._state.left_unopened()
        return unplaced

    def _cut(self, connection: Any) -> None:
        if connection is not None:
            with suppress(Exception):
                connection.terminate()

    async def _close_one(self, connection: Any) -> None:
        """Close politely within a time, else cut, as what can be told nothing is at once."""
        if not connection.usable:
            self._cut(connection)
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await connection.close()
        except asyncio.CancelledError:
            connection.terminate()
            raise
        except Exception:
            self._cut(connection)

    async def _close_all(self, connections: tuple[Any, ...]) -> None:
        """Close politely, all at once: each may take its time, and none is left when this is cancelled."""
        try:
            await asyncio.gather(*map(self._close_one, connections))
        except BaseException:
            for connection in connections:
                self._cut(connection)
            raise

    def _meter_use(self, connection: Any, now: float) -> None:
        member = self._state.lent.get(connection)
        if member is not None and self.meter is not None:
            self.meter.used(now - member.since)

    def _tell(self, start: float, *, timed_out: bool = False) -> None:
        waited = self._now() - start
        self._state.waited(waited)
        if self._observers:
            self._observers.emit(PoolWaited(waited, timed_out))

    def _timed_out(self) -> PoolTimeout:
        return timed_out(self.stats(), self.holders(), self.settings, single=self._single, on_loop=True)
