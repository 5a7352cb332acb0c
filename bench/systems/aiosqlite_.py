"""aiosqlite, a peer: the same statements as the bare driver, one hop for each call."""

from __future__ import annotations

from typing import Any

import aiosqlite

from bench.schema import SQLITE_PRAGMAS, Place
from bench.systems import statements
from bench.systems.bare_sqlite import BareSqlite, flatten
from bench.systems.statements import CHUNK, Rows


class Aiosqlite(Rows):
    name = "aiosqlite"
    door = "async"
    stamp = BareSqlite.stamp

    async def open(self, place: Place) -> None:
        self._raw = await aiosqlite.connect(place.file, isolation_level=None)
        for pragma in SQLITE_PRAGMAS:
            await self._raw.execute(pragma)
        self._get = statements.one_by("id", "?")
        self._by_column = statements.one_by("email", "?")

    async def close(self) -> None:
        await self._raw.close()

    async def get(self, key: int) -> Any:
        async with self._raw.execute(self._get, (key,)) as cursor:
            return await cursor.fetchone()

    async def by_column(self, email: str) -> Any:
        async with self._raw.execute(self._by_column, (email,)) as cursor:
            return await cursor.fetchone()

    async def rows(self) -> Any:
        return await self._raw.execute_fetchall(statements.ROWS)

    async def graph_planned(self) -> Any:
        users = list(await self._raw.execute_fetchall(statements.AUTHORS_ROWS))
        keys = str([user[0] for user in users])
        return statements.put_together(
            users, await self._raw.execute_fetchall(statements.SQLITE_POSTS_OF, (keys,))
        )

    graph_touched = graph_planned

    async def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        keys: list[int] = []
        flat = flatten(people)
        step = CHUNK * 7
        await self._raw.execute("BEGIN")
        for at in range(0, len(flat), step):
            rows = await self._raw.execute_fetchall(statements.SQLITE_INSERT, flat[at : at + step])
            keys += [row[0] for row in rows]
        await self._raw.commit()
        return keys

    async def load_members(self) -> Any:
        return await self._raw.execute_fetchall("SELECT id FROM bench_members ORDER BY id")

    async def update(self, turn: int, members: Any) -> None:
        flat = [value for row in statements.change(members, turn) for value in row]
        step = CHUNK * 3
        await self._raw.execute("BEGIN")
        for at in range(0, len(flat), step):
            await self._raw.execute(statements.SQLITE_UPDATE, flat[at : at + step])
        await self._raw.commit()
