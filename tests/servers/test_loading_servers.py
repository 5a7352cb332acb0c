"""Relations on every server and driver: keys of every type travel, blocking and async, one statement per level."""

from __future__ import annotations

import uuid
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert

from holdfast import AsyncDatabase, Database, joinedload, select, selectinload
from tests.conftest import without_driver
from tests.rooms.loading_forms import OPTIONS, agree, entities, loaded
from tests.rooms.oracle import Pair, counted, our_side, plain

KEYS = (
    """
class Color(enum.Enum):
    red = "r"
    blue = "b"

class Wide(TypeDecorator[int]):
    impl = String(20)
    cache_ok = True
    def process_bind_param(self, value, dialect):
        return None if value is None else f"w{value}"
    def process_result_value(self, value, dialect):
        return None if value is None else int(value[1:])

class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[uuid.UUID] = mapped_column(unique=True)
    big: Mapped[int] = mapped_column(BigInteger, unique=True)
    text: Mapped[str] = mapped_column(String(10), unique=True)
    day: Mapped[date] = mapped_column(unique=True)
    number: Mapped[Decimal] = mapped_column(Numeric(12, 2), unique=True)
    color: Mapped[Color]
    wide: Mapped[int] = mapped_column(Wide, unique=True)
    raw: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    by_id: Mapped[List["Thing"]] = relationship(back_populates="owner", foreign_keys="Thing.owner_id")
"""
    + "".join(
        f"""
    by_{name}: Mapped[List["Thing"]] = relationship(primaryjoin="Owner.{name} == foreign(Thing.{name})", viewonly=True)
    by_{name}_and_id: Mapped[List["Thing"]] = relationship(
        primaryjoin="and_(Owner.{name} == foreign(Thing.{name}), Owner.id == foreign(Thing.owner_id))", viewonly=True)
"""
        for name in ("uid", "big", "text", "day", "number", "color", "wide", "raw")
    )
    + """
class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[Optional[int]] = mapped_column(ForeignKey("owner.id"))
    uid: Mapped[Optional[uuid.UUID]]
    big: Mapped[Optional[int]] = mapped_column(BigInteger)
    text: Mapped[Optional[str]] = mapped_column(String(10))
    day: Mapped[Optional[date]]
    number: Mapped[Optional[Decimal]] = mapped_column(Numeric(12, 2))
    color: Mapped[Optional[Color]]
    wide: Mapped[Optional[int]] = mapped_column(Wide)
    raw: Mapped[Optional[bytes]] = mapped_column(LargeBinary)
    owner: Mapped[Optional[Owner]] = relationship(back_populates="by_id", foreign_keys=[owner_id])
"""
)
NAMES = ("uid", "big", "text", "day", "number", "color", "wide", "raw")
OWNERS = 40


