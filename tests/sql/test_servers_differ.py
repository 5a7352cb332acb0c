"""Clauses that differ most between servers: locks, upserts, RETURNING, BEGIN, keys, rows in one statement.

The text for SQLite, PostgreSQL, MariaDB and MySQL 8 stands side by side; what a server has not is an error, by its
code.  Then all of it runs on the servers that are at hand, which MySQL is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from holdfast import Database, select
from holdfast.errors import HoldfastError
from holdfast.runner.replay import replay
from holdfast.steps import Command
from holdfast.tx import Scope, begin_sql
from tests.rooms.oracle import counted, our_side
from tests.sql.test_statements import SMALL, lines

ROWS = [(100, "t"), (101, "u")]
MYSQL_8 = [("version", "8.4.3"), ("max_allowed_packet", "67108864")]
MARIADB_10 = [("version", "10.11.19-MariaDB"), ("innodb_snapshot_isolation", "ON")]
URLS = {
    "sqlite": "sqlite://",
    "postgresql": "postgresql+psycopg://nobody@localhost/none",
    "mariadb": "mariadb+pymysql://nobody@localhost/none",
    "mysql": "mysql+pymysql://nobody@localhost/none",
}


@pytest.fixture(scope="module")
def models() -> Any:
    return our_side(SMALL)


@pytest.fixture(scope="module")
def unconnected() -> Iterator[dict[str, Database]]:
    """A database of each server that nobody connects to: it is asked for texts only."""
    opened = {server: Database(url) for server, url in URLS.items()}
    for server, facts in (("mariadb", MARIADB_10), ("mysql", MYSQL_8)):
        opened[server]._opened.driver._family.take_facts(facts)  # type: ignore[union-attr]
    yield opened
    for db in opened.values():
        db.close()


def upsert(server: str, model: Any) -> Any:
    """Each dialect's own form: they share no syntax."""
    if server in ("sqlite", "postgresql"):
        kind = sqlite.insert if server == "sqlite" else postgresql.insert
        own: Any = kind(model).values(id=100, name="x")
        return own.on_conflict_do_update(index_elements=["id"], set_={"name": own.excluded.name})
    made = mysql.insert(model).values(id=100, name="x")
    return made.on_duplicate_key_update(name=made.inserted.name)


Make = Callable[[Any, str], Any]
CLAUSES: dict[str, tuple[Make, str, str, str, str]] = {
    "a lock": (
        lambda m, _: select(m.Tag.id).with_for_update(),
        "SELECT tags.id FROM tags",
        "SELECT tags.id FROM tags FOR UPDATE",
        "SELECT tags.id FROM tags FOR UPDATE",
        "SELECT tags.id FROM tags FOR UPDATE",
    ),
    "nowait": (
        lambda m, _: select(m.Tag.id).with_for_update(nowait=True),
        "lock-not-supported",
        "SELECT tags.id FROM tags FOR UPDATE NOWAIT",
        "SELECT tags.id FROM tags FOR UPDATE NOWAIT",
        "SELECT tags.id FROM tags FOR UPDATE NOWAIT",
    ),
    "skip_locked": (
        lambda m, _: select(m.Tag.id).with_for_update(skip_locked=True),
        "lock-not-supported",
        "SELECT tags.id FROM tags FOR UPDATE SKIP LOCKED",
        "SELECT tags.id FROM tags FOR UPDATE SKIP LOCKED",
        "SELECT tags.id FROM tags FOR UPDATE SKIP LOCKED",
    ),
    "read": (
        lambda m, _: select(m.Tag.id).with_for_update(read=True),
        "lock-not-supported",
        "SELECT tags.id FROM tags FOR SHARE",
        "SELECT tags.id FROM tags LOCK IN SHARE MODE",
        "SELECT tags.id FROM tags FOR SHARE",
    ),
    "read, skip_locked": (
        lambda m, _: select(m.Tag.id).with_for_update(read=True, skip_locked=True),
        "lock-not-supported",
        "SELECT tags.id FROM tags FOR SHARE SKIP LOCKED",
        "SELECT tags.id FROM tags LOCK IN SHARE MODE SKIP LOCKED",
        "SELECT tags.id FROM tags FOR SHARE SKIP LOCKED",
    ),
    "key_share": (
        lambda m, _: select(m.Tag.id).with_for_update(key_share=True),
        "lock-not-supported",
        "SELECT tags.id FROM tags FOR NO KEY UPDATE",
        "lock-not-supported",
        "lock-not-supported",
    ),
    "of": (
        lambda m, _: select(m.Tag.id).with_for_update(of=m.Tag),
        "SELECT tags.id FROM tags",
        "SELECT tags.id FROM tags FOR UPDATE OF tags",
        "SELECT tags.id FROM tags FOR UPDATE",
        "SELECT tags.id FROM tags FOR UPDATE OF tags",
    ),
    "upsert": (
        lambda m, server: upsert(server, m.Tag),
        "INSERT INTO tags (id, name) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        (
            "INSERT INTO tags (id, name) VALUES ($1::INTEGER, $2::VARCHAR)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        ),
        "INSERT INTO tags (id, name) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = VALUES(name)",
        "INSERT INTO tags (id, name) VALUES (?, ?) AS new ON DUPLICATE KEY UPDATE name = new.name",
    ),
    "insert returning": (
        lambda m, _: insert(m.Tag).values(name="x").returning(m.Tag.id),
        "INSERT INTO tags (name) VALUES (?) RETURNING id",
        "INSERT INTO tags (name) VALUES ($1::VARCHAR) RETURNING tags.id",
        "INSERT INTO tags (name) VALUES (?) RETURNING tags.id",
        "returning-not-supported",
    ),
    "delete returning": (
        lambda m, _: delete(m.Tag).where(m.Tag.id == 9).returning(m.Tag.id),
        "DELETE FROM tags WHERE tags.id = ? RETURNING id",
        "DELETE FROM tags WHERE tags.id = $1::INTEGER RETURNING tags.id",
        "DELETE FROM tags WHERE tags.id = ? RETURNING tags.id",
        "returning-not-supported",
    ),
    "update returning": (
        lambda m, _: update(m.Tag).where(m.Tag.id == 9).values(name="x").returning(m.Tag.id),
        "UPDATE tags SET name=? WHERE tags.id = ? RETURNING id",
        "UPDATE tags SET name=$1::VARCHAR WHERE tags.id = $2::INTEGER RETURNING tags.id",
        "returning-not-supported",
        "returning-not-supported",
    ),
    "a limit": (
        lambda m, _: select(m.Tag.id).limit(2).offset(1),
        "SELECT tags.id FROM tags LIMIT ? OFFSET ?",
        "SELECT tags.id FROM tags LIMIT $1::INTEGER OFFSET $2::INTEGER",
        "SELECT tags.id FROM tags LIMIT ?, ?",
        "SELECT tags.id FROM tags LIMIT ?, ?",
    ),
}


