"""asyncmy with one cursor used again; values of many rows are written into the text by hand."""

from __future__ import annotations

from typing import Any

import asyncmy

from bench.schema import Place, read_place
from bench.systems import BARE, statements
from bench.systems.statements import Rows


class BareAsyncmy(Rows):
    name = BARE
    door = "async"

    async def open(self, place: Place) -> None:
        self._raw: Any = await asyncmy.connect(**read_place(place), autocommit=True)
        self._cursor: Any = self._raw.cursor()
        await self._cursor.execute(statements.MARIADB_SESSION)
        self._get = statements.one_by("id", "%s")
        self._by_column = statements.one_by("email", "%s")

    async def close(self) -> None:
        await self._raw.ensure_closed()

    async def get(self, key: int) -> Any:
        await self._cursor.execute(self._get, (key,))
        return await self._cursor.fetchone()

    async def by_column(self, email: str) -> Any:
        await self._cursor.execute(self._by_column, (email,))
        return await self._cursor.fetchone()

    async def rows(self) -> Any:
        await self._cursor.execute(statements.ROWS)
        return await self._cursor.fetchall()

    async def graph_planned(self) -> Any:
        await self._cursor.execute(statements.AUTHORS_ROWS)
        users = await self._cursor.fetchall()
        await self._cursor.execute(statements.MARIADB_POSTS_OF % ",".join([str(user[0]) for user in users]))
        return statements.put_together(users, await self._cursor.fetchall())

    graph_touched = graph_planned

    async def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        await self._cursor.execute("BEGIN")
        await self._cursor.execute(statements.mariadb_insert(people))
        keys = [key for (key,) in await self._cursor.fetchall()]
        await self._cursor.execute("COMMIT")
        return keys

    async def load_members(self) -> Any:
        await self._cursor.execute("SELECT id FROM bench_members ORDER BY id")
        return await self._cursor.fetchall()

    async def update(self, turn: int, members: Any) -> None:
        await self._cursor.execute("BEGIN")
        await self._cursor.execute(statements.mariadb_update(statements.change(members, turn)))
        await self._cursor.execute("COMMIT")
