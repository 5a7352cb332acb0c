"""Holdfast, blocking."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bench.schema import AUTHORS, Place
from bench.systems.model_holdfast import Member, User, change, make_signups
from bench.systems.statements import Objects
from holdfast import Database, select, selectinload


def write_moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


class HoldfastBlocking(Objects):
    name = "holdfast"
    door = "blocking"
    stamp = staticmethod(write_moment)

    def open(self, place: Place) -> None:
        self._db = Database(place.url)

    def close(self) -> None:
        self._db.close()

    def get(self, key: int) -> Any:
        with self._db.session() as session:
            return session.get(User, key)

    def by_column(self, email: str) -> Any:
        with self._db.session() as session:
            return session.scalars(select(User).where(User.email == email)).one()

    def rows(self) -> Any:
        with self._db.session() as session:
            return session.scalars(select(User).order_by(User.id)).all()

    def graph_planned(self) -> Any:
        chosen = select(User).where(User.id <= AUTHORS).order_by(User.id).options(selectinload(User.posts))
        with self._db.session() as session:
            return [(user, user.posts) for user in session.scalars(chosen)]

    def graph_touched(self) -> Any:
        with self._db.session() as session:
            users = session.scalars(select(User).where(User.id <= AUTHORS).order_by(User.id)).all()
            return [(user, user.posts) for user in users]

    def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        with self._db.session() as session:
            signups = make_signups(people)
            session.add_all(signups)
            session.commit()
            return [signup.id for signup in signups]

    def load_members(self) -> Any:
        session = self._db.session()
        members = session.scalars(select(Member).order_by(Member.id)).all()
        session.commit()
        return session, members

    def update(self, turn: int, state: Any) -> None:
        session, members = state
        change(members, turn)
        session.commit()
        session.close()
