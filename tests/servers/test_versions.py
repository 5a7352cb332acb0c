"""Versions: what a flush compares, whom it tells, and what is left afterwards; on every server and driver."""

from __future__ import annotations

import pickle
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from sqlalchemy import ForeignKey, Integer, String, delete, insert, update
from sqlalchemy.dialects.postgresql import ARRAY

from holdfast import (
    AsyncDatabase,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    Versioned,
    defer,
    load_only,
    mapped_column,
    relationship,
    select,
)
from holdfast.errors import InvalidRequestError, StaleDataError
from holdfast.observe import StatementStarted


class Base(DeclarativeBase):
    pass


class Item(Versioned, Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), default="")
    quantity: Mapped[int] = mapped_column(default=10)
    about: Mapped[str | None] = mapped_column(deferred=True)
    parts: Mapped[list[Part]] = relationship(back_populates="item", cascade="all, delete-orphan")


class Part(Versioned, Base):
    """A key of two columns, and a version whose column has another name."""

    __tablename__ = "parts"
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column("row_version")
    item: Mapped[Item] = relationship(back_populates="parts")


class Ticket(Base):
    """SQLAlchemy's form, and versions that are no numbers."""

    __tablename__ = "tickets"
    id: Mapped[int] = mapped_column(primary_key=True)
    seat: Mapped[str]
    mark: Mapped[str] = mapped_column()
    __mapper_args__ = {"version_id_col": mark, "version_id_generator": lambda version: uuid.uuid4().hex}  # noqa: RUF012


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with Database(database_url) as opened:
        opened.create_all(Base)
        yield opened


@pytest.fixture
def session(db: Database) -> Iterator[Session]:
    with db.session() as opened:
        yield opened


@pytest.fixture
async def async_db(async_database_url: str) -> AsyncIterator[AsyncDatabase]:
    async with AsyncDatabase(async_database_url) as opened:
        await opened.create_all(Base)
        yield opened


def stock(session: Session, count: int = 3) -> list[Item]:
    """Items 1, 2, 3 … as they are after a commit."""
    items = [Item(id=n, name=f"i{n}") for n in range(1, count + 1)]
    session.add_all(items)
    session.commit()
    return items


def behind(db: Database, *statements: Any) -> None:
    """Change rows by another session."""
    with db.begin() as other:
        for statement in statements:
            other.execute(statement)


def rows(db: Database, *columns: Any) -> list[Any]:
    """What the database holds, as another session sees it."""
    with db.session() as other:
        return [tuple(row) for row in other.execute(select(*columns).order_by(columns[0]))]


def sent_by(db: Database, act: Callable[[], object]) -> list[str]:
    sent: list[str] = []
    remove = db.observers.add(lambda e: sent.append(e.sql) if isinstance(e, StatementStarted) else None)
    act()
    remove()
    return sent


# ---------------------------------------------------------------- counting


def test_a_version_begins_at_1_and_each_flush_that_changes_the_object_raises_it(
    db: Database, session: Session
) -> None:
    item, other = stock(session, 2)
    assert (item.version, other.version) == (1, 1)

    item.name = "a"
    session.flush()
    item.quantity = 5
    item.name = "b"
    session.commit()
    item.name = item.name
    session.commit()

    assert (item.version, other.version) == (3, 1)
    assert rows(db, Item.id, Item.version) == [(1, 3), (2, 1)]


def test_one_statement_raises_the_versions_of_all(db: Database, session: Session) -> None:
    items = stock(session, 5)
    items[0].name = "more often changed"
    session.commit()

    for item in items:
        item.quantity -= 1
    sent = sent_by(db, session.flush)

    updates = [sql for sql in sent if sql.startswith("UPDATE")]
    assert len(updates) == 1
    assert [item.version for item in items] == [3, 2, 2, 2, 2]
    session.commit()
    assert rows(db, Item.id, Item.version) == [(1, 3), (2, 2), (3, 2), (4, 2), (5, 2)]


def test_a_version_may_have_another_column_and_a_class_a_key_of_several(
    db: Database, session: Session
) -> None:
    item = Item(id=1, parts=[Part(place=n) for n in range(3)])
    session.add(item)
    session.commit()

    for part in item.parts:
        part.label = "x"
    session.commit()

    assert [part.version for part in item.parts] == [2, 2, 2]
    assert item.version == 1  # a relation is not a column
    behind(db, update(Part).where(Part.place == 1).values(label="y"))
    for part in item.parts:
        part.label = "z"
    with pytest.raises(StaleDataError, match="3 rows of Part were to be updated, and 2 had the version"):
        session.flush()


