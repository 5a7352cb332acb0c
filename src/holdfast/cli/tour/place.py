"""Where the demo's tables live: a file, or a schema of its own on PostgreSQL.

Rule: nothing that was there before is touched, and nothing is left behind, however the demo ends; only ``--keep``
leaves its file.  The file of an earlier demo is known by SQLite's application id and may be replaced.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from holdfast import Database
from holdfast.cli.exits import Usage
from holdfast.errors import PermissionDenied

APPLICATION_ID = 0x486F6C64  # "Hold"; https://www.sqlite.org/fileformat.html#application_id
_ID_PLACE = slice(68, 72)
_SQLITE_HEAD = b"SQLite format 3\x00"


@dataclass(frozen=True, slots=True)
class Place:
    """``url`` is for the drivers, ``name`` for people: it holds no password.  ``kept`` is the file that stays.

    ``schema`` is where PostgreSQL finds the tables; the URL's search path leads there and nowhere else.
    """

    url: sa.URL
    name: str
    orm_url: sa.URL
    kept: str | None = None
    schema: str | None = None


@contextmanager
def open_place(url: str | None, keep: Path | None) -> Iterator[Place]:
    """Make a place for the demo, and take it away at the end."""
    if url is not None and keep is not None:
        raise Usage("--keep FILE is short for --url sqlite:///FILE; give one of them")
    if url is None or url.startswith("sqlite"):
        with _open_file(_file_of(url) if url is not None else keep) as place:
            yield place
    elif url.startswith("postgresql"):
        with _open_schema(url) as place:
            yield place
    elif url.startswith(("mariadb", "mysql")):
        with _open_database(url) as place:
            yield place
    else:
        Database(url)  # says what is wrong with it
        raise Usage("the demo runs on sqlite:///file.db, postgresql://… and mariadb://…")


def _file_of(url: str) -> Path:
    database = sa.make_url(url).database
    if not database or database == ":memory:" or database.startswith("file:"):
        raise Usage("the demo opens its database twice, so it needs a file: --url sqlite:///demo.db")
    return Path(database)


@contextmanager
def _open_file(keep: Path | None) -> Iterator[Place]:
    if keep is not None:
        _make_room(keep)
        yield _place_of(keep, f"SQLite, in {keep}", str(keep))
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        yield _place_of(Path(folder) / "demo.db", "SQLite, in a temporary file")


def _place_of(path: Path, name: str, kept: str | None = None) -> Place:
    url = sa.URL.create("sqlite", database=str(path))
    with Database(url) as db, db.session() as session:
        session.execute(sa.text(f"PRAGMA application_id = {APPLICATION_ID}"))
    return Place(url, name, url, kept)


def _make_room(path: Path) -> None:
    if not path.parent.is_dir():
        raise Usage(f"there is no folder {path.parent}")
    if not path.exists():
        return
    with path.open("rb") as file:
        head = file.read(100)
    ours = head.startswith(_SQLITE_HEAD) and head[_ID_PLACE] == APPLICATION_ID.to_bytes(4, "big")
    if not ours:
        raise Usage(f"{path} exists and is not an earlier demo; name a file that does not exist")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def _open_schema(text: str) -> Iterator[Place]:
    url = sa.make_url(text)
    schema = f"holdfast_demo_{os.getpid()}_{os.urandom(3).hex()}"
    url = url.set(drivername="postgresql+psycopg")
    _command(url, f"CREATE SCHEMA {schema}")
    try:
        options = f"{url.query.get('options', '')} -csearch_path={schema}".strip()
        inside = url.update_query_dict({"options": options})
        name = f"PostgreSQL, schema {schema} of {url.host or 'the local socket'}/{url.database or ''}"
        yield Place(inside, name, inside, schema=schema)
    finally:
        _command(url, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@contextmanager
def _open_database(text: str) -> Iterator[Place]:
    """What PostgreSQL calls a schema is a database here."""
    url = sa.make_url(text).set(drivername=text.partition("://")[0].partition("+")[0])
    name = f"holdfast_demo_{os.getpid()}_{os.urandom(3).hex()}"
    # authors who differ in a capital are two, as on the other servers
    _command(url, f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    try:
        inside = url.set(database=name)
        told = f"{url.drivername}, database {name} of {url.host or 'localhost'}"
        yield Place(inside, told, inside.set(drivername=f"{url.drivername}+pymysql"), schema=name)
    finally:
        _command(url, f"DROP DATABASE IF EXISTS {name}")


def _command(url: sa.URL, sql: str) -> None:
    try:
        with Database(url) as db, db.session() as session:
            session.execute(sa.text(sql))
            session.commit()
    except PermissionDenied as error:
        error.mend = "The demo makes a place of its own: grant CREATE, or use another user."
        raise
