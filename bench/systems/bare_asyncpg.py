"""asyncpg as fast as it goes; its own cache keeps the statements prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from bench.schema import Place
from bench.systems import BARE, statements
from bench.systems.statements import Rows


class BareAsyncpg(Rows):
    name = BARE
    door = "async"

    async def open(self, place: Place) -> None:
        self._raw = await asyncpg.connect(place.url)
        self._get = statements.one_by("id", "$1")
        self._by_column = statements.one_by("email", "$1")
        # Texts and integers go faster as one literal than as a list; floats and moments do not.
        self._insert = statements.insert_unnest(text_at=frozenset({1, 2, 3, 7}))

    async def close(self) -> None:
        await self._raw.close()

    async def get(self, key: int) -> Any:
        return await self._raw.fetchrow(self._get, key)

    async def by_column(self, email: str) -> Any:
        return await self._raw.fetchrow(self._by_column, email)

    async def rows(self) -> Any:
        return await self._raw.fetch(statements.ROWS)

    async def graph_planned(self) -> Any:
        users = await self._raw.fetch(statements.AUTHORS_ROWS)
        posts = await self._raw.fetch(statements.POSTS_OF, [user[0] for user in users])
        return statements.put_together(users, posts)

    graph_touched = graph_planned

    async def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        emails, names, ages, moments, scores, actives, notes = zip(*people, strict=True)
        await self._raw.execute("BEGIN")
        given = (_texts(emails), _texts(names), _ints(ages), moments, scores, actives, _texts(notes))
        keys = [row[0] for row in await self._raw.fetch(self._insert, *given)]
        await self._raw.execute("COMMIT")
        return keys

    async def load_members(self) -> Any:
        return await self._raw.fetch("SELECT id FROM bench_members ORDER BY id")

    async def update(self, turn: int, members: Any) -> None:
        keys, names, scores = zip(*statements.change(members, turn), strict=True)
        await self._raw.execute("BEGIN")
        await self._raw.fetch(statements.UPDATE_UNNEST, keys, names, scores)
        await self._raw.execute("COMMIT")


def _texts(values: Sequence[str]) -> str:
    escaped = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return '{"' + '","'.join(escaped) + '"}'


def _ints(values: Sequence[int | None]) -> str:
    return "{" + ",".join(map(str, values)).replace("None", "NULL") + "}"
