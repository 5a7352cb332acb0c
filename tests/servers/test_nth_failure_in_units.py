"""The n-th call of the driver fails inside a unit of work, for n = 1, 2, 3 … until it passes.

A unit whose connection is lost, at COMMIT too, is done, and once.  Whatever else ends it: its hooks tell the truth.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import Database, DeclarativeBase, Mapped, mapped_column, select
from holdfast.errors import HoldfastError
from tests.servers.failing import (
    ANSWER_LOST,
    CANCELLED,
    CANCELLED_TWICE,
    INTERRUPTED,
    INTERRUPTED_AFTER,
    LOST,
    REFUSED,
)
from tests.servers.test_nth_failure import Door, opened, url_of

MOST_CALLS = 60
POSTGRESQL = ["psycopg", "psycopg async", "asyncpg async"]
BLOCKING, ASYNC = ["psycopg", "sqlite", "pymysql"], [*POSTGRESQL[1:], "sqlite async", "asyncmy async"]
ENDINGS = [
    *((door, REFUSED) for door in [*BLOCKING, *ASYNC]),
    *((door, kind) for door in ASYNC for kind in (CANCELLED, CANCELLED_TWICE)),
    *((door, kind) for door in BLOCKING for kind in (INTERRUPTED, INTERRUPTED_AFTER)),
]


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class Unit:
    """A unit of work with all it may have, and what was heard of it."""

    def __init__(self, door: Door, number: int) -> None:
        self.door, self.number = door, number
        self.said: list[str] = []

    async def run(self) -> None:
        work: Any = self.work if isinstance(self.door.db, Database) else self.work_async
        await self.door.wait(self.door.db.run(work, isolation="SERIALIZABLE"))

    def begin(self, session: Any) -> None:
        session.on_commit(lambda: self.said.append("committed"))
        session.on_rollback(lambda: self.said.append("undone"))
        session.add(Note(number=self.number))

    def work(self, session: Any) -> None:
        self.begin(session)
        session.scalars(select(Note)).all()
        with session.begin_nested():
            session.add(Note(number=self.number))

    async def work_async(self, session: Any) -> None:
        self.begin(session)
        (await session.scalars(select(Note))).all()
        async with session.begin_nested():
            session.add(Note(number=self.number))


def count(url: str, number: int) -> int:
    with Database(url) as db, db.session() as session:
        return len(session.scalars(select(Note).where(Note.number == number)).all())


@pytest.mark.parametrize("kind", [LOST, ANSWER_LOST])
@pytest.mark.parametrize("door", POSTGRESQL)
async def test_a_unit_whose_connection_is_lost_is_done_once(
    door: str, kind: str, request: pytest.FixtureRequest
) -> None:
    url = url_of(door, request)
    with Database(url) as db:
        db.create_all(Base)
    for at in range(1, MOST_CALLS):
        async with opened(url, door) as one:
            unit = Unit(one, at)
            died = await one.fail(unit.run(), kind, at)

            where = f"{kind} at {at}: {one.faults.fired}"
            assert died is None, where
            assert unit.said == ["committed"], where
            assert count(url, at) == 2, where
            if one.faults.fired is None:
                break
    assert 8 < at < MOST_CALLS - 1


@pytest.mark.parametrize(("door", "kind"), ENDINGS)
async def test_the_hooks_of_a_unit_tell_the_truth(
    door: str, kind: str, request: pytest.FixtureRequest
) -> None:
    url = url_of(door, request)
    with Database(url) as db:
        db.create_all(Base)
    for at in range(1, MOST_CALLS):
        async with opened(url, door) as one:
            unit = Unit(one, at)
            died = await one.fail(unit.run(), kind, at)

            where = f"{kind} at {at}: {one.faults.fired}, {died!r}"
            done = count(url, at)
            assert done in (0, 2), where
            in_doubt = isinstance(died, KeyboardInterrupt) and one.faults.fired == "COMMIT"
            assert unit.said == ([] if in_doubt else ["committed"] if done else ["undone"]), where
            assert died is not None or done, where
            assert not isinstance(died, HoldfastError) or not done, where
            if one.faults.fired is None:
                assert died is None, where
                break
            await asyncio.wait_for(Unit(one, -at).run(), 30)  # and the database works on
    assert 6 < at < MOST_CALLS - 1
