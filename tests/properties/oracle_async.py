"""Holdfast's side of the oracle through the async door: an AsyncSession on a loop of its own.

The rules speak to it as to a blocking session; what they get that can be awaited is awaited here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from inspect import isawaitable, ismethod
from typing import Any

import sqlalchemy as sa

import holdfast
from tests.properties.oracle_models import HOLDFAST
from tests.properties.oracle_sides import OrmSide, OurSide, PostgresqlPlace, sqlite_engine

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Awaited:
    """An async session or savepoint whose every answer has been awaited."""

    def __init__(self, inner: Any, run: Run) -> None:
        self.inner = inner
        self.run = run

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._calling(found) if ismethod(found) else found

    def _calling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            answer = function(*given, **named)
            return self.run(_awaited(answer)) if isawaitable(answer) else answer

        return call


async def _awaited(answer: Any) -> Any:
    return await answer


class AsyncSide(OurSide):
    """What is judged."""

    def __init__(self, database: Any, run: Run) -> None:
        self.run = run
        super().__init__(database)

    def open(self) -> None:
        self.objects.clear()
        self.session = Awaited(self.database.session(), self.run)

    def read(self, instance: Any, name: str) -> Any:
        return self.run(_awaited(getattr(instance.awaitable_attrs, name)))

    def begin_nested(self) -> None:
        savepoint = self.run(self.session.begin_nested().__aenter__())
        self.savepoints.append(Awaited(savepoint, self.run))


@contextmanager
def async_sqlite_sides() -> Iterator[tuple[AsyncSide, OrmSide]]:
    """Both sides on databases in memory, one of them on a loop."""
    with asyncio.Runner() as runner:
        engine = sqlite_engine()
        database = holdfast.AsyncDatabase("sqlite://")
        runner.run(database.create_all(HOLDFAST.Base))
        try:
            with _sides(database, engine, runner.run) as sides:
                yield sides
        finally:
            runner.run(database.close())
            engine.dispose()


@contextmanager
def _sides(database: Any, engine: sa.Engine, run: Run) -> Iterator[tuple[AsyncSide, OrmSide]]:
    ours, theirs = AsyncSide(database, run), OrmSide(engine)
    try:
        yield ours, theirs
    finally:
        ours.session.close()
        theirs.session.close()
        ours.forget()


class AsyncPostgresqlPlace(PostgresqlPlace):
    """Two schemas of one database; ours is reached through asyncpg."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.runner = asyncio.Runner()
        options = {"server_settings": {"search_path": "ours", "synchronous_commit": "off"}}
        self.async_database = holdfast.AsyncDatabase(url, connect_args=options)

    @contextmanager
    def sides(self) -> Iterator[tuple[OurSide, OrmSide]]:
        self.raw.execute(self.empty)
        with _sides(self.async_database, self.engine, self.runner.run) as sides:
            yield sides

    def close(self) -> None:
        self.runner.run(self.async_database.close())
        self.runner.close()
        super().close()