def sent_or_refused(db: Database, statement: Any) -> str:
    """The text that a session sends, after a BEGIN; or the code of the error before anything is sent."""
    operation = db.session()._core.execute(statement, None, {})
    try:
        step = operation.send(None)
        while isinstance(step, Command):
            step = operation.send(None)
        return lines(step.sql)
    except HoldfastError as error:
        return error.code
    finally:
        operation.close()


@pytest.mark.parametrize("name", CLAUSES)
def test_a_clause_is_written_so(models: Any, unconnected: dict[str, Database], name: str) -> None:
    make, *texts = CLAUSES[name]

    found = [sent_or_refused(db, make(models, server)) for server, db in unconnected.items()]

    assert found == texts


def test_what_is_written_runs(models: Any, database_url: str) -> None:
    server = database_url.partition(":")[0]
    place = list(URLS).index(server)
    with Database(database_url) as db:
        db.create_all(models.Base)
        for name, (make, *texts) in CLAUSES.items():
            statement = make(models, server)
            with counted(db) as seen, db.session() as session:
                try:
                    session.execute(statement)
                except HoldfastError as error:
                    seen.append(error.code)
            assert texts[place] in map(lines, seen), name


# ---------------------------------------------------------------- how a transaction is opened

BEGINS: dict[str, tuple[Scope, list[str]]] = {
    "plain": (Scope(), ["BEGIN IMMEDIATE", "BEGIN", "BEGIN", "BEGIN"]),
    "read-only": (
        Scope(read_only=True),
        [
            "BEGIN; PRAGMA query_only=ON",
            "BEGIN READ ONLY",
            "START TRANSACTION READ ONLY",
            "START TRANSACTION READ ONLY",
        ],
    ),
    "a level": (
        Scope(isolation="SERIALIZABLE"),
        [
            "BEGIN IMMEDIATE",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; BEGIN",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; BEGIN",
        ],
    ),
}


@pytest.mark.parametrize("name", BEGINS)
def test_a_transaction_is_opened_so(unconnected: dict[str, Database], name: str) -> None:
    scope, texts = BEGINS[name]

    facts = [db._opened.backend.capabilities for db in unconnected.values()]

    assert ["; ".join(begin_sql(known, scope)) for known in facts] == texts


# ---------------------------------------------------------------- what a flush sends to MySQL 8


def load(core: Any, models: Any, count: int = 2) -> list[Any]:
    """Tags as if they had been read."""
    result, _ = replay(core.execute(select(models.Tag), None, {}), [ROWS[:count]])
    return result.scalars().all()  # type: ignore[no-any-return]


KEYS = "SELECT LAST_INSERT_ID(), @@auto_increment_increment"
FLUSHES: dict[str, tuple[Callable[[Any, Any], Any], list[Any], list[str]]] = {
    "new object": (
        lambda m, core: core.add(m.Tag(name="a")),
        [1, [(7, 1)]],
        ["INSERT INTO tags (name) VALUES (?)", KEYS],
    ),
    "new objects": (
        lambda m, core: core.add_all([m.Tag(name="a"), m.Tag(name="b")]),
        [2, [(7, 5)]],
        ["INSERT INTO tags (name) VALUES (?), (?)", KEYS],
    ),
    "changed object": (
        lambda m, core: setattr(load(core, m, 1)[0], "name", "x"),
        [1],
        ["UPDATE tags SET name = ? WHERE id = ?"],
    ),
    "changed objects": (
        lambda m, core: [setattr(tag, "name", "x") for tag in load(core, m)],
        [2],
        ["UPDATE tags AS t JOIN (VALUES ROW(?, ?), ROW(?, ?)) AS r(f0, f1) ON t.id = r.f0 SET t.name = r.f1"],
    ),
}


@pytest.mark.parametrize("name", FLUSHES)
def test_a_flush_sends_to_mysql(models: Any, unconnected: dict[str, Database], name: str) -> None:
    work, answers, texts = FLUSHES[name]
    core = unconnected["mysql"].session()._core
    work(models, core)
    new = list(core.new.values())

    _, steps = replay(core.flush(), [None, *answers])

    assert [lines(step.sql) for step in steps] == ["BEGIN", *texts]
    assert [tag.id for tag in new] == {"new object": [7], "new objects": [7, 12]}.get(name, [])
