"""The standard library's sqlite3: its own tuples, so moments are text and booleans 0 or 1."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bench.schema import Place, open_sqlite
from bench.systems import BARE, statements
from bench.systems.statements import CHUNK, Rows


class BareSqlite(Rows):
    name = BARE
    door = "blocking"
    stamp = staticmethod(datetime.isoformat)

    def open(self, place: Place) -> None:
        self._raw = open_sqlite(place.file)
        self._execute = self._raw.execute
        self._get = statements.one_by("id", "?")
        self._by_column = statements.one_by("email", "?")

    def close(self) -> None:
        self._raw.close()

    def get(self, key: int) -> Any:
        return self._execute(self._get, (key,)).fetchone()

    def by_column(self, email: str) -> Any:
        return self._execute(self._by_column, (email,)).fetchone()

    def rows(self) -> Any:
        return self._execute(statements.ROWS).fetchall()

    def graph_planned(self) -> Any:
        users = self._execute(statements.AUTHORS_ROWS).fetchall()
        keys = str([user[0] for user in users])
        return statements.put_together(users, self._execute(statements.SQLITE_POSTS_OF, (keys,)))

    graph_touched = graph_planned

    def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        keys: list[int] = []
        flat = flatten(people)
        step = CHUNK * 7
        self._execute("BEGIN")
        for at in range(0, len(flat), step):
            keys += [key for (key,) in self._execute(statements.SQLITE_INSERT, flat[at : at + step])]
        self._execute("COMMIT")
        return keys

    def load_members(self) -> Any:
        return self._execute("SELECT id FROM bench_members ORDER BY id").fetchall()

    def update(self, turn: int, members: Any) -> None:
        flat = [value for row in statements.change(members, turn) for value in row]
        step = CHUNK * 3
        self._execute("BEGIN")
        for at in range(0, len(flat), step):
            self._execute(statements.SQLITE_UPDATE, flat[at : at + step])
        self._execute("COMMIT")


def flatten(people: list[tuple[Any, ...]]) -> list[Any]:
    """Give all values in one list, moments as SQLite keeps them."""
    flat: list[Any] = []
    for email, name, age, moment, score, active, note in people:
        flat += (email, name, age, moment.isoformat(), score, active, note)
    return flat
