"""What becomes of a session when its transaction is lost: cancelled, aborted, cut off, forgotten, or shared.

The rule of all: a session never goes on outside its transaction, as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import ForeignKey, String, func, text

from holdfast import (
    AsyncDatabase,
    AsyncSession,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    select,
)
from holdfast.errors import ConnectionLost, DatabaseError, SessionInUse, TransactionFailed, UnknownTable
from holdfast.observe import StatementStarted
from tests.conftest import SESSION_NUMBER, end_session, without_driver

SLOW = {
    "postgresql": "SELECT pg_sleep(30)",
    "mariadb": "SELECT SLEEP(30)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000) SELECT count(*) FROM n",
}
PATIENCE_SECONDS = 0.1
"""How long a slow statement runs before it is cancelled."""


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    posts: Mapped[list[Post]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")


def kept(url: str) -> list[str]:
    """The names that are in the database, as another connection sees them."""
    with Database(without_driver(url)) as other, other.session() as session:
        return list(session.scalars(select(User.name).order_by(User.name)))


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with Database(database_url) as opened:
        opened.create_all(Base)
        with opened.begin() as session:
            session.add(User(name="Ann", posts=[Post(title="One")]))
        yield opened


@pytest.fixture
async def adb(async_database_url: str) -> AsyncIterator[AsyncDatabase]:
    async with AsyncDatabase(async_database_url) as opened:
        await opened.create_all(Base)
        async with opened.begin() as session:
            session.add(User(name="Ann", posts=[Post(title="One")]))
        yield opened


async def cut(session: AsyncSession, server: str) -> None:
    """Cancel a statement half-way."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await session.execute(text(SLOW[server]))


async def refuses_all(session: AsyncSession, user: User) -> None:
    """Everything says what happened; nothing is done outside the transaction."""
    session.add(User(name="Outside"))
    for attempt in (
        lambda: session.execute(select(User)),
        lambda: session.execute(text("INSERT INTO users (id, name, settings) VALUES (9, 'Nina', '{}')")),
        lambda: session.get(User, 77),
        lambda: session.refresh(user),
        lambda: session.load([user], User.posts),
        session.flush,
        session.commit,
        session.begin_nested().__aenter__,
    ):
        with pytest.raises(TransactionFailed):
            await attempt()


# ---------------------------------------------------------------- cancelled


async def test_after_a_cancelled_statement_only_a_rollback_helps(
    adb: AsyncDatabase, async_database_url: str
) -> None:
    async with adb.session() as session:
        user = await session.get_one(User, 1)
        session.add(User(name="Ben"))
        await session.flush()

        await cut(session, adb.dialect_name)

        await refuses_all(session, user)
        assert kept(async_database_url) == ["Ann"]
        await session.rollback()
        session.add(User(name="Cid"))
        await session.commit()
    assert kept(async_database_url) == ["Ann", "Cid"]
    assert adb.pool.stats().in_use == 0


async def test_a_cancelled_statement_in_a_savepoint_takes_the_whole_transaction(
    adb: AsyncDatabase, async_database_url: str
) -> None:
    async with adb.session() as session:
        user = await session.get_one(User, 1)
        session.add(User(name="Ben"))
        with pytest.raises(TimeoutError):  # noqa: PT012 - the whole block must raise
            async with session.begin_nested():
                session.add(User(name="Eve"))
                await session.flush()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await session.execute(text(SLOW[adb.dialect_name]))

        await refuses_all(session, user)
        assert kept(async_database_url) == ["Ann"]
        await session.rollback()
        session.add(User(name="Cid"))
        await session.commit()
    assert kept(async_database_url) == ["Ann", "Cid"]
    assert adb.pool.stats().in_use == 0


async def test_a_block_that_is_cancelled_leaves_nothing(adb: AsyncDatabase, async_database_url: str) -> None:
    with pytest.raises(TimeoutError):  # noqa: PT012 - the whole block must raise
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with adb.begin() as session:
                session.add(User(name="Ben"))
                await session.flush()
                await session.execute(text(SLOW[adb.dialect_name]))

    assert kept(async_database_url) == ["Ann"]
    assert adb.pool.stats().in_use == 0


async def test_a_swallowed_cancellation_does_not_commit_the_rest(
    adb: AsyncDatabase, async_database_url: str
) -> None:
    with pytest.raises(TransactionFailed):  # noqa: PT012 - the whole block must raise
        async with adb.begin() as session:
            session.add(User(name="Ben"))
            await session.flush()
            await cut(session, adb.dialect_name)
            session.add(User(name="Cid"))

    assert kept(async_database_url) == ["Ann"]
    assert adb.pool.stats().in_use == 0


