"""The pool for threads.

Rule: decisions are `state`'s and `health`'s; here is the lock, the waiting and the opening.
Connections are opened, asked and closed outside the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock
from typing import Any

from holdfast.clock import SYSTEM, Clock
from holdfast.drivers import Driver
from holdfast.errors import PoolClosed, PoolTimeout
from holdfast.observe import Observers, PoolWaited
from holdfast.pool.advice import PoolAdvice, advise, questions
from holdfast.pool.callsite import find_site
from holdfast.pool.health import PING_SECONDS, Health, is_read_only
from holdfast.pool.settings import DEFAULT, PoolSettings, settle
from holdfast.pool.shared import forget, new_state, start_over_after_fork, timed_out, unheld
from holdfast.pool.state import KEEP, RECENT, Discard, Lend, Member, Open, Refuse, Wait
from holdfast.pool.statistics import Holder, Meter, PoolStats, collect, holders_of

GIVER_SECONDS = 5.0
"""How long a waiter that has left the queue waits for who took it out."""
_Given = Lend | Open | Refuse | None


class _Waiter:
    """A thread that waits, and what it was given: a `Lend`, an `Open` or a `Refuse`."""

    __slots__ = ("given", "lock")

    def __init__(self) -> None:
        self.lock = Lock()
        self.lock.acquire()
        self.given: _Given = None

    def is_served(self) -> bool:
        return self.given is not None

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
        self._driver = driver
        self._single = driver.single
        self._observers = observers if observers is not None else Observers()
        self._now: Callable[[], float] = clock.monotonic
        self._peeks = not driver.threaded
        self._asks = self.settings.asks
        self._health = Health(self.settings, peeks=self._peeks)
        self.meter: Meter | None = None
        self._begin()
        start_over_after_fork(self)

    def __repr__(self) -> str:
        return f"<BlockingPool {self.stats().now}>"

    def acquire(self) -> Any:
        """Lend a connection, opening one or waiting for one as need be.

        Raises:
            PoolTimeout: when none was free within ``pool_timeout`` seconds.
            PoolClosed: after `close`.
            ConnectionFailed: when a new one could not be opened.
        """
        start = self._now()
        state = self._state
        with self._lock:
            member = state.take(start)
        if (
            member is None
            or member.generation != state.generation
            or self._asks
            or (self._peeks and not member.connection.peek())
        ):
            member = self._find(member, start)
        member.site = find_site()
        if self.meter is not None:
            self.meter.waited(self._now() - start)
        return member.connection

    def release(self, connection: Any, *, discard: bool = False) -> None:
        """Take a connection back, rolling back a transaction left open; ``discard`` closes it."""
        if not discard and connection.in_transaction:
            discard = not self._tidy(connection)
        now = self._now()
        if self.meter is not None:
            self._meter_use(connection, now)
        state = self._state
        with self._lock:
            action = state.returned(connection, now, discard)
        if action is not KEEP:
            self._carry_out(action)
        elif now >= state.sweep_at:
            self._sweep(now)
        if self._orphans:
            self._bury()

    def abandon(self, connection: Any) -> None:
        """Throw away the connection of a lost session.

        The garbage collector calls this at any moment, perhaps while this very thread holds the lock;
        so it waits for nothing, and what it cannot do is done by the next who returns or asks.
        """
        self._orphans.append(connection)
        if self._lock.acquire(blocking=False):
            self._lock.release()
            self._bury()

    def close(self) -> None:
        """Close idle connections, refuse whoever waits, and close lent ones when they return."""
        with self._lock:
            closing = self._state.close()
        for waiter in closing.waiters:
            waiter.give(Refuse())
        for connection in closing.connections:
            _close_one(connection)

    def stats(self) -> PoolStats:
        """Tell how the pool does: `PoolStats`."""
        with self._lock:
            return collect(self._state, self._creates.copy(), self._now())

    def holders(self, most: int | None = None) -> tuple[Holder, ...]:
        """Tell who holds connections, the longest first, with the line that borrowed each; None for all."""
        with self._lock:
            return holders_of(self._state, self._now(), most)

    def holder_of(self, connection: Any) -> Holder | None:
        """Tell who holds a connection."""
        member = self._state.lent.get(connection)
        return Holder.of(member, self._now()) if member is not None else None

    def advice(self, *, instances: int = 1, server_cores: int | None = None) -> PoolAdvice:
        """Compute what the pool's size should be, with the reasons; print the answer.

        ``instances`` is how many programs like this one share the server.  ``server_cores`` is how
        many cores the server has; without it, the answer says what was assumed.  The server is asked
        on a connection outside the pool, so that an exhausted pool can be advised too.
        """
        answers = []
        if asked := questions(self._driver):
            connection = self._driver.connect()
            try:
                answers = [connection.fetch(sql, (), False) for sql in asked]
            finally:
                _close_one(connection)
        return advise(self._driver, answers, self.stats(), self.settings, instances, server_cores)

    def hear(self, error: BaseException) -> None:
        """Hear of an error of a statement: it may cast doubt on the connections."""
        with self._lock:
            if self._health.hear(error, self._state.generation, self._now()):
                self._state.suspect()

    def start_over(self) -> None:
        """Begin with empty books in a forked child; the parent's connections are left untouched."""
        forget(self._state)
        self._begin(closed=self._state.closed)

    def _begin(self, *, closed: bool = False) -> None:
        self._lock = Lock()
        self._creates: deque[float] = deque(maxlen=RECENT)
        self._orphans: deque[Any] = deque()
        self._state = new_state(self.settings, closed=closed)

    # ------------------------------------------------------------ lending

    def _find(self, member: Member | None, start: float) -> Member:
        """Find a member when there is none at hand, or the one at hand is in doubt."""
        if member is None:
            self._orphans.extend(unheld(self._state, start))
        if self._orphans:
            self._bury()
        if member is not None and self._is_good(member):
            return member
        while True:
            waiter = _Waiter()
            action: _Given | Wait = self._ask(waiter) if member is None else self._exchange(member, waiter)
            if type(action) is Wait:
                action = self._wait(waiter, start)
            if type(action) is Open:
                # Not asked: it has just spoken to the server, and where that hangs up again this would not end.
                return self._open()
            if type(action) is not Lend:
                raise PoolClosed
            member = action.member
            if self._is_good(member):
                return member

    def _ask(self, waiter: _Waiter) -> Lend | Open | Wait | Refuse:
        with self._lock:
            return self._state.ask(waiter, self._now())

    def _exchange(self, member: Member, waiter: _Waiter) -> Lend | Open | Wait | Refuse:
        with self._lock:
            action = self._state.exchange(member.connection, waiter, self._now())
        _close_one(member.connection)
        return action

    def _wait(self, waiter: _Waiter, start: float) -> _Given:
        patience = self.settings.pool_timeout - (self._now() - start)
        try:
            in_time = waiter.lock.acquire(timeout=min(max(patience, 0.0), TIMEOUT_MAX))
        except BaseException:
            self._give_up(waiter)
            raise
        if not in_time and self._leave_queue(waiter, timed_out=True):
            self._tell(start, timed_out=True)
            raise self._timed_out()
        self._tell(start)
        return waiter.given

    def _leave_queue(self, waiter: _Waiter, *, timed_out: bool = False) -> bool:
        """Tell whether the waiter had to leave empty-handed; else it was served at the last moment."""
        with self._lock:
            left = self._state.gave_up(waiter, timed_out=timed_out)
        # Its giver has taken it out of the queue and is about to speak, unless Ctrl-C has ended it just then.  Not one
        # long wait: Ctrl-C may have struck here, too, just after the lock was had.
        until = self._now() + GIVER_SECONDS
        while not left and not waiter.is_served():
            waiter.lock.acquire(timeout=0.01)
            left = self._now() >= until and not waiter.is_served()
        return left

    def _give_up(self, waiter: _Waiter) -> None:
        """Leave the queue for good (Ctrl-C); what was given meanwhile goes to the next."""
        if self._leave_queue(waiter):
            return
        if type(waiter.given) is Lend:
            with self._lock:
                action = self._state.passed_on(waiter.given.member, self._now())
            self._carry_out(action)
        elif type(waiter.given) is Open:
            with self._lock:
                given = self._state.left_unopened()
            self._carry_out(given)

    def _open(self) -> Member:
        start = self._now()
        try:
            connection = self._driver.connect()
        except BaseException:
            with self._lock:
                failed = self._state.open_failed()
            self._carry_out(failed)
            raise
        now = self._now()
        with self._lock:
            self._creates.append(now - start)
            action = self._state.opened(connection, now)
        if self.meter is not None:
            self.meter.created(now - start)
        if type(action) is Discard:
            _close_one(connection)
            raise PoolClosed
        assert type(action) is Lend
        if action.next is not None:
            action.next.waiter.give(action.next)
        return action.member

    # ------------------------------------------------------------ health

    def _is_good(self, member: Member) -> bool:
        """Whether a member may be lent: young enough, and answering where that is in doubt."""
        generation = self._state.generation
        if self._health.is_too_old(member, self._now()):
            return False
        if not self._health.wants_ping(member, generation):
            return True
        if not self._answers(member.connection, self._health.asks_read_only(member)):
            with self._lock:
                self._state.suspect(member)
            return False
        member.generation = generation
        return True

    def _answers(self, connection: Any, ask_read_only: bool) -> bool:
        try:
            connection.ping(PING_SECONDS)
            question = self._driver.capabilities.ask_read_only if ask_read_only else None
            return question is None or not is_read_only(connection.fetch(question, (), False))
        except Exception:
            return False
        except BaseException:  # Ctrl-C: nobody will give it back
            self.release(connection, discard=True)
            raise

    # ------------------------------------------------------------ taking back

    def _tidy(self, connection: Any) -> bool:
        """Roll back what a borrower left open; tell whether the connection is clean."""
        try:
            connection.command("ROLLBACK")
        except Exception:
            return False
        return not connection.in_transaction and bool(connection.usable)

    def _carry_out(self, action: Any) -> None:
        if type(action) is Lend or type(action) is Open:
            action.waiter.give(action)
        elif type(action) is Discard:
            # First the closing, for the server counts its places; then the waiter, whatever came of it.
            try:
                _close_one(action.connection)
            finally:
                self._carry_out(action.next)

    def _sweep(self, now: float) -> None:
        with self._lock:
            found = self._state.sweep(now)
        for connection in found:
            _close_one(connection)

    def _bury(self) -> None:
        """Take the connections of lost sessions out of the books."""
        while self._orphans:
            try:
                connection = self._orphans.popleft()
            except IndexError:  # another thread was faster
                return
            with self._lock:
                action = self._state.returned(connection, self._now(), discard=True)
            self._carry_out(action)

    def _meter_use(self, connection: Any, now: float) -> None:
        member = self._state.lent.get(connection)
        if member is not None and self.meter is not None:
            self.meter.used(now - member.since)

    def _tell(self, start: float, *, timed_out: bool = False) -> None:
        waited = self._now() - start
        with self._lock:
            self._state.waited(waited)
        if self._observers:
            self._observers.emit(PoolWaited(waited, timed_out))

    def _timed_out(self) -> PoolTimeout:
        return timed_out(self.stats(), self.holders(), self.settings, single=self._single, on_loop=False)


def _close_one(connection: Any) -> None:
    with suppress(Exception):
        connection.close()
