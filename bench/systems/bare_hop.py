"""sqlite3 on a thread of its own: one hop for a whole operation, the fewest there can be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from bench.schema import Place
from bench.systems import BARE
from bench.systems.bare_sqlite import BareSqlite
from bench.systems.statements import Rows


class BareHop(Rows):
    name = BARE
    door = "async"
    stamp = BareSqlite.stamp

    async def open(self, place: Place) -> None:
        self._inner = BareSqlite()
        self._inner.open(place)
        self.start()

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    async def close(self) -> None:
        self.stop()
        self._inner.close()

    def stop(self) -> None:
        self._work.put(None)

    def _serve(self) -> None:
        while (job := self._work.get()) is not None:
            function, args, answer = job
            try:
                self._loop.call_soon_threadsafe(answer.set_result, function(*args))
            except Exception as error:
                self._loop.call_soon_threadsafe(answer.set_exception, error)

    def cross(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        answer = self._loop.create_future()
        self._work.put((function, args, answer))
        return answer

    async def get(self, key: int) -> Any:
        return await self.cross(self._inner.get, key)

    async def by_column(self, email: str) -> Any:
        return await self.cross(self._inner.by_column, email)

    async def rows(self) -> Any:
        return await self.cross(self._inner.rows)

    async def graph_planned(self) -> Any:
        return await self.cross(self._inner.graph_planned)

    graph_touched = graph_planned

    async def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        keys: list[int] = await self.cross(self._inner.insert, people)
        return keys

    async def load_members(self) -> Any:
        return await self.cross(self._inner.load_members)

    async def update(self, turn: int, members: Any) -> None:
        await self.cross(self._inner.update, turn, members)