# ---------------------------------------------------------------- the connection is gone


@pytest.mark.parametrize("nested", [False, True])
async def test_after_the_backend_is_gone_only_a_rollback_helps(nested: bool, async_wired_url: str) -> None:
    async with AsyncDatabase(async_wired_url) as adb:
        await adb.create_all(Base)
        async with adb.session() as session:
            user = User(name="Ben")
            session.add(user)
            await session.flush()
            pid = await session.scalar(text(SESSION_NUMBER[adb.dialect_name]))

            with pytest.raises(ConnectionLost):  # noqa: PT012 - the whole block must raise
                if nested:
                    async with session.begin_nested():
                        end_session(async_wired_url, pid)
                        await session.execute(select(User))
                else:
                    end_session(async_wired_url, pid)
                    await session.execute(select(User))

            await refuses_all(session, user)
            await session.rollback()
            session.add(User(name="Cid"))
            await session.commit()
        stats = adb.pool.stats()
    assert kept(async_wired_url) == ["Cid"]
    assert stats.in_use == 0


@pytest.mark.parametrize("nested", [False, True])
def test_after_the_backend_is_gone_only_a_rollback_helps_blocking(nested: bool, wired_url: str) -> None:
    with Database(wired_url) as db:
        db.create_all(Base)
        with db.session() as session:
            session.add(User(name="Ben"))
            session.flush()
            pid = session.scalar(text(SESSION_NUMBER[db.dialect_name]))

            with pytest.raises(ConnectionLost):  # noqa: PT012 - the whole block must raise
                if nested:
                    with session.begin_nested():
                        end_session(wired_url, pid)
                        session.execute(select(User))
                else:
                    end_session(wired_url, pid)
                    session.execute(select(User))

            session.add(User(name="Outside"))
            for attempt in (lambda: session.execute(select(User)), session.flush, session.commit):
                with pytest.raises(TransactionFailed):
                    attempt()
            session.rollback()
            session.add(User(name="Cid"))
            session.commit()
        assert db.pool.stats().in_use == 0
    assert kept(wired_url) == ["Cid"]


def test_a_rollback_that_fails_does_not_hide_the_users_error(wired_url: str) -> None:
    with Database(wired_url) as db:
        db.create_all(Base)

        with pytest.raises(KeyError), db.begin() as session:  # noqa: PT012 - the whole block must raise
            session.add(User(name="Ben"))
            session.flush()
            end_session(wired_url, session.scalar(text(SESSION_NUMBER[db.dialect_name])))
            raise KeyError("the user's own")

        assert db.pool.stats().in_use == 0
    assert kept(wired_url) == []


async def test_a_rollback_that_fails_does_not_hide_the_users_error_async(async_wired_url: str) -> None:
    async with AsyncDatabase(async_wired_url) as adb:
        await adb.create_all(Base)

        with pytest.raises(KeyError):  # noqa: PT012 - the whole block must raise
            async with adb.begin() as session, session.begin_nested():
                session.add(User(name="Ben"))
                await session.flush()
                end_session(async_wired_url, await session.scalar(text(SESSION_NUMBER[adb.dialect_name])))
                raise KeyError("the user's own")

        assert adb.pool.stats().in_use == 0
    assert kept(async_wired_url) == []


# ---------------------------------------------------------------- a statement failed


def test_commit_after_a_failed_statement(db: Database, database_url: str) -> None:
    with db.session() as session:
        session.add(User(name="Ben"))
        session.flush()
        with pytest.raises(UnknownTable):
            session.execute(text("SELECT * FROM nowhere"))

        if db.dialect_name == "postgresql":  # the server has aborted the transaction: COMMIT would roll back
            with pytest.raises(TransactionFailed):
                session.commit()
            session.rollback()
            expected = ["Ann"]
        else:
            session.commit()
            expected = ["Ann", "Ben"]

    assert kept(database_url) == expected
    assert db.pool.stats().in_use == 0


async def test_commit_after_a_failed_statement_async(adb: AsyncDatabase, async_database_url: str) -> None:
    async with adb.session() as session:
        session.add(User(name="Ben"))
        await session.flush()
        with pytest.raises(UnknownTable):
            await session.execute(text("SELECT * FROM nowhere"))

        if adb.dialect_name == "postgresql":
            with pytest.raises(TransactionFailed):
                await session.commit()
            await session.rollback()
            expected = ["Ann"]
        else:
            await session.commit()
            expected = ["Ann", "Ben"]

    assert kept(async_database_url) == expected
    assert adb.pool.stats().in_use == 0


