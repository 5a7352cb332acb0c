"""What a unit of work is to a type checker: its parameters without the session, and what it answers."""

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from holdfast import AsyncDatabase, AsyncSession, Database, DeclarativeBase, Mapped, Session, mapped_column
from holdfast.errors import HoldfastError, Outcome


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


def use(db: Database, error: HoldfastError) -> None:
    @db.transaction(isolation="SERIALIZABLE", retries=3, deadline=2.5)
    def transfer(session: Session, source: int, target: int, *, amount: int = 1) -> Account:
        session.on_commit(lambda: None)
        session.on_rollback(print)
        return session.get_one(Account, source)

    @db.transaction
    def plain(session: Session) -> str:
        assert_type(session.advisory_lock("x", wait=False), bool)
        return transfer.within(session, 1, 2).__class__.__name__

    assert_type(transfer(1, 2, amount=3), Account)
    assert_type(transfer(1, target=2), Account)
    assert_type(plain(), str)
    assert_type(transfer.__name__, str)
    assert_type(db.run(lambda session: session.get_one(Account, 1).balance, read_only=True), int)
    assert_type(db.run(work, isolation="SERIALIZABLE"), list[int])
    assert_type(db.outcome(error), Outcome)
    assert_type(db.outcome(error, within_seconds=1), Outcome)
    with db.begin(isolation="SERIALIZABLE", read_only=True, deferrable=True, resolve=True) as session:
        assert_type(session, Session)
        assert_type(transfer.within(session, 1, 2), Account)
    no_parameters: Callable[[], str] = plain
    no_parameters()


def work(session: Session) -> list[int]:
    return [session.get_one(Account, 1).balance]


async def use_async(db: AsyncDatabase, error: HoldfastError) -> None:
    @db.transaction(retries=3)
    async def transfer(session: AsyncSession, source: int, *, amount: int = 1) -> Account:
        session.on_commit(tell)
        session.on_commit(lambda: None)
        return await session.get_one(Account, source)

    @db.transaction
    async def plain(session: AsyncSession) -> str:
        assert_type(await session.advisory_lock(7), bool)
        return (await transfer.within(session, 1)).__class__.__name__

    assert_type(await transfer(1, amount=3), Account)
    assert_type(await plain(), str)
    assert_type(await db.run(work_async, deadline=1.0), list[int])
    assert_type(await db.outcome(error), Outcome)
    coroutine: Coroutine[Any, Any, str] = plain()
    await coroutine


async def tell() -> None: ...


async def work_async(session: AsyncSession) -> list[int]:
    return [(await session.get_one(Account, 1)).balance]
