"""PyMySQL with one cursor used again; values of many rows are written into the text by hand."""

from __future__ import annotations

from typing import Any

import pymysql

from bench.schema import Place, read_place
from bench.systems import BARE, statements
from bench.systems.statements import Rows


class BarePymysql(Rows):
    name = BARE
    door = "blocking"

    def open(self, place: Place) -> None:
        self._raw = pymysql.connect(**read_place(place), autocommit=True)
        self._cursor = self._raw.cursor()
        self._cursor.execute(statements.MARIADB_SESSION)
        self._get = statements.one_by("id", "%s")
        self._by_column = statements.one_by("email", "%s")

    def close(self) -> None:
        self._raw.close()

    def get(self, key: int) -> Any:
        self._cursor.execute(self._get, (key,))
        return self._cursor.fetchone()

    def by_column(self, email: str) -> Any:
        self._cursor.execute(self._by_column, (email,))
        return self._cursor.fetchone()

    def rows(self) -> Any:
        self._cursor.execute(statements.ROWS)
        return self._cursor.fetchall()

    def graph_planned(self) -> Any:
        self._cursor.execute(statements.AUTHORS_ROWS)
        users = self._cursor.fetchall()
        self._cursor.execute(statements.MARIADB_POSTS_OF % ",".join([str(user[0]) for user in users]))
        return statements.put_together(users, self._cursor.fetchall())

    graph_touched = graph_planned

    def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        self._cursor.execute("BEGIN")
        self._cursor.execute(statements.mariadb_insert(people))
        keys = [key for (key,) in self._cursor.fetchall()]
        self._cursor.execute("COMMIT")
        return keys

    def load_members(self) -> Any:
        self._cursor.execute("SELECT id FROM bench_members ORDER BY id")
        return self._cursor.fetchall()

    def update(self, turn: int, members: Any) -> None:
        self._cursor.execute("BEGIN")
        self._cursor.execute(statements.mariadb_update(statements.change(members, turn)))
        self._cursor.execute("COMMIT")