def test_a_generator_makes_versions_that_are_no_numbers(db: Database, session: Session) -> None:
    tickets = [Ticket(id=n, seat="a") for n in (1, 2)]
    session.add_all(tickets)
    session.commit()
    first = [ticket.mark for ticket in tickets]
    assert len({*first}) == 2

    for ticket in tickets:
        ticket.seat = "b"
    session.commit()

    assert len({*first, *(ticket.mark for ticket in tickets)}) == 4
    behind(db, update(Ticket).where(Ticket.id == 2).values(mark="somebody's"))
    for ticket in tickets:
        ticket.seat = "c"
    with pytest.raises(StaleDataError):
        session.flush()


def test_an_sql_expression_as_a_value_is_compared_too(db: Database, session: Session) -> None:
    (item,) = stock(session, 1)

    item.quantity = Item.quantity - 1
    session.commit()

    assert (item.quantity, item.version) == (9, 2)
    behind(db, update(Item).values(quantity=0))
    item.quantity = Item.quantity - 1
    with pytest.raises(StaleDataError, match="A row of Item was to be updated, and 0 had the version"):
        session.flush()


# ---------------------------------------------------------------- lost races

RACES: dict[str, Any] = {
    "changed": update(Item).where(Item.id == 2).values(quantity=1),
    "deleted": delete(Item).where(Item.id == 2),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("race", RACES)
@pytest.mark.parametrize("work", ["update", "delete"])
def test_a_lost_race_is_told_and_nothing_is_written(
    db: Database, session: Session, work: str, race: str, count: int
) -> None:
    items = stock(session)
    mine = items if count == 3 else [items[1]]
    behind(db, RACES[race])
    before = rows(db, Item.id, Item.name, Item.quantity, Item.version)

    for item in mine:
        if work == "update":
            item.name = "secret"
        else:
            session.delete(item)
    with pytest.raises(StaleDataError) as caught:
        session.commit()
    session.rollback()

    error: Any = caught.value
    assert (error.model, error.count, error.found) == ("Item", count, count - 1)
    assert "secret" not in str(error)
    assert "session.rollback()" in str(error)
    assert "session.refresh(object)" in str(error)
    assert rows(db, Item.id, Item.name, Item.quantity, Item.version) == before
    assert [(item.name, item.version) for item in items] == [("i1", 1), ("i2", 1), ("i3", 1)]


def test_the_work_is_done_again_as_the_error_says(db: Database, session: Session) -> None:
    (item,) = stock(session, 1)
    behind(db, update(Item).values(quantity=7))
    item.quantity -= 1
    with pytest.raises(StaleDataError):
        session.commit()

    session.rollback()
    session.refresh(item)
    item.quantity -= 1
    session.commit()

    assert rows(db, Item.quantity, Item.version) == [(6, 3)]


def test_a_race_that_is_under_way_is_waited_for_and_told(postgresql_url: str) -> None:
    """The UPDATE waits for the other transaction and then compares the version that one wrote."""
    with Database(postgresql_url) as db:
        db.create_all(Base)
        with db.session() as first, db.session() as second:
            stock(first)
            mine = second.scalars(select(Item).order_by(Item.id)).all()
            first.get_one(Item, 2).quantity = 1
            first.flush()
            for item in mine:
                item.quantity -= 1
            caught: list[BaseException] = []
            thread = threading.Thread(target=lambda: caught.append(_error_of(second.flush)))
            thread.start()
            wait_until_blocked(postgresql_url)
            first.commit()
            thread.join()

            assert [type(error) for error in caught] == [StaleDataError]


def _error_of(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except Exception as error:
        return error
    return AssertionError("nothing was raised")


def wait_until_blocked(url: str) -> None:
    """Wait until some session of the database waits for a lock."""
    from tests.servers.waiting import wait_for_waiters

    with psycopg.connect(url, autocommit=True) as watcher:
        wait_for_waiters(watcher, 1)


@pytest.mark.parametrize("count", [1, 3])
async def test_async_drivers_tell_of_a_lost_race(async_db: AsyncDatabase, count: int) -> None:
    async with async_db.begin() as session:
        session.add_all([Item(id=n) for n in range(1, count + 1)])

    for work in ("update", "delete"):
        async with async_db.session() as session, async_db.session() as other:
            mine = (await session.scalars(select(Item))).all()
            (await other.get_one(Item, 1)).quantity += 1
            await other.commit()
            for item in mine:
                if work == "update":
                    item.quantity = 0
                else:
                    await session.delete(item)
            with pytest.raises(StaleDataError) as caught:
                await session.flush()

        assert (caught.value.count, caught.value.found) == (count, count - 1)  # type: ignore[attr-defined]
    async with async_db.session() as session:
        assert sorted(await session.scalars(select(Item.version))) == [1] * (count - 1) + [3]


class Tags(DeclarativeBase):
    """Arrays of arrays do not go as one array: rows are sent one by one, and still counted."""


class Note(Versioned, Tags):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class Loose(Tags):
    __tablename__ = "loose"
    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[list[int]] = mapped_column(ARRAY(Integer))


@pytest.mark.parametrize("cls", [Note, Loose])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_rows_that_do_not_go_as_arrays_are_counted_too(
    postgresql_url: str, driver: str, cls: Any
) -> None:
    async with AsyncDatabase(postgresql_url.replace("://", f"+{driver}://", 1)) as db:
        await db.create_all(Tags)
        async with db.begin() as session:
            session.add_all([cls(id=n, words=[n]) for n in range(3)])
        async with db.session() as session:
            notes = (await session.scalars(select(cls))).all()
            async with db.begin() as other:
                await other.execute(delete(cls).where(cls.id == 1))
            for note in notes:
                note.words = [9]

            with pytest.raises(StaleDataError, match=f"3 rows of {cls.__name__} were to be updated, and 2"):
                await session.flush()


# ---------------------------------------------------------------- rollback, savepoints, other sessions


def test_a_rollback_gives_the_version_back_and_the_object_goes_on(db: Database, session: Session) -> None:
    (item,) = stock(session, 1)
    item.name = "x"
    session.flush()
    assert item.version == 2

    session.rollback()
    assert item.version == 1
    item.name = "y"
    session.commit()

    assert rows(db, Item.name, Item.version) == [("y", 2)]


def test_a_savepoint_gives_back_the_version_from_before_it(db: Database, session: Session) -> None:
    (item,) = stock(session, 1)
    item.name = "kept"
    with session.begin_nested() as savepoint:
        item.name = "x"
        session.flush()
        assert item.version == 3
        savepoint.rollback()
    assert (item.name, item.version) == ("kept", 2)

    with session.begin_nested():
        item.name = "inner"
    session.commit()

    assert rows(db, Item.name, Item.version) == [("inner", 3)]


def test_stale_data_in_a_savepoint_leaves_the_transaction_alone(
    postgresql_url: str,
) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
        with db.session() as session:
            item, other = stock(session, 2)
            other.name = "kept"
            session.flush()
            behind(db, update(Item).where(Item.id == 1).values(quantity=1))

            with pytest.raises(StaleDataError), session.begin_nested():
                item.quantity -= 1
            session.commit()

            assert rows(db, Item.id, Item.name, Item.quantity, Item.version) == [
                (1, "i1", 1, 2),
                (2, "kept", 10, 2),
            ]


@pytest.mark.parametrize("away", [lambda item: item, lambda item: pickle.loads(pickle.dumps(item))])
@pytest.mark.parametrize("raced", [False, True])
def test_a_detached_object_keeps_its_version(
    db: Database, session: Session, raced: bool, away: Callable[[Item], Item]
) -> None:
    (item,) = stock(session, 1)
    session.expunge(item)
    item = away(item)
    item.name = "changed while nobody held it"
    if raced:
        behind(db, update(Item).values(quantity=1))

    session.add(item)
    if raced:
        item.quantity = 3
        with pytest.raises(StaleDataError):
            session.commit()
    else:
        item.quantity = 3
        session.commit()
        assert rows(db, Item.quantity, Item.version) == [(3, 2)]


def test_merge_compares_the_version_an_object_brings(db: Database, session: Session) -> None:
    stock(session, 1)
    merged = session.merge(Item(id=1, name="mine", version=1))
    session.commit()
    assert (merged.name, merged.version) == ("mine", 2)

    with pytest.raises(StaleDataError, match="read from a row that has another version by now"):
        session.merge(Item(id=1, name="late", version=1))
    with pytest.raises(StaleDataError, match="read from a row that is gone"):
        session.merge(Item(id=7, name="late", version=1))
    session.merge(Item(id=1, name="whatever it is", quantity=3))
    session.merge(Item(id=7, name="new"))
    session.commit()

    assert rows(db, Item.id, Item.name, Item.version) == [(1, "whatever it is", 3), (7, "new", 1)]


def test_a_changed_key_is_found_by_the_old_key_and_version(db: Database, session: Session) -> None:
    items = stock(session)

    for item in items:
        item.id += 100
    session.commit()

    assert rows(db, Item.id, Item.version) == [(101, 2), (102, 2), (103, 2)]
    behind(db, update(Item).where(Item.id == 101).values(quantity=1))
    items[0].id = 1
    with pytest.raises(StaleDataError):
        session.flush()


def test_a_row_that_is_taken_over_goes_on_from_its_version(db: Database, session: Session) -> None:
    item = Item(id=1, parts=[Part(place=1, label="old")])
    session.add(item)
    session.commit()

    item.parts = [Part(place=1, label="new")]
    session.commit()
    assert (item.parts[0].version, rows(db, Part.label, Part.version)) == (2, [("new", 2)])

    behind(db, update(Part).values(label="somebody's"))
    item.parts = [Part(place=1, label="newer")]
    with pytest.raises(StaleDataError):
        session.flush()


# ---------------------------------------------------------------- what is loaded when


def test_the_version_comes_with_every_object(session: Session) -> None:
    stock(session, 1)
    session.expunge_all()
    item = session.scalars(select(Item).options(load_only(Item.name))).one()
    assert "version" in item.__dict__
    session.expunge_all()

    item = session.scalars(select(Item).options(defer(Item.version))).one()

    assert "version" in item.__dict__
    assert "quantity" in item.__dict__


def test_a_part_of_a_newer_row_does_not_bring_its_version(db: Database, session: Session) -> None:
    """Or the old quantity would be written under the new version, and the other's change be lost."""
    (item,) = stock(session, 1)
    behind(db, update(Item).values(name="new", quantity=9))

    session.scalars(select(Item).options(load_only(Item.name))).one()
    assert (item.name, item.quantity) == ("new", 10)
    item.quantity -= 1
    with pytest.raises(StaleDataError):
        session.flush()

    session.rollback()
    session.scalars(select(Item)).one()
    item.quantity -= 1
    session.commit()
    assert rows(db, Item.quantity, Item.version) == [(8, 3)]


def test_a_newer_row_does_not_bring_its_version_to_an_object_with_changes(db: Database) -> None:
    with db.session(autoflush=False) as session:
        (item,) = stock(session, 1)
        item.quantity -= 1
        behind(db, update(Item).values(quantity=5))

        session.scalars(select(Item)).one()

        with pytest.raises(StaleDataError):
            session.flush()


def test_a_deferred_column_does_not_keep_an_object_stale(db: Database, session: Session) -> None:
    (item,) = stock(session, 1)
    session.refresh(item, ["about"])
    behind(db, update(Item).values(about="new"))

    session.refresh(item)
    item.quantity = 1
    session.commit()

    assert (item.about, item.version) == ("new", 3)


def test_a_row_without_a_version_is_told(db: Database, session: Session) -> None:
    class Old(DeclarativeBase):
        pass

    class Thing(Old):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        version: Mapped[int | None] = mapped_column()
        __mapper_args__ = {"version_id_col": version}  # noqa: RUF012

    db.create_all(Old)
    behind(db, insert(Thing).values(id=1, name="a", version=None))
    thing = session.get_one(Thing, 1)
    thing.name = "b"

    with pytest.raises(InvalidRequestError, match="Thing has no version"):
        session.flush()


# ---------------------------------------------------------------- statements


def test_a_statement_raises_versions_and_loaded_objects_follow(db: Database, session: Session) -> None:
    items = stock(session)

    session.execute(update(Item).where(Item.id < 3).values(quantity=Item.quantity - 1))
    assert [(item.quantity, item.version) for item in items] == [(9, 2), (9, 2), (10, 1)]
    session.execute(update(Item), [{"id": 1, "quantity": 5}, {"id": 3, "quantity": 6}])
    assert [(item.quantity, item.version) for item in items] == [(5, 3), (9, 2), (6, 2)]
    for item in items:
        item.name = "x"
    session.commit()

    assert rows(db, Item.id, Item.quantity, Item.version) == [(1, 5, 4), (2, 9, 3), (3, 6, 3)]


def test_a_statement_does_not_hide_what_somebody_else_did(db: Database, session: Session) -> None:
    (item,) = stock(session, 1)
    behind(db, update(Item).values(quantity=3))

    session.execute(update(Item).values(name="x"))
    item.quantity -= 1

    with pytest.raises(StaleDataError):
        session.flush()


def test_a_statement_may_say_the_version_itself(db: Database, session: Session) -> None:
    stock(session, 1)

    session.execute(update(Item).values(version=40))
    session.commit()

    assert rows(db, Item.version) == [(40,)]


def test_an_update_by_key_compares_the_versions_it_is_given(db: Database, session: Session) -> None:
    stock(session)
    changes = [{"id": n, "version": 1, "quantity": n} for n in (1, 2)]

    session.execute(update(Item), changes)
    session.commit()
    assert rows(db, Item.id, Item.quantity, Item.version) == [(1, 1, 2), (2, 2, 2), (3, 10, 1)]
    with pytest.raises(StaleDataError, match="2 rows of Item were to be updated, and 0"):
        session.execute(update(Item), changes)


def test_rows_that_others_insert_begin_at_1(db: Database, session: Session) -> None:
    behind(db, insert(Item).values(id=1, name="a"))
    session.execute(Item.__table__.insert(), {"id": 2, "name": "b", "quantity": 1})
    session.commit()

    assert rows(db, Item.id, Item.version) == [(1, 1), (2, 1)]


# ---------------------------------------------------------------- without a version


@pytest.mark.parametrize("count", [1, 3])
def test_without_a_version_the_last_write_stays_and_a_row_that_is_gone_is_told(
    db: Database, session: Session, count: int
) -> None:
    plain = [Plain(id=n, name="a") for n in range(count)]
    session.add_all(plain)
    session.commit()
    behind(db, update(Plain).values(name="somebody's"))

    for one in plain:
        one.name = "mine"
    session.commit()
    assert {name for _, name in rows(db, Plain.id, Plain.name)} == {"mine"}

    behind(db, delete(Plain).where(Plain.id == 0))
    for one in plain:
        one.name = "late"
    with pytest.raises(StaleDataError, match=f"and {count - 1} found"):
        session.flush()


def test_without_a_version_a_delete_of_what_is_gone_is_done(db: Database, session: Session) -> None:
    plain = [Plain(id=n, name="a") for n in range(3)]
    session.add_all(plain)
    session.commit()
    behind(db, delete(Plain).where(Plain.id == 1))

    for one in plain:
        session.delete(one)
    session.commit()

    assert rows(db, Plain.id) == []


# ---------------------------------------------------------------- versions that the server makes


class Served(DeclarativeBase):
    pass


class Page(Served):
    __tablename__ = "pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1")
    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}  # noqa: RUF012


