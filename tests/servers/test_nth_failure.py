"""The n-th call of the driver fails, for n = 1, 2, 3 … until the work passes without a fault.

After each failure: the error is typed; the database holds all of the work or nothing; after a rollback the session can
be used, its objects are what they were, and the same work then succeeds; no connection is left behind.
"""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Column, ForeignKey, String, Table

from holdfast import AsyncDatabase, Database, DeclarativeBase, Mapped, mapped_column, relationship, select
from holdfast.errors import ConnectionLost, HoldfastError, Outcome
from tests.conftest import open_mariadb
from tests.servers.failing import (
    ANSWER_LOST,
    CANCELLED,
    CANCELLED_TWICE,
    INTERRUPTED,
    INTERRUPTED_AFTER,
    LOST,
    REFUSED,
    Faults,
    fail_through,
)

MOST_CALLS = 80
BLOCKING = [LOST, ANSWER_LOST, REFUSED, INTERRUPTED, INTERRUPTED_AFTER]
ASYNC = [LOST, ANSWER_LOST, REFUSED, CANCELLED, CANCELLED_TWICE]
DOORS = ["sqlite", "psycopg", "sqlite async", "psycopg async", "asyncpg async", "pymysql", "asyncmy async"]
CASES = [(door, kind) for door in DOORS for kind in (ASYNC if "async" in door else BLOCKING)]


class Base(DeclarativeBase):
    pass


