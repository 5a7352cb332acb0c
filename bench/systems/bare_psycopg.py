"""psycopg 3 as fast as it goes: one raw cursor used again, prepared, binary."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.pq import Format

from bench.schema import Place
from bench.systems import BARE, arrays, statements
from bench.systems.statements import Rows


class BarePsycopg(Rows):
    name = BARE
    door = "blocking"

    def open(self, place: Place) -> None:
        self._raw = psycopg.connect(place.url, autocommit=True)
        self._raw.prepare_threshold = 0
        arrays.register(self._raw)
        self._cursor: Any = RawCursor(self._raw)
        self._cursor.format = Format.BINARY
        self._get = statements.one_by("id", "$1")
        self._by_column = statements.one_by("email", "$1")
        self._insert = statements.insert_unnest()

    def close(self) -> None:
        self._raw.close()

    def get(self, key: int) -> Any:
        return self._cursor.execute(self._get, (key,)).fetchone()

    def by_column(self, email: str) -> Any:
        return self._cursor.execute(self._by_column, (email,)).fetchone()

    def rows(self) -> Any:
        return self._cursor.execute(statements.ROWS).fetchall()

    def graph_planned(self) -> Any:
        users = self._cursor.execute(statements.AUTHORS_ROWS).fetchall()
        keys = arrays.ints([user[0] for user in users])
        return statements.put_together(users, self._cursor.execute(statements.POSTS_OF, (keys,)).fetchall())

    graph_touched = graph_planned

    def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        emails, names, ages, moments, scores, actives, notes = zip(*people, strict=True)
        self._cursor.execute("BEGIN")
        given = (
            arrays.texts(emails), arrays.texts(names), arrays.ints(ages), arrays.moments(moments),
            arrays.floats(scores), arrays.bools(actives), arrays.texts(notes),
        )  # fmt: skip
        keys = [key for (key,) in self._cursor.execute(self._insert, given).fetchall()]
        self._cursor.execute("COMMIT")
        return keys

    def load_members(self) -> Any:
        return self._cursor.execute("SELECT id FROM bench_members ORDER BY id").fetchall()

    def update(self, turn: int, members: Any) -> None:
        keys, names, scores = zip(*statements.change(members, turn), strict=True)
        self._cursor.execute("BEGIN")
        given = (arrays.ints(keys), arrays.texts(names), arrays.floats(scores))
        self._cursor.execute(statements.UPDATE_UNNEST, given)
        self._cursor.execute("COMMIT")