COUNTING = """
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.version := OLD.version + 10; RETURN NEW; END $$;
CREATE TRIGGER count_up BEFORE UPDATE ON pages FOR EACH ROW EXECUTE FUNCTION count_up();
"""


@pytest.mark.parametrize("count", [1, 3])
def test_a_version_that_the_server_makes_is_read_back_and_compared(postgresql_url: str, count: int) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Served)
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            connection.execute(COUNTING)
        with db.session() as session:
            pages = [Page(id=n, text="a") for n in range(count)]
            session.add_all(pages)
            session.commit()
            for text in ("b", "c"):
                for page in pages:
                    page.text = text
                session.commit()

            assert [page.version for page in pages] == [21] * count
            behind(db, update(Page).where(Page.id == 0).values(text="somebody's"))
            for page in pages:
                page.text = "late"
            with pytest.raises(StaleDataError):
                session.flush()


# ---------------------------------------------------------------- updates by key, of one row


def test_an_update_by_key_of_one_row_changes_this_row_alone(db: Database, session: Session) -> None:
    plain = [Plain(id=n, name="a") for n in range(3)]
    session.add_all(plain)
    session.commit()

    result = session.execute(update(Plain), [{"id": 1, "name": "b"}])
    session.commit()

    assert result.rowcount == 1
    assert rows(db, Plain.id, Plain.name) == [(0, "a"), (1, "b"), (2, "a")]
    assert [one.name for one in plain] == ["a", "b", "a"]