def test_a_savepoint_around_what_may_fail_keeps_the_rest(db: Database, database_url: str) -> None:
    with db.begin() as session:
        session.add(User(name="Ben"))
        with pytest.raises(UnknownTable), session.begin_nested():  # noqa: PT012 - the whole block must raise
            session.add(User(name="Eve"))
            session.flush()
            session.execute(text("SELECT * FROM nowhere"))

        session.add(User(name="Cid"))

    assert kept(database_url) == ["Ann", "Ben", "Cid"]


def test_a_failed_flush_needs_a_rollback_on_every_server(db: Database, database_url: str) -> None:
    with db.session() as session:
        session.add(User(name="Ann"))
        with pytest.raises(DatabaseError):
            session.flush()

        with pytest.raises(TransactionFailed):
            session.commit()
        session.rollback()
        session.add(User(name="Ben"))
        session.commit()

    assert kept(database_url) == ["Ann", "Ben"]


# ---------------------------------------------------------------- two at one session


class Halt:
    """Holds the thread of a statement until the test has done what it wants to do meanwhile."""

    def __init__(self, db: Database | AsyncDatabase, words: str) -> None:
        self.words = words
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.remove = db.observers.add(self)

    def __call__(self, event: Any) -> None:
        if isinstance(event, StatementStarted) and event.sql.startswith(self.words):
            self.reached.set()
            assert self.go_on.wait(30)


