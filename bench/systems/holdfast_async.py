"""Holdfast, async."""

from __future__ import annotations

from typing import Any

from bench.schema import AUTHORS, Place
from bench.systems.holdfast_blocking import write_moment
from bench.systems.model_holdfast import Member, User, change, make_signups
from bench.systems.statements import Objects
from holdfast import AsyncDatabase, select, selectinload


class HoldfastAsync(Objects):
    name = "holdfast"
    door = "async"
    stamp = staticmethod(write_moment)

    async def open(self, place: Place) -> None:
        self._db = AsyncDatabase(place.url)

    async def close(self) -> None:
        await self._db.close()

    async def get(self, key: int) -> Any:
        async with self._db.session() as session:
            return await session.get(User, key)

    async def by_column(self, email: str) -> Any:
        async with self._db.session() as session:
            return (await session.scalars(select(User).where(User.email == email))).one()

    async def rows(self) -> Any:
        async with self._db.session() as session:
            return (await session.scalars(select(User).order_by(User.id))).all()

    async def graph_planned(self) -> Any:
        chosen = select(User).where(User.id <= AUTHORS).order_by(User.id).options(selectinload(User.posts))
        async with self._db.session() as session:
            return [(user, user.posts) for user in await session.scalars(chosen)]

    async def graph_touched(self) -> Any:
        async with self._db.session() as session:
            users = (await session.scalars(select(User).where(User.id <= AUTHORS).order_by(User.id))).all()
            return [(user, await user.awaitable_attrs.posts) for user in users]

    async def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        async with self._db.session() as session:
            signups = make_signups(people)
            session.add_all(signups)
            await session.commit()
            return [signup.id for signup in signups]

    async def load_members(self) -> Any:
        session = self._db.session()
        members = (await session.scalars(select(Member).order_by(Member.id))).all()
        await session.commit()
        return session, members

    async def update(self, turn: int, state: Any) -> None:
        session, members = state
        change(members, turn)
        await session.commit()
        await session.close()