@pytest.mark.parametrize("all_go", [False, True])
def test_what_is_not_written_goes_with_an_object_and_comes_back(
    db: Database, session: Session, all_go: bool
) -> None:
    (item,) = stock(session, 1)
    item.quantity -= 1
    if all_go:
        session.expunge_all()
    else:
        session.expunge(item)

    session.add(item)
    item.quantity -= 1
    session.commit()

    assert rows(db, Item.quantity, Item.version) == [(8, 2)]


# ---------------------------------------------------------------- objects that left a transaction that was undone


@pytest.fixture
def stocked(db: Database) -> Database:
    with db.session() as session:
        stock(session, 1)
    return db


@pytest.mark.parametrize("back", ["same session", "another session"])
@pytest.mark.parametrize("way", ["expunge", "expunge_all"])
def test_an_undone_version_matches_nobody_elses(stocked: Database, way: str, back: str) -> None:
    with stocked.session() as session:
        item = session.get_one(Item, 1)
        quantity = item.quantity
        item.quantity += 10
        session.flush()
        session.expunge(item) if way == "expunge" else session.expunge_all()
        session.rollback()
        with stocked.begin() as other:
            other.get_one(Item, 1).quantity += 1

        with stocked.session() if back == "another session" else nullcontext(session) as again:
            again.add(item)
            item.quantity += 5
            with pytest.raises(StaleDataError):
                again.flush()
            again.rollback()

    with stocked.session() as session:
        assert session.get_one(Item, 1).quantity == quantity + 1


