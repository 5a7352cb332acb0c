"""Units of work: attempts that run again as a whole, and the hooks of the one that lasts.

Rule: what decides is in ``tx/replay.py``; here is what waits, calls and tells.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import wraps

# twins: async only
from inspect import isawaitable

# twins: end
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from holdfast.tx import Attempts, Ended, Policy

from .opening import without_session
from .side_effects import Effect, warn_of, watching
from .under_way import entered

# twins: async only
from .opening import refuse_plain  # isort: skip

# twins: end
# twins: blocking only
# from .opening import refuse_coroutine, refuse_coroutines  # isort: skip
# twins: end

if TYPE_CHECKING:
    from .asynchronous import AsyncDatabase, AsyncSession

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")
log = logging.getLogger("holdfast")


class AsyncTransactional(Protocol[P, T_co]):
    """A function that runs in a transaction of its own; ``within`` is the function itself, for an open one."""

    __name__: str

    @property
    def within(self) -> Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, T_co]]: ...
    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...


def make_unit(database: AsyncDatabase, function: Any, policy: Policy) -> Any:
    """Make a function that takes a session first a unit of work, for callers that have none."""
    # twins: blocking only
    # refuse_coroutines(function)
    # twins: end

    @wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await run_unit(database, lambda session: function(session, *args, **kwargs), policy)

    run.within = function  # type: ignore[attr-defined]
    run.__signature__ = without_session(function)  # type: ignore[attr-defined]
    return run


async def run_unit(
    database: AsyncDatabase, work: Callable[[AsyncSession], Awaitable[T]], policy: Policy
) -> T:
    """Run a unit of work until an attempt lasts or none is left; then run the hooks of that one."""
    opened, attempts = database._opened, Attempts(policy, monotonic())
    session = database.session()
    effects: list[Effect] | None = [] if opened.warns else None
    try:
        with entered(opened):
            while True:
                answer = await _attempt(session, work, policy, effects)
                if not isinstance(answer, Ended):
                    return answer
                pause = attempts.pause_after(answer, monotonic(), random())
                if pause is None:
                    raise attempts.give_up(answer, monotonic())
                session._core.abandoned = True
                if effects:
                    warn_of(effects)
                await opened.sleep(pause)
                session = database.session()
    finally:  # outside of the unit, for a hook may run another
        if session._core.due:
            await run_hooks(session._core.take_due())


async def _attempt(
    session: AsyncSession,
    work: Callable[[AsyncSession], Awaitable[T]],
    policy: Policy,
    effects: list[Effect] | None,
) -> T | Ended:
    """Run the work once, and commit; answer what it answered, or how it failed."""
    core = session._core
    core.begin(policy.scope)
    session._hooks_wait = session._sealed = True
    try:
        if effects is None:
            answer = await _call(session, work)
        else:
            with watching(effects):
                answer = await _call(session, work)
        await session.commit()
    except BaseException as error:
        conflict = core.doom()
        if not core.closed:
            await session.rollback()
        if not isinstance(error, Exception):
            raise
        return Ended(error, conflict)
    finally:
        await session.close()
    return answer


async def _call(session: AsyncSession, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    try:
        # twins: async only
        return await refuse_plain(work, work(session))  # type: ignore[no-any-return]
        # twins: end
        # twins: blocking only
        # return refuse_coroutine(work, work(session))
        # twins: end
    finally:
        session._sealed = False


async def run_hooks(hooks: Iterable[Callable[[], Any]]) -> None:
    """Run each once, whatever the others do; a cancellation or Ctrl-C during one is delivered after the last."""
    stopped: BaseException | None = None
    for hook in hooks:
        try:
            found = hook()
            # twins: async only
            if isawaitable(found):
                await found
            # twins: end
            # twins: blocking only
            # del found
            # twins: end
        except Exception:
            log.exception("a hook of a transaction failed; the transaction stands as it ended")
        except BaseException as error:
            stopped = error
    if stopped is not None:
        raise stopped