post_tags = Table(
    "post_tags",
    Base.metadata,
    Column("post_id", ForeignKey("posts.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    posts: Mapped[list[Post]] = relationship(
        back_populates="author", cascade="all, delete-orphan", order_by="Post.title"
    )


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")
    tags: Mapped[list[Tag]] = relationship(secondary=post_tags, order_by="Tag.name")


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Place(Base):
    __tablename__ = "places"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("places.id"))
    inner: Mapped[list[Place]] = relationship(back_populates="outer")
    outer: Mapped[Place | None] = relationship(back_populates="inner", remote_side="Place.id")


ROWS = [
    "INSERT INTO users (id, name) VALUES (101, 'Ann'), (102, 'Ben'), (103, 'Cid')",
    "INSERT INTO tags (id, name) VALUES (101, 'red'), (102, 'green')",
    "INSERT INTO posts (id, title, author_id) VALUES (101, 'One', 101), (102, 'Two', 101), (103, 'Three', 102)",
    "INSERT INTO post_tags (post_id, tag_id) VALUES (101, 101), (101, 102), (103, 101)",
    "INSERT INTO places (id, name) VALUES (101, 'Earth')",
]
SEEN = [
    "SELECT name FROM users",
    "SELECT u.name, p.title FROM posts p JOIN users u ON u.id = p.author_id",
    "SELECT p.title, t.name FROM post_tags x JOIN posts p ON p.id = x.post_id JOIN tags t ON t.id = x.tag_id",
    "SELECT i.name, o.name FROM places i LEFT JOIN places o ON o.id = i.parent_id",
    "SELECT name FROM tags",
]
TABLES = ["post_tags", "posts", "tags", "users", "places"]
BEFORE = [
    [("Ann",), ("Ben",), ("Cid",)],
    [("Ann", "One"), ("Ann", "Two"), ("Ben", "Three")],
    [("One", "green"), ("One", "red"), ("Three", "red")],
    [("Earth", None)],
    [("green",), ("red",)],
]
AFTER = [
    [("Anna",), ("Ben",), ("Cid",), ("Dot",), ("Eve",)],
    [("Anna", "Four"), ("Anna", "One"), ("Ben", "Three"), ("Dot", "Five")],
    [("Five", "blue"), ("Four", "blue"), ("Four", "red"), ("One", "red"), ("Three", "red")],
    [("Asia", "Earth"), ("Earth", None), ("India", "Asia")],
    [("blue",), ("green",), ("red",)],
]


class Witness:
    """Another connection, by the driver alone."""

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite"):
            self._raw: Any = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        elif url.startswith("mariadb"):
            self._raw = open_mariadb(url)
            self._ask("SET foreign_key_checks = 0")  # it empties a table that refers to itself
        else:
            self._raw = psycopg.connect(url, autocommit=True)

    def _ask(self, sql: str) -> Any:
        cursor = self._raw.cursor()
        cursor.execute(sql)
        return cursor

    def begin_anew(self) -> None:
        for table in TABLES:
            self._ask(f"DELETE FROM {table}")
        for sql in ROWS:
            self._ask(sql)

    def see(self) -> list[list[tuple[Any, ...]]]:
        return [sorted(map(tuple, self._ask(sql)), key=repr) for sql in SEEN]

    def close(self) -> None:
        self._raw.close()


class Door:
    """One of the doors, with the shape of the async one."""

    def __init__(self, url: str, *, blocking: bool, **options: Any) -> None:
        self.faults = Faults()
        self.db: Any = (Database if blocking else AsyncDatabase)(url, pool_size=1, **options)
        fail_through(self.db, self.faults)

    async def wait(self, given: Any) -> Any:
        return await given if inspect.isawaitable(given) else given

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        session = self.db.session()
        try:
            yield session
        finally:
            await self.wait(session.close())

    async def fail(self, work: Any, kind: str, at: int) -> BaseException | None:
        """Do the work in a task of its own; answer what it died of."""
        self.faults.loop = asyncio.get_running_loop()
        self.faults.arm(kind, at)
        died: BaseException | None = None
        if isinstance(self.db, Database):
            try:
                await work
            except (HoldfastError, KeyboardInterrupt) as error:
                died = error
        else:
            self.faults.task = asyncio.ensure_future(work)
            try:
                await self.faults.task
            except (HoldfastError, asyncio.CancelledError) as error:
                died = error
        self.faults.disarm()
        return died

    async def close(self) -> None:
        stats = self.db.pool.stats()
        await self.wait(self.db.close())
        assert (stats.in_use, stats.waiting) == (0, 0)


async def find(door: Door, session: Any) -> list[Any]:
    """All that is there, with its relations."""
    users = (await door.wait(session.scalars(select(User).order_by(User.id)))).all()
    await door.wait(session.load(users, User.posts, Post.tags))
    tags = (await door.wait(session.scalars(select(Tag).order_by(Tag.id)))).all()
    places = (await door.wait(session.scalars(select(Place)))).all()
    await door.wait(session.load(places, Place.inner))
    return [*users, *tags, *places]


def state_of(found: list[Any]) -> list[Any]:
    """What the program sees of its objects."""
    users, tags, places = found[:3], found[3:5], found[5:]
    return [
        [(u.name, [(p.title, [t.name for t in p.tags]) for p in u.posts]) for u in users],
        [t.name for t in tags],
        [(p.name, [i.name for i in p.inner]) for p in places],
    ]


async def change(door: Door, session: Any, found: list[Any]) -> None:
    """Every kind of change, over several tables, in two flushes, with a savepoint."""
    ann, red, earth = found[0], found[3], found[5]
    one, two = sorted(ann.posts, key=lambda post: post.title)
    blue = Tag(name="blue")
    ann.name = "Anna"
    one.tags.remove(found[4])
    ann.posts.append(Post(title="Four", tags=[red, blue]))
    ann.posts.remove(two)
    earth.inner.append(Place(name="Asia", inner=[Place(name="India")]))
    await door.wait(session.flush())
    savepoint = session.begin_nested()
    if isinstance(door.db, Database):
        with savepoint:
            session.add(User(name="Dot", posts=[Post(title="Five", tags=[blue])]))
    else:
        async with savepoint:
            session.add(User(name="Dot", posts=[Post(title="Five", tags=[blue])]))
    session.add(User(name="Eve"))
    await door.wait(session.commit())


def url_of(door: str, request: pytest.FixtureRequest) -> str:
    name = door.split(maxsplit=1)[0]
    server = {"sqlite": "sqlite", "pymysql": "mariadb", "asyncmy": "mariadb"}.get(name, "postgresql")
    return str(request.getfixturevalue(f"{server}_url"))


@asynccontextmanager
async def opened(url: str, name: str, **options: Any) -> AsyncIterator[Door]:
    driver = name.split(maxsplit=1)[0]
    through = url if driver == "sqlite" else url.replace("://", f"+{driver}://", 1)
    door = Door(through, blocking="async" not in name, **options)
    try:
        yield door
    finally:
        await door.close()


@pytest.mark.parametrize(("door", "kind"), CASES)
async def test_a_save_fails_whole_and_can_be_done_again(
    door: str, kind: str, request: pytest.FixtureRequest
) -> None:
    url = url_of(door, request)
    with Database(url) as db:
        db.create_all(Base)
    with closing(Witness(url)) as witness:
        for at in range(1, MOST_CALLS):
            witness.begin_anew()
            async with opened(url, door) as one:
                if await save_with_a_fault(one, kind, at, witness):
                    break
        else:
            pytest.fail("the work never passed")
    assert at > 10


async def save_with_a_fault(door: Door, kind: str, at: int, witness: Witness) -> bool:
    """Tell whether the work passed without a fault."""
    async with door.session() as session:
        found = await find(door, session)
        was = state_of(found)
        died = await door.fail(change(door, session, found), kind, at)
        where = f"{kind} at {at}: {door.faults.fired}, {died!r}"
        seen = witness.see()
        assert seen in (BEFORE, AFTER), where
        if door.faults.fired is None:
            assert (died, seen) == (None, AFTER), where
            return True
        judge(died, kind, door.faults.fired, done=seen == AFTER, where=where)
        committed = seen == AFTER and isinstance(died, asyncio.CancelledError)
        await door.wait(session.rollback())
        if committed:
            assert state_of(found) != was, (
                where
            )  # a commit that was waited for has lasted, and the session knows
        else:
            assert state_of(found) == was, where
        assert not session.in_transaction()
        if seen == BEFORE:
            await change(door, session, found)
    assert witness.see() == AFTER, where
    return False


def judge(died: BaseException | None, kind: str, fired: str, *, done: bool, where: str) -> None:
    """What is said of the work must be true, and precise."""
    assert died is not None, where
    if isinstance(died, HoldfastError):
        assert died.__cause__ is None, where
        # Cut between the look at the wire and the COMMIT, or between the COMMIT and its answer, which is all one to a
        # client; `test_cut_wires` has what it can see before.
        in_doubt = fired == "COMMIT" and kind in (LOST, ANSWER_LOST)
        expected = Outcome.UNKNOWN if in_doubt else Outcome.NOT_DONE
        assert died.outcome is expected, where
        assert not (done and expected is Outcome.NOT_DONE), where
        assert isinstance(died, ConnectionLost) is (kind != REFUSED), where
    else:
        assert done is (fired == "COMMIT" and kind != INTERRUPTED), where


async def read_all(door: Door, session: Any) -> list[Any]:
    """Load in every way; answers what was found."""
    found = state_of(await find(door, session))
    ben = await door.wait(session.get(User, 102, populate_existing=True))
    await door.wait(session.refresh(ben))
    last, chunks = 0, []
    while chunk := (
        await door.wait(session.scalars(select(Post).where(Post.id > last).order_by(Post.id).limit(2)))
    ).all():
        last = chunk[-1].id
        chunks.append([post.title for post in chunk])
        await door.wait(session.load(chunk, Post.author))
    return [*found, ben.name, chunks]


WHOLE = [
    [("Ann", [("One", ["green", "red"]), ("Two", [])]), ("Ben", [("Three", ["red"])]), ("Cid", [])],
    ["red", "green"],
    [("Earth", [])],
    "Ben",
    [["One", "Two"], ["Three"]],
]


READ, READ_IN_TRANSACTION, READ_WITH_PING = "outside", "in a transaction", "with pool_pre_ping"


@pytest.mark.parametrize("how", [READ, READ_IN_TRANSACTION, READ_WITH_PING])
@pytest.mark.parametrize(("door", "kind"), CASES)
async def test_a_load_fails_without_harm_and_can_be_done_again(
    door: str, kind: str, how: str, request: pytest.FixtureRequest
) -> None:
    url = url_of(door, request)
    with Database(url) as db:
        db.create_all(Base)
    with closing(Witness(url)) as witness:
        witness.begin_anew()
    for at in range(1, MOST_CALLS):
        async with opened(url, door, pool_pre_ping=how == READ_WITH_PING) as one:
            if await load_with_a_fault(one, kind, at, in_transaction=how == READ_IN_TRANSACTION):
                break
    else:
        pytest.fail("the work never passed")
    assert at > 8


async def load_with_a_fault(door: Door, kind: str, at: int, *, in_transaction: bool) -> bool:
    """Tell whether the work passed without a fault."""
    async with door.session() as session:

        async def work() -> Any:
            if in_transaction:
                session.begin(isolation="SERIALIZABLE", read_only=True)
            return await read_all(door, session)

        died = await door.fail(work(), kind, at)
        where = f"{kind} at {at}: {door.faults.fired}, {died!r}"
        if door.faults.fired is None:
            assert died is None, where
            return True
        if door.faults.fired == "ping" and kind in (LOST, ANSWER_LOST, REFUSED):
            assert died is None, where  # what does not answer is replaced
        else:
            assert died is not None, where
        await door.wait(session.rollback())
        assert await work() == WHOLE, where
    return False


@pytest.mark.parametrize(("door", "kind"), CASES)
async def test_a_rollback_fails_and_still_undoes_all(
    door: str, kind: str, request: pytest.FixtureRequest
) -> None:
    url = url_of(door, request)
    with Database(url) as db:
        db.create_all(Base)
    with closing(Witness(url)) as witness:
        witness.begin_anew()
        for at in range(1, MOST_CALLS):
            async with opened(url, door) as one:
                if await roll_back_with_a_fault(one, kind, at, witness):
                    break
        else:
            pytest.fail("the work never passed")
    assert at > 3


async def roll_back_with_a_fault(door: Door, kind: str, at: int, witness: Witness) -> bool:
    """Tell whether the work passed without a fault."""
    async with door.session() as session:
        found = await find(door, session)
        was = state_of(found)
        found[0].name = "Anna"
        await door.wait(session.flush())
        savepoint = session.begin_nested()
        await door.wait(savepoint.__enter__() if isinstance(door.db, Database) else savepoint.__aenter__())
        session.add(User(name="Dot"))
        await door.wait(session.flush())

        async def work() -> None:
            await door.wait(savepoint.rollback())
            await door.wait(session.rollback())

        died = await door.fail(work(), kind, at)
        where = f"{kind} at {at}: {door.faults.fired}, {died!r}"
        await door.wait(session.rollback())
        assert state_of(found) == was, where
        assert witness.see() == BEFORE, where
        assert not session.in_transaction(), where
        await door.wait(session.scalars(select(User)))
    return door.faults.fired is None
