"""Many clients on three server connections behind PgBouncer: everything right, and nothing left behind.

Rule: each worker checks what it alone knows; the whole is checked at the end, past the pooler.
"""

from __future__ import annotations

import asyncio
import enum
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from sqlalchemy import ARRAY, ForeignKey, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from holdfast import (
    AsyncDatabase,
    Database,
    DeclarativeBase,
    Mapped,
    mapped_column,
    relationship,
    select,
    selectinload,
)
from tests.servers.conftest import Bounced, console
from tools.servers import BOUNCED

THREADS, TASKS = 40, 100
ROUNDS = 20 if os.environ.get("HOLDFAST_NIGHTLY") else 3
ACCOUNTS, BALANCE = 8, 1000


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    well = "well"
    ill = "ill"


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    mood: Mapped[Mood]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


SETTINGS = text(
    "SELECT coalesce(current_setting('holdfast.worker', true), ''), current_setting('lock_timeout'),"
    " current_setting('transaction_isolation')"
)
NOTHING_SET = ("", "0", "read committed")


def new_author(worker: str) -> Author:
    return Author(
        name=worker,
        mood=Mood.ill if hash(worker) % 2 else Mood.well,
        tags=[worker, "ü'\"{},"],
        data={"worker": worker, "list": [1, None, {"a": "b"}]},
        books=[Book(title=f"{worker}: {number}") for number in range(3)],
    )


def is_right(author: Author, worker: str) -> bool:
    wanted = new_author(worker)
    facts = [(one.name, one.mood, one.tags, one.data) for one in (author, wanted)]
    titles = [[book.title for book in one.books] for one in (author, wanted)]
    return facts[0] == facts[1] and titles[0] == titles[1]


def accounts_of(number: int) -> tuple[int, int]:
    return 1 + number % ACCOUNTS, 1 + (number + 3) % ACCOUNTS


def locked(keys: tuple[int, int]) -> Any:
    return select(Account).where(Account.id.in_(keys)).order_by(Account.id).with_for_update()


# ------------------------------------------------------------------------------- the work, by both faces


def work(db: Database, number: int) -> None:
    for turn in range(ROUNDS):
        worker = f"thread {number}, turn {turn}"
        with db.begin() as session:
            session.add(new_author(worker))
        with db.session() as session:
            assert is_right(session.scalars(select(Author).where(Author.name == worker)).one(), worker)
            assert tuple(session.execute(SETTINGS).one()) == NOTHING_SET
        transfer(db, number, worker)
        with db.begin(isolation="REPEATABLE READ", read_only=True) as session:
            assert session.scalar(select(func.sum(Account.balance))) == ACCOUNTS * BALANCE
        with db.session() as session:
            found = session.scalars(
                select(Author).options(selectinload(Author.books)).order_by(Author.id).limit(5)
            )
            assert all(is_right(author, author.name) for author in found)


def transfer(db: Database, number: int, worker: str) -> None:
    with db.begin() as session:
        session.execute(text(f"SET LOCAL lock_timeout = '{20_001 + number}ms'"))
        session.execute(text(f"SET LOCAL holdfast.worker = '{worker}'"))
        source, target = session.scalars(locked(accounts_of(number))).all()
        source.balance -= number
        session.flush()
        target.balance += number
        name, timeout, _ = session.execute(SETTINGS).one()
        assert (name, timeout) == (worker, f"{20_001 + number}ms")


async def work_async(db: AsyncDatabase, number: int) -> None:
    for turn in range(ROUNDS):
        worker = f"task {number}, turn {turn}"
        async with db.begin() as session:
            session.add(new_author(worker))
        async with db.session() as session:
            author = (await session.scalars(select(Author).where(Author.name == worker))).one()
            await session.load([author], Author.books)
            assert is_right(author, worker)
            assert tuple((await session.execute(SETTINGS)).one()) == NOTHING_SET
        await transfer_async(db, number, worker)
        async with db.begin(isolation="REPEATABLE READ", read_only=True) as session:
            assert await session.scalar(select(func.sum(Account.balance))) == ACCOUNTS * BALANCE
        async with db.session() as session:
            found = await session.scalars(
                select(Author).options(selectinload(Author.books)).order_by(Author.id).limit(5)
            )
            assert all(is_right(author, author.name) for author in found)


async def transfer_async(db: AsyncDatabase, number: int, worker: str) -> None:
    async with db.begin() as session:
        await session.execute(text(f"SET LOCAL lock_timeout = '{20_001 + number}ms'"))
        await session.execute(text(f"SET LOCAL holdfast.worker = '{worker}'"))
        source, target = (await session.scalars(locked(accounts_of(number)))).all()
        source.balance -= number
        await session.flush()
        target.balance += number
        name, timeout, _ = (await session.execute(SETTINGS)).one()
        assert (name, timeout) == (worker, f"{20_001 + number}ms")


# ------------------------------------------------------------------------------- the whole


def check_the_whole(bounced: Bounced, workers: int) -> None:
    with psycopg.connect(bounced.direct, autocommit=True) as direct:
        assert ask(direct, "SELECT count(*), sum(balance) FROM accounts") == (ACCOUNTS, ACCOUNTS * BALANCE)
        assert ask(direct, "SELECT count(*) FROM authors") == (workers * ROUNDS,)
        assert ask(direct, "SELECT count(*) FROM books") == (3 * workers * ROUNDS,)
        (servers,) = ask(
            direct,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    assert servers <= BOUNCED < count_clients(bounced)


def count_clients(bounced: Bounced) -> int:
    name = bounced.url.rpartition("/")[2]
    return sum(name in row for row in console(bounced.url, "SHOW CLIENTS"))


def check_the_server_connections(bounced: Bounced) -> None:
    """Look into all of them: what a session could have left behind is not there."""
    with ExitStack() as stack:
        held = [
            stack.enter_context(psycopg.connect(bounced.url, prepare_threshold=None)) for _ in range(BOUNCED)
        ]
        processes = {ask(one, "SELECT pg_backend_pid()") for one in held}
        assert len(processes) == BOUNCED
        for one in held:
            assert ask(one, str(SETTINGS)) == NOTHING_SET
            assert ask(one, "SELECT count(*) FROM pg_prepared_statements") == (0,)
            assert ask(one, "SELECT current_setting('jit')") == ("on",)


def ask(connection: psycopg.Connection[Any], sql: str) -> tuple[Any, ...]:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return tuple(row)


def test_many_threads_share_few_server_connections(bounced: Bounced) -> None:
    bounced.start_over()
    with Database(bounced.url, pooler="transaction", pool_size=THREADS, max_overflow=0) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(balance=BALANCE) for _ in range(ACCOUNTS)])

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda number: work(db, number), range(THREADS)))

        check_the_whole(bounced, THREADS)
    check_the_server_connections(bounced)


@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_many_tasks_share_few_server_connections(library: str, bounced: Bounced) -> None:
    bounced.start_over()
    async with AsyncDatabase(
        bounced.through(library), pooler="transaction", pool_size=TASKS // 2, max_overflow=0, pool_timeout=120
    ) as db:
        await db.create_all(Base)
        async with db.begin() as session:
            session.add_all([Account(balance=BALANCE) for _ in range(ACCOUNTS)])

        await asyncio.gather(*[work_async(db, number) for number in range(TASKS)])

        await asyncio.to_thread(check_the_whole, bounced, TASKS)
    await asyncio.to_thread(check_the_server_connections, bounced)
