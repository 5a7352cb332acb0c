"""What a database is made of, from its URL: driver, pool, runner, and what its sessions share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, MetaData

from holdfast.drivers import AsyncDriver, Driver, open_driver
from holdfast.errors import InvalidRequestError
from holdfast.observe import Observers
from holdfast.plan import Backend, PlanCache, plain_arrays
from holdfast.pool import AsyncPool, BlockingPool, PoolSettings, listening
from holdfast.runner import AsyncRunner, AsyncThreadRunner, SyncRunner


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
    ) -> None:
        driver = open_driver(url, asynchronous=on_loop, options=options, pooler=pooler)
        self.driver = driver
        self.echo = echo
        self.observers = Observers()
        encoder = getattr(driver, "array_encoder", None) or plain_arrays(driver.dialect)
        self.backend = Backend(driver.dialect, driver.capabilities, encoder, PlanCache(plan_cache_size))
        self.pool: Any
        self._runner: Any
        if on_loop:
            self.pool = AsyncPool(driver, settings, observers=self.observers)
            self._runner = AsyncThreadRunner if driver.threaded else AsyncRunner
        else:
            self.pool = BlockingPool(driver, settings, observers=self.observers)  # type: ignore[arg-type]
            self._runner = SyncRunner
        self._translate = listening(self.pool, driver.translate)

    def runner(self) -> Any:
        """A runner for one session."""
        return self._runner(self.pool, self._translate, self.observers, echo=self.echo)


def lose(runner: Any) -> str:
    """Throw away the connection of a lost session; answers who had borrowed it, for the warning."""
    holder = runner._pool.holder_of(runner.connection)
    runner.abandon()
    return f", borrowed at {holder.place}" if holder is not None else ""


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


__all__ = ["AsyncDriver", "Driver", "Opened", "lose", "metadata_of"]
