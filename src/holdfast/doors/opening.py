"""What a database is made of, from its URL: driver, pool, runner, and what its sessions share."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Mapping
from inspect import Signature, isawaitable, iscoroutine, iscoroutinefunction, signature
from typing import Any, NoReturn, TypeVar

from sqlalchemy import URL, MetaData

from holdfast.drivers import AsyncDriver, Driver, open_driver
from holdfast.errors import InvalidRequestError
from holdfast.observe import Observers
from holdfast.plan import Backend, PlanCache, plain_arrays
from holdfast.pool import AsyncPool, BlockingPool, PoolSettings, listening
from holdfast.runner import AsyncRunner, AsyncThreadRunner, SyncRunner, Teller

T = TypeVar("T")


class Opened:
    """A database before anybody connects; ``on_loop`` says that an event loop will run it."""

    def __init__(
        self,
        url: str | URL,
        *,
        on_loop: bool,
        settings: PoolSettings,
        echo: bool | str,
        options: Mapping[str, Any],
        plan_cache_size: int,
        pooler: str | None = None,
        warn_side_effects: bool | None = None,
    ) -> None:
        driver = open_driver(url, asynchronous=on_loop, options=options, pooler=pooler)
        self.driver = driver
        self.observers = Observers()
        self.warns = sys.flags.dev_mode if warn_side_effects is None else warn_side_effects
        encoder = getattr(driver, "array_encoder", None) or plain_arrays(driver.dialect)
        self.backend = Backend(driver.dialect, driver.capabilities, encoder, PlanCache(plan_cache_size))
        on_learn: Any = getattr(driver, "on_learn", None)
        if on_learn is not None:
            on_learn(self.backend.learn)
        self.pool: Any
        self._runner: Any
        if on_loop:
            self.pool = AsyncPool(driver, settings, observers=self.observers)
            self._runner = AsyncThreadRunner if driver.threaded else AsyncRunner
            self.sleep: Any = asyncio.sleep
            self.find_owner: Callable[[], Any] = asyncio.current_task
        else:
            self.pool = BlockingPool(driver, settings, observers=self.observers)  # type: ignore[arg-type]
            self._runner = SyncRunner
            self.sleep = time.sleep
            self.find_owner = threading.get_ident
        self._translate = listening(self.pool, driver.translate)
        self._teller = Teller(self.observers, echo)

    def runner(self) -> Any:
        """A runner for one session."""
        return self._runner(self.pool, self._translate, self._teller)


def lose(runner: Any) -> str:
    """Throw away the connection of a lost session; answers who had borrowed it, for the warning."""
    holder = runner._pool.holder_of(runner.connection)
    runner.abandon()
    return f", borrowed at {holder.place}" if holder is not None else ""


def refuse_coroutines(work: Any) -> None:
    """Refuse an async function where a blocking one is called."""
    if iscoroutinefunction(work):
        refuse_async(work)


def without_session(function: Any) -> Signature:
    """What callers of a unit give, for tools that read signatures: all but the session."""
    given = signature(function)
    first, *others = given.parameters.values() or (None,)
    if first is None or first.kind is first.KEYWORD_ONLY or first.kind is first.VAR_KEYWORD:
        name = getattr(function, "__name__", "work")
        raise InvalidRequestError(
            f"{name} takes no session, which a unit of work is given first",
            mend=f"Write `def {name}(session, ...)`.",
        )
    return given if first.kind is first.VAR_POSITIONAL else given.replace(parameters=others)


def refuse_async(work: Any) -> NoReturn:
    name = getattr(work, "__name__", "work")
    raise InvalidRequestError(
        f"{name} is an async function, which a blocking database cannot run",
        mend=f"Write `def {name}(...)`, or use `AsyncDatabase`.",
    )


def refuse_coroutine(work: Any, found: T) -> T:
    """Refuse a coroutine that a blocking call has answered, such as a lambda's: nobody would run it."""
    if iscoroutine(found):
        found.close()
        refuse_async(work)
    return found


def refuse_plain(work: Any, found: Any) -> Any:
    """Refuse a blocking function where an async one is awaited; answers what is to be awaited."""
    if isawaitable(found):
        return found
    name = getattr(work, "__name__", "work")
    raise InvalidRequestError(
        f"{name} is no async function: it answered {type(found).__name__}, which cannot be awaited",
        mend=f"Write `async def {name}(...)`, or use `Database`.",
    )


def metadata_of(base: Any) -> MetaData:
    """The metadata of a declarative base, or the metadata itself."""
    if isinstance(base, MetaData):
        return base
    metadata = getattr(base, "metadata", None)
    if not isinstance(metadata, MetaData):
        raise InvalidRequestError(
            f"{base!r} has no tables", mend="Give the declarative base: db.create_all(Base)."
        )
    configure = getattr(base, "_configure_all", None)
    if configure is not None:
        configure()
    return metadata


__all__ = [
    "AsyncDriver",
    "Driver",
    "Opened",
    "lose",
    "metadata_of",
    "refuse_coroutine",
    "refuse_coroutines",
    "refuse_plain",
    "without_session",
]