CHANGES = {
    "a column": lambda user: setattr(user, "name", "Later"),
    "a JSON column": lambda user: setattr(user, "settings", {"theme": "dark"}),
    "a relation": lambda user: setattr(user, "posts", []),
    "a collection in place": lambda user: user.posts.append(Post(title="Two")),
    "a relation from the other side": lambda user: setattr(user.posts[0], "author", User(name="Eve")),
    "a column of another object": lambda user: setattr(user.posts[0], "title", "Later"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_another_thread_during_a_flush_is_refused(name: str, db: Database) -> None:
    session = db.session()
    user = session.get_one(User, 1)
    assert [post.title for post in user.posts] == ["One"]
    user.name = "Anna"
    halt = Halt(db, "UPDATE")
    thread = threading.Thread(target=session.flush)
    thread.start()
    assert halt.reached.wait(30)

    try:
        with pytest.raises(SessionInUse):
            CHANGES[name](user)
    finally:
        halt.go_on.set()
        thread.join(30)
        halt.remove()
    CHANGES[name](user)
    session.commit()
    seen = state_of(user)
    session.close()

    with db.session() as other:
        assert state_of(other.get_one(User, 1)) == seen


def state_of(user: User) -> tuple[Any, ...]:
    return user.name, user.settings, sorted(post.title for post in user.posts)


async def test_a_change_by_another_task_during_a_flush_is_refused(async_wired_url: str) -> None:
    async with AsyncDatabase(async_wired_url) as adb:
        await adb.create_all(Base)
        async with adb.begin() as session:
            session.add(User(name="Ann"))
        async with adb.session() as session, adb.session() as blocker:
            user = await session.get_one(User, 1)
            await blocker.get(User, 1, with_for_update=True)
            user.name = "Anna"
            flush, started = await flush_blocked(adb, session)
            assert started

            with pytest.raises(SessionInUse):
                user.name = "Later"

            await blocker.rollback()
            await flush
            user.name += "!"
            await session.commit()
    assert kept(async_wired_url) == ["Anna!"]


async def flush_blocked(adb: AsyncDatabase, session: AsyncSession) -> tuple[asyncio.Task[None], bool]:
    """Begin a flush that waits for another's lock; answer when its UPDATE is on its way."""
    started = asyncio.Event()

    def listen(event: Any) -> None:
        if isinstance(event, StatementStarted) and event.sql.startswith("UPDATE"):
            started.set()

    remove = adb.observers.add(listen)
    flush = asyncio.create_task(session.flush())
    async with asyncio.timeout(30):
        await started.wait()
    remove()
    return flush, not flush.done()


async def test_close_by_another_task_leaves_the_operation_intact(async_wired_url: str) -> None:
    async with AsyncDatabase(async_wired_url) as adb:
        await adb.create_all(Base)
        async with adb.begin() as session:
            session.add(User(name="Ann"))
        async with adb.session() as session, adb.session() as blocker:
            user = await session.get_one(User, 1)
            await blocker.get(User, 1, with_for_update=True)
            user.name = "Anna"
            flush, started = await flush_blocked(adb, session)
            assert started

            with pytest.raises(SessionInUse):
                await session.close()

            await blocker.rollback()
            await flush
            await session.commit()
        assert adb.pool.stats().in_use == 0
    assert kept(async_wired_url) == ["Anna"]


def test_close_by_another_thread_leaves_the_operation_intact(db: Database, database_url: str) -> None:
    session = db.session()
    session.get_one(User, 1).name = "Anna"
    user = session.get_one(User, 1)
    user.name = "Anna"
    halt = Halt(db, "UPDATE")
    thread = threading.Thread(target=session.flush)
    thread.start()
    assert halt.reached.wait(30)

    try:
        with pytest.raises(SessionInUse):
            session.close()
    finally:
        halt.go_on.set()
        thread.join(30)
        halt.remove()

    session.commit()
    session.close()
    assert kept(database_url) == ["Anna"]
    assert db.pool.stats().in_use == 0


# ---------------------------------------------------------------- detached objects


def detached(db: Database, how: str) -> User:
    """Ann, with her posts loaded, in no session."""
    session = db.session()
    user = session.get_one(User, 1)
    assert [post.title for post in user.posts] == ["One"]
    assert user.settings == {}
    if how == "expunged":
        session.expunge(user)
    session.close()
    return user


@pytest.mark.parametrize("how", ["closed", "expunged"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda user: setattr(user, "name", "Anna"), id="column"),
        pytest.param(lambda user: setattr(user, "settings", {"theme": "dark"}), id="json"),
        pytest.param(lambda user: user.settings.update(theme="dark"), id="json in place"),
        pytest.param(lambda user: user.posts.append(Post(title="Two")), id="append"),
        pytest.param(lambda user: user.posts.clear(), id="clear"),
        pytest.param(lambda user: setattr(user, "posts", [Post(title="Three")]), id="collection"),
        pytest.param(lambda user: setattr(user.posts[0], "title", "Uno"), id="column of a child"),
    ],
)
def test_changes_of_a_detached_object_are_saved_by_the_next_session(
    change: Any, how: str, db: Database
) -> None:
    user = detached(db, how)

    change(user)
    wanted = state_of(user)
    with db.begin() as session:
        session.add(user)

    with db.session() as session:
        assert state_of(session.get_one(User, 1)) == wanted


def test_a_rollback_gives_back_what_a_detached_object_was(db: Database) -> None:
    user = detached(db, "closed")

    user.name = "Anna"
    with db.session() as session:
        session.add(user)
        session.flush()
        session.rollback()

        assert user.name == "Ann"
        session.commit()
        written = session.scalar(select(User.name))

    assert written == "Ann"


# ---------------------------------------------------------------- lost sessions


def lose(db: Database) -> None:
    session = db.session()
    session.add(User(name="Ben"))
    session.flush()


def test_a_lost_session_gives_up_its_connection(db: Database, database_url: str) -> None:
    with pytest.warns(ResourceWarning, match="A session was lost with a transaction open"):  # noqa: PT031 - told by the collector
        lose(db)
        gc.collect()

    assert db.pool.stats().in_use == 0
    assert kept(database_url) == ["Ann"]
    with db.begin() as session:
        session.add(User(name="Cid"))
    assert kept(database_url) == ["Ann", "Cid"]


async def lose_async(adb: AsyncDatabase) -> None:
    session = adb.session()
    session.add(User(name="Ben"))
    await session.flush()


async def test_a_lost_async_session_gives_up_its_connection(
    adb: AsyncDatabase, async_database_url: str
) -> None:
    with pytest.warns(ResourceWarning, match="A session was lost with a transaction open"):  # noqa: PT031 - told by the collector
        await lose_async(adb)
        gc.collect()

    assert adb.pool.stats().in_use == 0
    async with adb.begin() as session:
        session.add(User(name="Cid"))
    assert kept(async_database_url) == ["Ann", "Cid"]


def test_a_lost_session_that_only_read_holds_nothing(db: Database, recwarn: pytest.WarningsRecorder) -> None:
    def read(session: Session) -> int | None:
        return session.scalar(select(func.count(User.id)))

    assert read(db.session()) == 1
    gc.collect()

    assert db.pool.stats().in_use == 0
    assert not [warning for warning in recwarn if "A session was lost" in str(warning.message)]
