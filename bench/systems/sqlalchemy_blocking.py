"""SQLAlchemy's ORM as its manual advises, without expiry on commit, which the others do not have."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import selectinload, sessionmaker

from bench.schema import AUTHORS, SQLITE_PRAGMAS, Place
from bench.systems.model_sqlalchemy import Member, User, change, make_signups
from bench.systems.statements import Objects

DRIVERS = {
    "postgresql": ("postgresql+psycopg", "postgresql+asyncpg"),
    "mariadb": ("mariadb+pymysql", "mariadb+asyncmy"),
    "sqlite": ("sqlite", "sqlite+aiosqlite"),
}


def write_moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def set_pragmas(engine: Any) -> None:
    """Give SQLite connections the settings of the other systems."""

    @event.listens_for(engine, "connect")
    def on_connect(raw: Any, record: Any) -> None:
        for pragma in SQLITE_PRAGMAS:
            raw.execute(pragma)


class SqlalchemyBlocking(Objects):
    name = "sqlalchemy"
    door = "blocking"
    stamp = staticmethod(write_moment)
    options: ClassVar[dict[str, Any]] = {}

    def open(self, place: Place) -> None:
        self._engine = create_engine(place.with_driver(DRIVERS[place.server][0]), **self.options)
        if place.server == "sqlite":
            set_pragmas(self._engine)
        self._session = sessionmaker(self._engine, expire_on_commit=False)

    def close(self) -> None:
        self._engine.dispose()

    def get(self, key: int) -> Any:
        with self._session() as session:
            return session.get(User, key)

    def by_column(self, email: str) -> Any:
        with self._session() as session:
            return session.scalars(select(User).where(User.email == email)).one()

    def rows(self) -> Any:
        with self._session() as session:
            return session.scalars(select(User).order_by(User.id)).all()

    def graph_planned(self) -> Any:
        chosen = select(User).where(User.id <= AUTHORS).order_by(User.id).options(selectinload(User.posts))
        with self._session() as session:
            return [(user, user.posts) for user in session.scalars(chosen)]

    def graph_touched(self) -> Any:
        with self._session() as session:
            users = session.scalars(select(User).where(User.id <= AUTHORS).order_by(User.id)).all()
            return [(user, user.posts) for user in users]

    def insert(self, people: list[tuple[Any, ...]]) -> list[int]:
        with self._session() as session:
            signups = make_signups(people)
            session.add_all(signups)
            session.commit()
            return [signup.id for signup in signups]

    def load_members(self) -> Any:
        session = self._session()
        members = session.scalars(select(Member).order_by(Member.id)).all()
        session.commit()
        return session, members

    def update(self, turn: int, state: Any) -> None:
        session, members = state
        change(members, turn)
        session.commit()
        session.close()


class SqlalchemyAutocommit(SqlalchemyBlocking):
    """The same for reads without BEGIN and ROLLBACK around them."""

    name = "sqlalchemy autocommit"
    options: ClassVar[dict[str, Any]] = {"isolation_level": "AUTOCOMMIT"}
    insert = update = None  # type: ignore[assignment]
