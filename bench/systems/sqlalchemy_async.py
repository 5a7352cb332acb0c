"""SQLAlchemy's ORM behind asyncio, as its manual advises."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import selectinload

from bench.schema import AUTHORS, Place
from bench.systems.model_sqlalchemy import Member, User, change, make_signups
from bench.systems.sqlalchemy_blocking import DRIVERS, set_pragmas, write_moment
from bench.systems.statements import Objects


class SqlalchemyAsync(Objects):
    name = "sqlalchemy"
    door = "async"
    stamp = staticmethod(write_moment)
    options: ClassVar[dict[str, Any]] = {}

    async def open(self, place: Place) -> None:
        self._engine = create_async_engine(place.with_driver(DRIVERS[place.server][1]), **self.options)
        if place.server == "sqlite":
            set_pragmas(self._engine.sync_engine)
        self._session = async_sessionmaker(self._engine, expire_on_commit=False)

    async def close(self) -> None:
        await self._engine.dispose()

    async def get(self, key: int) -> Any:
        async with self._session() as session:
            return await session.get(User, key)

    async def by_column(self, email: str) -> Any:
        async with self._session() as session:
            return (await session.scalars(select(User).where(User.email == email))).one()

    async def rows(self) -> Any:
        async with self._session() as session:
            return (await session.scalars(select(User).order_by(User.id))).all()

    async def graph_planned(self) -> Any:
        chosen = select(User).where(User.id <= AUTHORS).order_by(User.id).options(selectinload(User.posts))
        async with self._session() as session:
            return [(user, user.posts) for user in await session.scalars(chosen)]

    async def graph_touched(self) -> Any:
        async with self._session() as session:
            users = (await session.scalars(select(User).where(User.id <= AUTHORS).order_by(User.id))).all()
            return [(user, await user.awaitable_attrs.posts) for user in users]

    async def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        async with self._session() as session:
            signups = make_signups(people)
            session.add_all(signups)
            await session.commit()
            return [signup.id for signup in signups]

    async def load_members(self) -> Any:
        session: AsyncSession = self._session()
        members = (await session.scalars(select(Member).order_by(Member.id))).all()
        await session.commit()
        return session, members

    async def update(self, turn: int, state: Any) -> None:
        session, members = state
        change(members, turn)
        await session.commit()
        await session.close()


class SqlalchemyAsyncAutocommit(SqlalchemyAsync):
    """The same for reads without BEGIN and ROLLBACK around them."""

    name = "sqlalchemy autocommit"
    options: ClassVar[dict[str, Any]] = {"isolation_level": "AUTOCOMMIT"}
    insert = update = None  # type: ignore[assignment]
