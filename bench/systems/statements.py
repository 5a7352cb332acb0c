"""The SQL a careful person writes by hand; the bare systems share it.

Each choice was measured against the others on PostgreSQL 15 and SQLite 3.40; ``bench/README.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.schema import ALL, AUTHORS, COLUMNS, POST

_ALL = ", ".join(ALL)
_COLUMNS = ", ".join(COLUMNS)
_TYPES = ("text", "text", "int", "timestamptz", "float8", "bool", "text")

ROWS = f"SELECT {_ALL} FROM bench_users ORDER BY id"
AUTHORS_ROWS = f"SELECT {_ALL} FROM bench_users WHERE id <= {AUTHORS} ORDER BY id"


def one_by(column: str, mark: str) -> str:
    return f"SELECT {_ALL} FROM bench_users WHERE {column} = {mark}"


# ---------------------------------------------------------------- PostgreSQL

POSTS_OF = f"SELECT {', '.join(POST)} FROM bench_posts WHERE author_id = ANY($1) ORDER BY id"


def insert_unnest(text_at: frozenset[int] = frozenset()) -> str:
    """One array a column, ids back in the order given; arrays at ``text_at`` arrive as text literals."""
    arrays = ", ".join(
        f"${number}::{'text::' if number in text_at else ''}{type_}[]"
        for number, type_ in enumerate(_TYPES, 1)
    )
    return (
        f"INSERT INTO bench_signups ({_COLUMNS}) SELECT {_COLUMNS} FROM unnest({arrays}) "
        f"WITH ORDINALITY AS given ({_COLUMNS}, place) ORDER BY place RETURNING id"
    )


UPDATE_UNNEST = (
    "UPDATE bench_members SET name = given.name, score = given.score "
    "FROM unnest($1::int[], $2::text[], $3::float8[]) AS given (id, name, score) WHERE bench_members.id = given.id"
)

# ---------------------------------------------------------------- SQLite

CHUNK = 100  # rows in one statement; from 50 to 1,000 it makes no difference
SQLITE_POSTS_OF = (
    f"SELECT {', '.join(f'post.{name}' for name in POST)} FROM json_each(?) AS given "
    "CROSS JOIN bench_posts AS post ON post.author_id = given.value"
)
_MARKS = f"({', '.join('?' * len(COLUMNS))})"
SQLITE_INSERT = f"INSERT INTO bench_signups ({_COLUMNS}) VALUES {', '.join([_MARKS] * CHUNK)} RETURNING id"
SQLITE_UPDATE = (
    f"WITH given (id, name, score) AS (VALUES {', '.join(['(?, ?, ?)'] * CHUNK)}) UPDATE bench_members "
    "SET name = given.name, score = given.score FROM given WHERE bench_members.id = given.id"
)

# ---------------------------------------------------------------- MariaDB, whose drivers write values into the text

MARIADB_POSTS_OF = f"SELECT {', '.join(POST)} FROM bench_posts WHERE author_id IN (%s) ORDER BY id"
MARIADB_SESSION = "SET time_zone = '+00:00', innodb_snapshot_isolation = ON"
"""As Holdfast has it; SQLAlchemy's sessions are as the server's defaults are."""


def mariadb_text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def mariadb_insert(people: Iterable[tuple[Any, ...]]) -> str:
    text = mariadb_text
    rows = ",".join([
        f"({text(email)},{text(name)},{'NULL' if age is None else age},'{moment:%Y-%m-%d %H:%M:%S.%f}',"
        f"{score!r},{int(active)},{text(note)})"
        for email, name, age, moment, score, active, note in people
    ])  # fmt: skip
    return f"INSERT INTO bench_signups ({_COLUMNS}) VALUES {rows} RETURNING id"


def mariadb_update(changed: Iterable[tuple[int, str, float]]) -> str:
    rows = ",".join([f"({key},{mariadb_text(name)},{score!r}e0)" for key, name, score in changed])
    return (
        f"UPDATE bench_members AS t JOIN (WITH r(id, name, score) AS (VALUES {rows}) SELECT * FROM r) AS r "
        "ON t.id = r.id SET t.name = r.name, t.score = r.score"
    )


# ---------------------------------------------------------------- for all


def put_together(users: Iterable[Any], posts: Iterable[Any]) -> list[tuple[Any, list[Any]]]:
    """Give each user row with its post rows."""
    of: dict[int, list[Any]] = {}
    pairs = []
    for user in users:
        mine = of[user[0]] = []
        pairs.append((user, mine))
    for post in posts:
        of[post[4]].append(post)
    return pairs


def change(members: Sequence[Any], turn: int) -> list[tuple[int, str, float]]:
    """Give (id, name, score) as they shall be; the object systems set the same on their objects."""
    return [(member[0], f"Turn {turn} of {member[0]}", member[0] + turn / 2) for member in members]


class Rows:
    """What the checks need of a system that answers rows."""

    def values(self, row: Any, names: Sequence[str]) -> tuple[Any, ...]:
        return tuple(row)

    def values_of_post(self, row: Any, names: Sequence[str]) -> tuple[Any, ...]:
        return tuple(row[POST.index(name)] for name in names)


class Objects:
    """What the checks need of a system that answers objects."""

    def values(self, thing: Any, names: Sequence[str]) -> tuple[Any, ...]:
        return tuple(getattr(thing, name) for name in names)

    values_of_post = values
