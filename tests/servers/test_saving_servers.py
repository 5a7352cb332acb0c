"""Flushes on every server and driver, blocking and async."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, make_url

from holdfast import AsyncDatabase, Database, DeclarativeBase, Mapped, mapped_column, select
from holdfast.observe import StatementStarted
from holdfast.session.chunks import CHUNK


class Base(DeclarativeBase):
    pass


class Tick(Base):
    """Nothing of it is given: the server makes the key."""

    __tablename__ = "ticks"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    with Database(database_url) as db:
        db.drop_all(Base)
        db.create_all(Base)
        yield database_url
        db.drop_all(Base)


def inserts(database: Any) -> list[str]:
    """The INSERTs that the database is going to send."""
    said: list[str] = []

    def hear(event: Any) -> None:
        if isinstance(event, StatementStarted) and event.sql.startswith("INSERT"):
            said.append(event.sql)

    database.observers.add(hear)
    return said


@pytest.mark.parametrize("count", [1, 2, 2500])
def test_objects_of_which_the_server_makes_everything_are_saved_together(url: str, count: int) -> None:
    ticks = [Tick() for _ in range(count)]

    with Database(url) as db:
        said = inserts(db)
        with db.session() as session:
            session.add_all(ticks)
            session.commit()
            found = session.scalars(select(Tick).order_by(Tick.id)).all()

    assert len({tick.id for tick in ticks}) == count
    assert found == sorted(ticks, key=lambda tick: tick.id)
    in_one = {"sqlite": 1, "postgresql": count, "mariadb": CHUNK}[make_url(url).get_backend_name()]
    assert len(said) == -(-count // in_one)


@pytest.mark.parametrize("count", [1, 2, 2500])
async def test_an_async_session_saves_them_together_too(url: str, count: int) -> None:
    ticks = [Tick() for _ in range(count)]

    async with AsyncDatabase(url) as db, db.session() as session:
        session.add_all(ticks)
        await session.commit()
        rows = await session.scalar(select(func.count()).select_from(Tick))

    assert len({tick.id for tick in ticks}) == count == rows
