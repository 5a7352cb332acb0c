"""Values of every kind travel there and back: one object and a hundred, every driver, blocking and async."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import JSON, ForeignKey, Integer, Interval, MetaData, Numeric, String, text
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT

from holdfast import (
    AsyncDatabase,
    Database,
    DeclarativeBase,
    Mapped,
    insert,
    mapped_column,
    relationship,
    select,
    update,
)
from holdfast.errors import DataError, WrongType


class Base(DeclarativeBase):
    metadata = MetaData()


class Span(Base):
    __tablename__ = "spans"
    id: Mapped[int] = mapped_column(primary_key=True)
    length: Mapped[timedelta | None]
    exact: Mapped[timedelta | None] = mapped_column(Interval(second_precision=6))
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    data: Mapped[Any] = mapped_column(JSON, nullable=True)


class Group(Base):
    __tablename__ = "groups"
    id: Mapped[int] = mapped_column(primary_key=True)


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    memberships: Mapped[list[Membership]] = relationship(cascade="all, delete-orphan", back_populates="user")


class Membership(Base):
    __tablename__ = "memberships"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    group_id: Mapped[int] = mapped_column(ForeignKey("groups.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(String(20))
    user: Mapped[User] = relationship(back_populates="memberships")
    group: Mapped[Group] = relationship()


class OnPostgresql(DeclarativeBase):
    metadata = MetaData()


class Mood(enum.Enum):
    good = "good"
    bad = "bad"


class Row(OnPostgresql):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    numbers: Mapped[list[Decimal] | None] = mapped_column(ARRAY(Numeric(10, 2)))
    words: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    counts: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    email: Mapped[str | None] = mapped_column(CITEXT)
    mood: Mapped[Mood | None]


class Reading(DeclarativeBase):
    metadata = MetaData()


class Plain(Reading):
    """The same table, its extension types declared as plain text."""

    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(String)
    mood: Mapped[str | None] = mapped_column(String)


LENGTHS = [
    timedelta(0),
    timedelta(microseconds=1),
    timedelta(days=-3, seconds=5),
    timedelta(days=400, hours=7),
    timedelta(hours=36, microseconds=999_999),
    None,
]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with Database(database_url) as opened:
        opened.create_all(Base)
        yield opened


@pytest.fixture
async def adb(async_database_url: str) -> AsyncIterator[AsyncDatabase]:
    async with AsyncDatabase(async_database_url) as opened:
        await opened.create_all(Base)
        yield opened


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Database]:
    with Database(postgresql_url) as opened:
        with opened.begin() as session:
            session.execute(text("CREATE EXTENSION IF NOT EXISTS citext"))
        opened.create_all(OnPostgresql)
        yield opened


@pytest.fixture(params=["asyncpg", "psycopg"])
async def apostgresql(
    request: pytest.FixtureRequest, postgresql: Database, postgresql_url: str
) -> AsyncIterator[AsyncDatabase]:
    url = postgresql_url.replace("postgresql://", f"postgresql+{request.param}://")
    async with AsyncDatabase(url) as opened:
        yield opened


# ---------------------------------------------------------------- intervals


def spans(count: int) -> list[Span]:
    lengths = [LENGTHS[n % len(LENGTHS)] for n in range(count)]
    return [Span(id=n + 1, length=length, exact=length) for n, length in enumerate(lengths)]


@pytest.mark.parametrize("count", [1, 3, 100])
def test_a_timedelta_comes_back_as_it_was(count: int, db: Database) -> None:
    wanted = [(span.length, span.exact) for span in spans(count)]
    with db.begin() as session:
        session.add_all(spans(count))

    with db.session() as session:
        found = session.scalars(select(Span).order_by(Span.id)).all()
        assert [(span.length, span.exact) for span in found] == wanted
        rows = session.execute(select(Span.length, Span.exact).order_by(Span.id)).all()
        assert [tuple(row) for row in rows] == wanted


@pytest.mark.parametrize("count", [1, 100])
def test_a_changed_timedelta_comes_back(count: int, db: Database) -> None:
    with db.begin() as session:
        session.add_all(spans(count))

    with db.begin() as session:
        for span in session.scalars(select(Span)):
            span.length = timedelta(days=span.id)

    with db.session() as session:
        for span in session.scalars(select(Span)):
            assert span.length == timedelta(days=span.id)
        one = session.scalars(select(Span).where(Span.length == timedelta(days=1))).one()
        assert one.id == 1


@pytest.mark.parametrize("count", [1, 100])
async def test_a_timedelta_comes_back_as_it_was_async(count: int, adb: AsyncDatabase) -> None:
    wanted = [(span.length, span.exact) for span in spans(count)]
    async with adb.begin() as session:
        session.add_all(spans(count))

    async with adb.session() as session:
        found = (await session.scalars(select(Span).order_by(Span.id))).all()
        assert [(span.length, span.exact) for span in found] == wanted
    async with adb.begin() as session:
        for span in await session.scalars(select(Span)):
            span.length = timedelta(days=span.id)
    async with adb.session() as session:
        for span in await session.scalars(select(Span)):
            assert span.length == timedelta(days=span.id)


# ---------------------------------------------------------------- PostgreSQL's own


NUMBERS = [[Decimal("1.50"), Decimal("-2.25")], [], None, [Decimal("12345678.90")]]


@pytest.mark.parametrize("count", [1, 4])
def test_arrays_of_numbers_are_decimals(count: int, postgresql: Database) -> None:
    with postgresql.begin() as session:
        session.add_all([Row(id=n + 1, numbers=NUMBERS[n]) for n in range(count)])

    with postgresql.session() as session:
        found = session.scalars(select(Row.numbers).order_by(Row.id)).all()
        objects = session.scalars(select(Row).order_by(Row.id)).all()

    assert found == NUMBERS[:count]
    assert [row.numbers for row in objects] == NUMBERS[:count]
    assert all(isinstance(number, Decimal) for numbers in found for number in numbers or ())


@pytest.mark.parametrize("count", [1, 4])
async def test_arrays_of_numbers_are_decimals_async(count: int, apostgresql: AsyncDatabase) -> None:
    async with apostgresql.begin() as session:
        session.add_all([Row(id=n + 1, numbers=NUMBERS[n]) for n in range(count)])

    async with apostgresql.session() as session:
        found = (await session.scalars(select(Row.numbers).order_by(Row.id))).all()

    assert found == NUMBERS[:count]
    assert all(isinstance(number, Decimal) for numbers in found for number in numbers or ())


@pytest.mark.parametrize("count", [1, 2, 100])
async def test_arrays_of_several_objects_are_updated_in_one_flush(
    count: int, apostgresql: AsyncDatabase
) -> None:
    async with apostgresql.begin() as session:
        session.add_all([Row(id=n, words=["a"], counts=[n]) for n in range(1, count + 1)])

    async with apostgresql.begin() as session:
        for row in await session.scalars(select(Row)):
            row.words = [f"w{row.id}", "with 'quotes\" and, commas", ""]
            row.counts = [row.id, 0, -1]
            row.numbers = [Decimal(row.id)]

    async with apostgresql.session() as session:
        rows = (await session.scalars(select(Row).order_by(Row.id))).all()
    assert [(row.words, row.counts, row.numbers) for row in rows] == [
        ([f"w{n}", "with 'quotes\" and, commas", ""], [n, 0, -1], [Decimal(n)]) for n in range(1, count + 1)
    ]


def test_arrays_of_several_objects_are_updated_in_one_flush_blocking(postgresql: Database) -> None:
    with postgresql.begin() as session:
        session.add_all([Row(id=n, words=["a"]) for n in (1, 2)])

    with postgresql.begin() as session:
        for row in session.scalars(select(Row)):
            row.words = [f"w{row.id}", "b,c"]

    with postgresql.session() as session:
        assert session.scalars(select(Row.words).order_by(Row.id)).all() == [["w1", "b,c"], ["w2", "b,c"]]


EMAILS = ["Ann@Example.com", "É@example.com", "", None]


@pytest.mark.parametrize("count", [1, 4])
def test_types_of_extensions_and_enumerations_are_read_as_text(count: int, postgresql: Database) -> None:
    with postgresql.begin() as session:
        session.add_all([Row(id=n + 1, email=EMAILS[n], mood=Mood.good) for n in range(count)])

    with postgresql.session() as session:
        for _ in range(7):  # psycopg prepares a statement at its sixth run
            declared = session.scalars(select(Row).order_by(Row.id)).all()
            plain = session.scalars(select(Plain).order_by(Plain.id)).all()
            session.expunge_all()

            assert [(row.email, row.mood) for row in declared] == [(e, Mood.good) for e in EMAILS[:count]]
            assert [(row.email, row.mood) for row in plain] == [(e, "good") for e in EMAILS[:count]]
        found = session.execute(text("SELECT email, mood FROM rows ORDER BY id")).all()
        assert [tuple(row) for row in found] == [(e, "good") for e in EMAILS[:count]]


@pytest.mark.parametrize("count", [1, 4])
async def test_types_of_extensions_and_enumerations_are_read_as_text_async(
    count: int, apostgresql: AsyncDatabase
) -> None:
    async with apostgresql.begin() as session:
        session.add_all([Row(id=n + 1, email=EMAILS[n], mood=Mood.bad) for n in range(count)])

    async with apostgresql.session() as session:
        declared = (await session.scalars(select(Row).order_by(Row.id))).all()
        plain = (await session.scalars(select(Plain).order_by(Plain.id))).all()

    assert [(row.email, row.mood) for row in declared] == [(e, Mood.bad) for e in EMAILS[:count]]
    assert [(row.email, row.mood) for row in plain] == [(e, "bad") for e in EMAILS[:count]]


def test_citext_is_compared_without_regard_to_case(postgresql: Database) -> None:
    with postgresql.begin() as session:
        session.add(Row(id=1, email="Ann@Example.com"))

    with postgresql.session() as session:
        assert session.scalars(select(Row.id).where(Row.email == "ann@example.COM")).all() == [1]


# ---------------------------------------------------------------- statements and keys


def test_a_text_statement_runs_for_each_mapping(db: Database) -> None:
    with db.begin() as session:
        session.execute(
            text("INSERT INTO users (id, name) VALUES (:id, :name)"),
            [{"id": 1, "name": "Ann"}, {"name": "Ben", "id": 2}],
        )

    with db.session() as session:
        assert session.scalars(select(User.name).order_by(User.id)).all() == ["Ann", "Ben"]


async def test_a_text_statement_runs_for_each_mapping_async(adb: AsyncDatabase) -> None:
    async with adb.begin() as session:
        await session.execute(
            text("INSERT INTO users (id, name) VALUES (:id, :name)"),
            [{"id": 1, "name": "Ann"}, {"name": "Ben", "id": 2}],
        )

    async with adb.session() as session:
        assert (await session.scalars(select(User.name).order_by(User.id))).all() == ["Ann", "Ben"]


def test_no_key_finds_nothing(db: Database) -> None:
    statements: list[Any] = []
    db.observers.add(statements.append)

    with db.session() as session:
        assert session.get(User, None) is None

    assert statements == []


async def test_no_key_finds_nothing_async(adb: AsyncDatabase) -> None:
    async with adb.session() as session:
        assert await session.get(User, None) is None


# ---------------------------------------------------------------- values that cannot be stored


@pytest.mark.parametrize("value", ["sNaN", "Infinity", "-Infinity"])
def test_a_decimal_that_is_no_number_names_its_field(value: str, db: Database) -> None:
    with db.session() as session:
        session.add(Span(id=1, price=Decimal(value)))
        with pytest.raises(DataError, match="price"):
            session.flush()
        session.rollback()


def test_a_decimal_nan_is_kept_where_the_server_has_one(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add(Span(id=1, price=Decimal("NaN")))

        with db.session() as session:
            price = session.get_one(Span, 1).price
    assert price is not None
    assert price.is_nan()


def test_a_decimal_nan_is_refused_where_the_server_would_keep_null(sqlite_url: str) -> None:
    with Database(sqlite_url) as db:
        db.create_all(Base)
        with db.session() as session:
            session.add(Span(id=1, price=Decimal("NaN")))
            with pytest.raises(DataError, match="price"):
                session.flush()


@pytest.mark.parametrize("value", [object(), {1, 2}, {"when": object()}, [b"bytes"]])
def test_json_that_cannot_be_written_names_its_field(value: Any, db: Database) -> None:
    with db.session() as session:
        session.add_all([Span(id=1, data={"fine": 1}), Span(id=2, data=value)])
        with pytest.raises(WrongType) as caught:
            session.flush()
        session.rollback()
        session.add(Span(id=3, data={"fine": True}))
        session.commit()

    assert "data" in str(caught.value)
    assert "object at" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 2])
def test_json_that_cannot_be_written_in_place_names_its_field(count: int, db: Database) -> None:
    with db.begin() as session:
        session.add_all([Span(id=n, data={"fine": 1}) for n in range(1, count + 1)])

    with db.session() as session:
        for span in session.scalars(select(Span)):
            span.data["bad"] = object()
        with pytest.raises(WrongType, match="data"):
            session.commit()
        session.rollback()

    with db.session() as session:
        assert session.get_one(Span, 1).data == {"fine": 1}


@pytest.mark.parametrize("make", [insert, update])
def test_json_that_cannot_be_written_in_a_statement_is_a_typed_error(make: Any, db: Database) -> None:
    with db.session() as session, pytest.raises(DataError):
        session.execute(make(Span).values(data={"bad": object()}))


# ---------------------------------------------------------------- a key that comes back in the same flush


def test_an_association_with_the_same_key_takes_over_the_row(db: Database) -> None:
    with db.begin() as session:
        group = Group(id=1)
        session.add(User(id=1, name="Ann", memberships=[Membership(group=group, role="guest", note="old")]))

    sent: list[str] = []
    with db.begin() as session:
        user, group = session.get_one(User, 1), session.get_one(Group, 1)
        before = user.memberships[0]
        remove = db.observers.add(lambda event: sent.append(getattr(event, "sql", "").split()[0]))
        user.memberships = [Membership(group=group, role="owner")]
        session.flush()
        remove()

        assert before not in session
        assert session.get(Membership, (1, 1)) is user.memberships[0]

    assert "UPDATE" in sent
    assert not {"INSERT", "DELETE"} & set(sent)
    with db.session() as session:
        found = session.scalars(select(Membership)).all()
        assert [(one.user_id, one.group_id, one.role, one.note) for one in found] == [(1, 1, "owner", None)]


def test_deleting_and_adding_the_same_key_is_an_update(db: Database) -> None:
    with db.begin() as session:
        session.add(User(id=1, name="Ann"))

    with db.session() as session:
        session.delete(session.get_one(User, 1))
        session.add(User(id=1, name="Other"))
        session.flush()
        session.rollback()
        assert session.get_one(User, 1).name == "Ann"

        session.delete(session.get_one(User, 1))
        session.add(User(id=1, name="Bea"))
        session.commit()

    with db.session() as session:
        assert session.scalars(select(User.name)).all() == ["Bea"]
