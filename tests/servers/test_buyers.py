"""Fifty buyers of ten items: three ways that sell exactly ten, and the one that does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, update

from holdfast import (
    AsyncDatabase,
    AsyncSession,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    Versioned,
    mapped_column,
    select,
)
from tests.conftest import without_driver

BUYERS, STOCK = 50, 10


class Base(DeclarativeBase):
    pass


class Item(Versioned, Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    quantity: Mapped[int]


class Sale(Base):
    __tablename__ = "sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    left: Mapped[int]
    """What was left in stock after it."""


ONE_LESS = update(Item).where(Item.id == 1, Item.quantity > 0).values(quantity=Item.quantity - 1)


# ---------------------------------------------------------------- the three ways, blocking


def by_condition(session: Session) -> bool:
    """One statement looks and takes; its row count says whether it did."""
    if session.execute(ONE_LESS).rowcount == 0:
        return False
    session.add(Sale(left=session.scalar(select(Item.quantity))))
    return True


def by_lock(session: Session) -> bool:
    """Who reads keeps others from reading for the same purpose, until the end of the transaction."""
    item = session.get_one(Item, 1, with_for_update=True)
    return _sell(session, item)


def by_version(session: Session) -> bool:
    """Everybody reads; who writes what somebody else has changed meanwhile is told, and begins again."""
    return _sell(session, session.get_one(Item, 1))


def _sell(session: Any, item: Item) -> bool:
    if item.quantity == 0:
        return False
    item.quantity -= 1
    session.add(Sale(left=item.quantity))
    return True


@pytest.mark.parametrize("buy", [by_condition, by_lock, by_version])
def test_fifty_threads_buy_exactly_what_there_is(database_url: str, buy: Callable[[Session], bool]) -> None:
    url = prepare(database_url)
    start = threading.Barrier(BUYERS)

    def come(_: int) -> bool:
        start.wait()
        return db.run(buy, retries=BUYERS * STOCK)

    with Database(url, pool_size=10, max_overflow=10) as db, ThreadPoolExecutor(BUYERS) as threads:
        bought = list(threads.map(come, range(BUYERS)))

    assert sum(bought) == STOCK
    assert_sold_once(url)


# ---------------------------------------------------------------- the three ways, async


async def by_condition_async(session: AsyncSession) -> bool:
    if (await session.execute(ONE_LESS)).rowcount == 0:
        return False
    session.add(Sale(left=await session.scalar(select(Item.quantity))))
    return True


async def by_lock_async(session: AsyncSession) -> bool:
    return _sell(session, await session.get_one(Item, 1, with_for_update=True))


async def by_version_async(session: AsyncSession) -> bool:
    return _sell(session, await session.get_one(Item, 1))


@pytest.mark.parametrize("buy", [by_condition_async, by_lock_async, by_version_async])
async def test_fifty_tasks_buy_exactly_what_there_is(async_database_url: str, buy: Any) -> None:
    url = prepare(async_database_url)
    async with AsyncDatabase(url, pool_size=10, max_overflow=10) as db:
        bought = await asyncio.gather(*(db.run(buy, retries=BUYERS * STOCK) for _ in range(BUYERS)))

    assert sum(bought) == STOCK
    assert_sold_once(url)


def prepare(url: str) -> str:
    url = f"{url}?timeout=30" if url.startswith("sqlite") else url
    with Database(plain(url)) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add(Item(id=1, quantity=STOCK))
    return url


def plain(url: str) -> str:
    return without_driver(url)


def assert_sold_once(url: str) -> None:
    """Nothing left, and each sale saw another stock: none was lost, none was sold twice."""
    with Database(plain(url)) as db, db.session() as session:
        assert session.scalar(select(Item.quantity)) == 0
        assert session.scalar(select(Item.version)) == STOCK + 1
        assert sorted(session.scalars(select(Sale.left))) == list(range(STOCK))


# ---------------------------------------------------------------- the naive way


@pytest.mark.parametrize("begins", [False, True])
def test_who_reads_and_then_writes_sells_what_is_sold(
    database_url: str, begins: bool, request: pytest.FixtureRequest
) -> None:
    """At READ COMMITTED too; on SQLite ``db.begin()`` would let one in at a time."""
    if begins and database_url.startswith("sqlite"):
        pytest.skip("a transaction that is begun is the only writer there")
    url = prepare(database_url)
    all_have_read = threading.Barrier(5)

    def buy(_: int) -> None:
        with db.session() as session:
            if begins:
                session.begin(isolation="READ COMMITTED")
            seen = session.scalar(select(Item.quantity).where(Item.id == 1))
            assert seen is not None
            all_have_read.wait()
            session.execute(update(Item).where(Item.id == 1).values(quantity=seen - 1))
            session.add(Sale(left=seen - 1))
            session.commit()

    with Database(url) as db, ThreadPoolExecutor(5) as threads:
        list(threads.map(buy, range(5)))
        with db.session() as session:
            assert session.scalar(select(Item.quantity)) == STOCK - 1  # one item less
            assert session.scalar(select(func.count(Sale.id))) == 5  # and five buyers