def rows(side: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    owners = [
        {
            "id": n,
            "uid": uuid.UUID(int=n),
            "big": 2**40 + n,
            "text": f"k'{n}\"é",
            "day": date(2020, 1, 1) + timedelta(days=n),
            "number": Decimal(n) + Decimal("0.25"),
            "color": side.Color.red if n % 2 else side.Color.blue,
            "wide": n * 10,
            "raw": bytes([0, n, 255]),
        }
        for n in range(1, OWNERS + 1)
    ]
    things = [{**{k: o[k] for k in NAMES}, "owner_id": o["id"], "id": o["id"]} for o in owners]
    things.append({"id": 1000, **dict.fromkeys((*NAMES, "owner_id"))})
    return owners, things


def test_keys_of_every_type(database_url: str) -> None:
    side = our_side(KEYS)
    owners, things = rows(side)
    with Database(database_url) as db:
        db.create_all(side.Base)
        with db.begin() as session:
            session.execute(insert(side.Owner), owners)
            session.execute(insert(side.Thing), things)
        for name in ("id", *NAMES, *(f"{n}_and_id" for n in NAMES)):
            with db.session() as session:
                found = session.scalars(select(side.Owner).order_by(side.Owner.id)).all()
                with counted(db) as seen:
                    held = [sorted(thing.id for thing in getattr(owner, f"by_{name}")) for owner in found]

            same_color = [[t for t in range(1, OWNERS + 1) if t % 2 == o % 2] for o in range(1, OWNERS + 1)]
            assert held == (same_color if name == "color" else [[n] for n in range(1, OWNERS + 1)]), name
            assert len(seen) == 1, name


async def test_keys_of_every_type_async(async_database_url: str) -> None:
    side = our_side(KEYS)
    owners, things = rows(side)
    async with AsyncDatabase(async_database_url) as db:
        await db.create_all(side.Base)
        async with db.begin() as session:
            await session.execute(insert(side.Owner), owners)
            await session.execute(insert(side.Thing), things)
        for name in ("id", *NAMES, *(f"{n}_and_id" for n in NAMES)):
            async with db.session() as session:
                found = (await session.scalars(select(side.Owner))).all()
                with counted(db) as seen:
                    await session.load(found, getattr(side.Owner, f"by_{name}"), side.Thing.owner)
                    assert all(o.id in {thing.id for thing in getattr(o, f"by_{name}")} for o in found), name
            assert len(seen) == 1, name  # the owners are known


@pytest.fixture
def pair(postgresql_url: str) -> Any:
    made = Pair(postgresql_url)
    yield made
    made.close()


def test_options_load_what_the_oracle_loads(pair: Pair) -> None:
    def trees(name: str) -> Any:
        def work(side: Any, session: Any) -> Any:
            found = session.execute(OPTIONS[name](side)).unique().all()
            return [
                [loaded(o) for o in entities(row)] for row in sorted(found, key=lambda row: repr(plain(row)))
            ]

        return work

    for name in OPTIONS:
        ours, theirs = pair.ask_ours(trees(name)), pair.ask_theirs(trees(name))

        assert len(ours) == len(theirs), name
        for mine, other in zip(ours, theirs, strict=True):
            assert all(map(agree, mine, other)), name


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_options_by_async_drivers(pair: Pair, driver: str) -> None:
    def trees(side: Any, result: Any) -> Any:
        found = sorted(result.unique().all(), key=lambda row: repr(plain(row)))
        return [[loaded(o) for o in entities(row)] for row in found]

    async with AsyncDatabase(pair.url.replace("postgresql://", f"postgresql+{driver}://")) as db:
        for name, form in OPTIONS.items():
            theirs = pair.ask_theirs(
                lambda side, session, form=form: trees(side, session.execute(form(side)))
            )
            async with db.session() as session:
                ours = trees(pair.ours, await session.execute(form(pair.ours)))
                assert len(ours) == len(theirs), name
                for mine, other in zip(ours, theirs, strict=True):
                    assert all(map(agree, mine, other)), name


async def test_a_graph_costs_one_statement_per_level(async_database_url: str) -> None:
    pair = Pair(without_driver(async_database_url))
    m = pair.ours
    async with AsyncDatabase(async_database_url) as db, db.session() as session:
        users = (await session.scalars(select(m.User).order_by(m.User.id))).all()
        with counted(db) as seen:
            await session.load(users, m.User.posts, m.Post.tags)
            graph = [[[tag.name for tag in post.tags] for post in user.posts] for user in users]
        assert graph == [[["t1", "t2"], ["t2"], ["t2"]], [["t1", "t3"]], [], [[]]]
        assert len(seen) == 2

        with counted(db) as seen:
            statement = (
                select(m.Post)
                .options(joinedload(m.Post.editor), selectinload(m.Post.tags))
                .order_by(m.Post.id)
            )
            posts = (await session.scalars(statement)).all()
            assert [post.editor and post.editor.name for post in posts] == [
                "Bob",
                None,
                "Bob",
                "Ada",
                None,
                "Dan",
            ]
        assert len(seen) == 2
    pair.close()


def test_fifty_thousand_parents(postgresql_url: str) -> None:
    side = our_side(KEYS)
    with Database(postgresql_url) as db:
        db.create_all(side.Base)
        with db.begin() as session:
            from sqlalchemy import text

            columns = "uid, big, text, day, number, color, wide, raw"
            values = "md5(i::text)::uuid, i, 'k' || i, date '1000-01-01' + i, i, 'red', 'w' || i, decode(lpad(to_hex(i), 8, '0'), 'hex')"
            session.execute(
                text(f"INSERT INTO owner (id, {columns}) SELECT i, {values} FROM generate_series(1, 50000) i")
            )
            session.execute(
                text(f"INSERT INTO thing (id, owner_id, {columns}) SELECT id, id, {columns} FROM owner")
            )
        with db.session() as session:
            owners = session.scalars(select(side.Owner)).all()
            for name in ("id", "uid", "text_and_id"):
                with counted(db) as seen:
                    assert sum(len(getattr(owner, f"by_{name}")) for owner in owners) == 50_000
                assert len(seen) == 1
