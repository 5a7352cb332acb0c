"""A COMMIT that the server refuses, or answers with ROLLBACK, or that has no transaction any more: not done, and so told."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from asyncpg import DivisionByZeroError
from sqlalchemy import ForeignKey, String, text
from sqlalchemy.schema import CreateTable

from holdfast import AsyncDatabase, Database, DeclarativeBase, Mapped, mapped_column, select
from holdfast.errors import ForeignKeyViolation, Outcome, TransactionFailed

DOORS = ["sqlite", "sqlite async", "psycopg", "psycopg async", "asyncpg async"]
ON_MARIADB = ["pymysql", "asyncmy async"]


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id", deferrable=True, initially="DEFERRED"))


async def settle(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


@pytest.fixture
async def db(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    driver, _, face = str(request.param).partition(" ")
    if driver == "sqlite":
        url = str(request.getfixturevalue("sqlite_url"))
    else:
        server = "mariadb" if request.param in ON_MARIADB else "postgresql"
        url = str(request.getfixturevalue(f"{server}_url")).replace("://", f"+{driver}://", 1)
    opened: Any = AsyncDatabase(url) if face else Database(url)
    if request.param in ON_MARIADB:  # which has no constraints that wait for the commit
        await settle((session := opened.session()).execute(CreateTable(User.__table__)))
        await settle(session.close())
    else:
        await settle(opened.create_all(Base))
    yield opened
    in_use = opened.pool.stats().in_use
    await settle(opened.close())
    assert in_use == 0


async def refused(db: Any, session: Any, kind: type[Exception]) -> None:
    """The error is told, says that nothing was done, and the session can be used after a rollback."""
    with pytest.raises(kind) as caught:
        await settle(session.commit())
    assert caught.value.outcome is Outcome.NOT_DONE  # type: ignore[attr-defined]

    await settle(session.rollback())
    assert (await settle(session.scalars(select(User)))).all() == []
    session.add(User(name="Ben"))
    await settle(session.commit())
    await settle(session.close())


@pytest.mark.parametrize("db", DOORS, indirect=True)
async def test_a_deferred_constraint_refuses_the_commit(db: Any) -> None:
    session = db.session()
    session.add(User(name="Ann"))
    session.add(Post(author_id=99))

    await refused(db, session, ForeignKeyViolation)


@pytest.mark.parametrize("db", DOORS + ON_MARIADB, indirect=True)
async def test_a_transaction_that_was_ended_behind_the_session_has_no_commit(db: Any) -> None:
    session = db.session()
    session.add(User(name="Ann"))
    await settle(session.flush())
    await settle(session.execute(text("ROLLBACK")))

    await refused(db, session, TransactionFailed)


@pytest.mark.parametrize("db", DOORS[2:], indirect=True)
async def test_a_commit_that_is_answered_with_rollback_is_not_done(db: Any) -> None:
    session = db.session()
    session.add(User(name="Ann"))
    await settle(session.flush())
    with suppress(psycopg.errors.DivisionByZero, DivisionByZeroError):
        await settle(
            session._runner.connection.raw.execute("SELECT 1 / 0")
        )  # the session does not hear of it

    await refused(db, session, TransactionFailed)