def test_an_object_that_left_and_came_back_is_undone_as_others_are(stocked: Database) -> None:
    with stocked.session() as session:
        item = session.get_one(Item, 1)
        before = (item.quantity, item.version)
        item.quantity += 10
        session.flush()
        session.expunge(item)
        session.add(item)
        session.rollback()

        assert (item.quantity, item.version) == before
        item.quantity += 1
        session.commit()

    with stocked.session() as session:
        assert session.get_one(Item, 1).quantity == before[0] + 1


def test_what_was_changed_after_it_left_is_still_a_change(stocked: Database) -> None:
    with stocked.session() as session:
        item = session.get_one(Item, 1)
        item.quantity += 10
        session.flush()
        session.expunge(item)
        item.quantity = 77
        session.rollback()
        assert item.quantity == 77

        session.add(item)
        session.commit()

    with stocked.session() as session:
        assert session.get_one(Item, 1).quantity == 77


def test_a_savepoint_undoes_what_left_within_it(stocked: Database) -> None:
    with stocked.begin() as session:
        item = session.get_one(Item, 1)
        first = item.version
        item.quantity += 1
        session.flush()
        with session.begin_nested() as savepoint:
            item.quantity += 1
            session.flush()
            session.expunge(item)
            savepoint.rollback()
        assert item.version == first + 1

    assert item.version == first + 1


def test_an_object_whose_insert_was_undone_after_it_left_is_new_again(stocked: Database) -> None:
    with stocked.session() as session:
        item = Item(id=99, name="new", quantity=1)
        session.add(item)
        session.flush()
        session.expunge(item)
        session.rollback()

        session.add(item)
        assert item in session.new
        session.commit()

    with stocked.session() as session:
        assert session.get_one(Item, 99).quantity == 1


def test_a_session_that_closes_without_a_commit_leaves_no_undone_version(stocked: Database) -> None:
    with stocked.session() as session:
        item = session.get_one(Item, 1)
        quantity = item.quantity
        item.quantity += 10
        session.flush()
    with stocked.begin() as other:
        other.get_one(Item, 1).quantity += 1

    with stocked.session() as again:
        again.add(item)
        item.quantity += 5
        with pytest.raises(StaleDataError):
            again.flush()

    with stocked.session() as session:
        assert session.get_one(Item, 1).quantity == quantity + 1
