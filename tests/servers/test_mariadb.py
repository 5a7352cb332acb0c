"""What MariaDB and MySQL do otherwise than other servers, and what Holdfast makes of it.

What is MySQL's alone is run here as far as MariaDB can: with the facts of a server that tells nothing of its rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, LargeBinary, String, func, insert, text, update
from sqlalchemy.schema import CreateTable

from holdfast import Database, DeclarativeBase, Mapped, Versioned, mapped_column, relationship, select
from holdfast.drivers import open_driver
from holdfast.errors import (
    ConnectionFailed,
    DeadlockDetected,
    ImplicitCommit,
    LockTimeout,
    MissingKey,
    NotSupported,
    ReturningNotSupported,
    SerializationFailure,
    TransactionFailed,
    ValueTooLong,
)
from tests.conftest import ask, mariadb
from tests.rooms.oracle import counted
from tests.servers.waiting import poll


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    stock: Mapped[int] = mapped_column(server_default=text("7"))
    made_at: Mapped[datetime] = mapped_column(server_default=func.now(6))
    parts: Mapped[list[Part]] = relationship(back_populates="item", cascade="all, delete-orphan")


class Part(Versioned, Base):
    __tablename__ = "parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))
    item: Mapped[Item] = relationship(back_populates="parts")


class Wide(Base):
    __tablename__ = "wide"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hour: Mapped[time | None]
    span: Mapped[timedelta | None]
    amount: Mapped[Decimal | None]
    rate: Mapped[float | None]
    words: Mapped[str | None]
    data: Mapped[bytes | None] = mapped_column(LargeBinary)


class Dated(Base):
    __tablename__ = "dated"
    day: Mapped[date] = mapped_column(primary_key=True, server_default=text("(current_date)"))
    name: Mapped[str] = mapped_column(String(20))


@pytest.fixture
def db(mariadb_url: str) -> Iterator[Database]:
    with Database(mariadb_url) as opened:
        opened.create_all(Base)
        with opened.begin() as session:
            session.add_all([Item(id=1, name="one"), Item(id=2, name="two")])
        yield opened


def names(db: Database) -> list[str]:
    with db.session() as session:
        return list(session.scalars(select(Item.name).order_by(Item.id)))


# ---------------------------------------------------------------- other transactions


def test_a_lock_that_is_not_free_undoes_only_its_statement(db: Database) -> None:
    with db.session() as holder, db.session() as session:
        holder.get(Item, 1, with_for_update=True)
        session.add(Item(id=3, name="three"))
        session.flush()

        with pytest.raises(LockTimeout) as caught:
            session.get(Item, 1, with_for_update={"nowait": True})

        assert caught.value.sqlstate is not None
        session.commit()
    assert names(db) == ["one", "two", "three"]


def test_a_deadlock_ends_the_whole_transaction(db: Database, mariadb_url: str) -> None:
    with db.session() as one, db.session() as other:
        one.add(Item(id=3, name="three"))
        first, second = (
            one.get_one(Item, 1, with_for_update=True),
            other.get_one(Item, 2, with_for_update=True),
        )
        second.name = "heavy"  # InnoDB gives up who has changed less
        other.add_all([Item(id=10 + n, name="heavy") for n in range(50)])
        other.flush()
        thread = threading.Thread(target=lambda: other.get_one(Item, 1, with_for_update=True))
        thread.start()
        with mariadb(mariadb_url) as watcher:
            poll(lambda: "LOCK WAIT" in ask(watcher, "SHOW ENGINE INNODB STATUS")[0][2], "the other waits")

        with pytest.raises(DeadlockDetected):
            one.get_one(Item, 2, with_for_update=True)

        with pytest.raises(TransactionFailed):
            one.commit()
        one.rollback()
        thread.join(30)
        other.rollback()
        assert first.name == "one"
        one.add(Item(id=4, name="four"))
        one.commit()
    assert names(db) == ["one", "two", "four"]


def test_what_changed_since_the_snapshot_is_not_overwritten(db: Database) -> None:
    with db.begin(isolation="REPEATABLE READ") as session:
        stock = session.scalar(select(Item.stock).where(Item.id == 1))
        with db.begin() as other:
            other.execute(update(Item).where(Item.id == 1).values(stock=3))

        with pytest.raises(SerializationFailure):
            session.execute(update(Item).where(Item.id == 1).values(stock=stock - 1))
        session.rollback()

    with db.session() as session:
        assert session.scalar(select(Item.stock).where(Item.id == 1)) == 3


# ---------------------------------------------------------------- statements that commit

COMMITS = [
    text("CREATE TABLE notes (id INTEGER)"),
    text("  /* why */ -- so\n create table notes (id INTEGER)"),
    text("ALTER TABLE items ADD COLUMN x INTEGER"),
    text("TRUNCATE items"),
    CreateTable(Dated.__table__),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("statement", COMMITS, ids=str)
def test_a_statement_that_would_commit_is_refused_in_a_transaction(db: Database, statement: Any) -> None:
    with db.session() as session:
        session.add(Item(id=3, name="three"))
        with counted(db) as seen, pytest.raises(ImplicitCommit, match=r"db.session\(\)"):
            session.execute(statement)

        assert not any(sql.strip().upper().startswith(("CREATE", "ALTER", "TRUNCATE", "/*")) for sql in seen)
        session.rollback()
    with db.begin() as session, pytest.raises(ImplicitCommit):
        session.execute(statement)
    assert names(db) == ["one", "two"]


def test_it_runs_where_nothing_is_open(db: Database) -> None:
    with db.session() as session:
        session.execute(text("CREATE TABLE notes (id INTEGER)"))
        session.execute(text("INSERT INTO notes VALUES (1)"))
        session.execute(text("CREATE TEMPORARY TABLE passing (id INTEGER)"))  # commits nothing

        session.rollback()

        assert session.scalar(text("SELECT count(*) FROM notes")) == 0


# ---------------------------------------------------------------- length


def test_rows_go_in_statements_that_the_server_takes(db: Database) -> None:
    db._opened.backend.capabilities = replace(db._opened.backend.capabilities, max_statement_bytes=4_000)
    rows = [Wide(id=n, words="é" * (n % 40)) for n in range(200)]
    with counted(db) as seen, db.begin() as session:
        session.add_all(rows)
    inserts = [sql for sql in seen if sql.startswith("INSERT")]

    assert len(inserts) > 3
    with db.session() as session:
        found = dict(map(tuple, session.execute(select(Wide.id, Wide.words)).all()))  # type: ignore[arg-type]
    assert found == {n: "é" * (n % 40) for n in range(200)}


def test_a_value_beyond_the_servers_packet_is_refused_and_costs_nothing(db: Database) -> None:
    with db.session() as session:
        session.add(Item(id=3, name="three"))
        session.flush()
        before = session.scalar(text("SELECT CONNECTION_ID()"))

        with pytest.raises(ValueTooLong, match="max_allowed_packet"):
            session.execute(insert(Wide).values(id=1, words="x" * 2**24))

        assert session.scalar(text("SELECT CONNECTION_ID()")) == before
        session.commit()
    assert names(db) == ["one", "two", "three"]


# ---------------------------------------------------------------- a server that tells nothing of its rows


@pytest.fixture
def untold(db: Database) -> Database:
    """With the facts of MySQL, so far as MariaDB understands what is sent then."""
    known = db._opened.backend.capabilities
    db._opened.backend.capabilities = replace(known, returning=False, delete_returning=False)
    return db


def test_keys_and_defaults_come_back_without_returning(untold: Database) -> None:
    with counted(untold) as seen, untold.begin() as session:
        items = [Item(name=f"n{n}", parts=[Part(name=f"p{n}")]) for n in range(2500)]
        session.add_all(items)
        session.flush()
        found = session.execute(select(Item.id, Item.name, Item.made_at).where(Item.name.like("n%"))).all()

        assert not any("RETURNING" in sql for sql in seen)
        assert {(item.id, item.name, item.made_at) for item in items} == set(map(tuple, found))
        assert {item.stock for item in items} == {7}
        joined = select(Part.id, Part.name, Part.item_id)
        parts = {(item.parts[0].id, item.parts[0].name, item.id) for item in items}
        assert parts == set(map(tuple, session.execute(joined).all()))


def test_a_key_that_the_server_steps_by_more_than_one(untold: Database) -> None:
    with untold.begin() as session:
        session.execute(text("SET auto_increment_increment = 5"))
        items = [Item(name=f"n{n}") for n in range(10)]
        session.add_all(items)
        session.flush()

        found = dict(map(tuple, session.execute(select(Item.name, Item.id)).all()))  # type: ignore[arg-type]
        assert {item.name: item.id for item in items}.items() <= found.items()
        session.execute(text("SET auto_increment_increment = 1"))


def test_expressions_come_back_without_returning(untold: Database) -> None:
    with untold.begin() as session:
        made: Any = Item(name=func.concat("a", "b"))
        session.add(made)
        session.flush()
        assert (made.name, made.stock) == ("ab", 7)
        made.stock = Item.stock + 1
        session.flush()
        assert made.stock == 8
        assert session.scalar(select(Item.stock).where(Item.id == made.id)) == 8


def test_a_key_that_nobody_can_tell_is_refused(untold: Database) -> None:
    with untold.session() as session:
        session.add(Dated(name="today"))
        with pytest.raises(NotSupported, match="a key that the server makes"):
            session.flush()
        session.rollback()
        session.add(Dated(name=func.upper("today")))
        with pytest.raises(MissingKey):
            session.flush()


def test_returning_that_the_server_lacks_is_refused_before_it_is_sent(db: Database, untold: Database) -> None:
    statements = [
        update(Item).values(stock=1).returning(Item.id),
        insert(Item).values(name="x").returning(Item),
    ]
    for statement in statements:
        with untold.session() as session, counted(untold) as seen:
            with pytest.raises(ReturningNotSupported):
                session.execute(statement)
            assert seen == []


def test_mysql_is_told_so() -> None:
    """What is sent to a MySQL that nobody connects to."""
    with Database("mysql://nobody@localhost/none") as mysql:
        known = mysql._opened.backend.capabilities
        assert (known.server, known.returning, known.values_table) == ("mysql", False, None)
        newer = open_driver("mysql://nobody@localhost/none", asynchronous=False)
        newer._family.take_facts([("version", "8.4.3"), ("max_allowed_packet", "67108864")])  # type: ignore[attr-defined]
        table = newer.capabilities.values_table
        assert table is not None
        assert table.text.format(names="f0", rows=table.row.format(values="?")) == "(VALUES ROW(?)) AS r(f0)"
        assert "innodb_snapshot_isolation" not in newer._family.setting_up()  # type: ignore[attr-defined]
        locked = select(Item.id).with_for_update(read=True)
        assert str(locked.compile(dialect=newer.dialect)).endswith("FOR SHARE")


def test_a_server_that_is_not_mariadb_is_told(mariadb_url: str) -> None:
    driver = open_driver("mariadb://nobody@localhost/none", asynchronous=False)

    with pytest.raises(ConnectionFailed, match="mysql://"):
        driver._family.take_facts([("version", "8.4.3")])  # type: ignore[attr-defined]


# ---------------------------------------------------------------- what a connection is told


def test_nothing_is_cut_rounded_or_moved(db: Database) -> None:
    rows = [
        Wide(id=0, hour=time(23, 59, 59, 999_999), span=timedelta(days=400, microseconds=1)),
        Wide(id=1, amount=Decimal("12345678901234567890.123456789"), rate=1.1234567890123457),
        Wide(id=2, words="x" * 70_000, data=bytes(range(256)) * 300),
    ]
    held = [{**vars(row)} for row in rows]
    with db.begin() as session:
        session.add_all(rows)
        moment = datetime(2024, 2, 29, 23, 59, 59, 123_456, tzinfo=UTC)
        session.execute(update(Item).where(Item.id == 1).values(made_at=moment))

    with db.session() as session:
        for n, before in enumerate(held):
            found = session.get_one(Wide, n)  # 0 is a key like any other
            given = {c.key: before[c.key] for c in Wide.__table__.c if c.key in before}
            assert {name: getattr(found, name) for name in given} == given
        assert session.get_one(Item, 1).made_at == moment
        with pytest.raises(ValueTooLong) as caught:
            session.execute(text("UPDATE items SET name = 'a name of more than twenty letters'"))
        assert caught.value.column == "name"


LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**20), max_value=10**20),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\'\"`*/\0"))
PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("value"), LITERALS),
        st.tuples(st.just("text"), TEXTS),
        st.tuples(st.just("comment"), TEXTS),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(PIECES)
def test_values_stand_where_their_placeholders_are(
    mariadb_server: str, pieces: list[tuple[str, Any]]
) -> None:
    connection = _kept(mariadb_server)
    parts, params, expected = [], [], []
    for kind, value in pieces:
        if kind == "value":
            parts.append("?")
            params.append(value)
            expected.append(value)
        elif kind == "text":
            parts.append(f"'?{value}''\\'?' \"?\"")
            expected.append(f"?{value}''??")  # texts side by side are one
        else:
            parts.append(f"/* ? {value} */ 1")
            expected.append(1)

    (row,) = connection.fetch("SELECT " + ", ".join(parts), params, False)

    assert [_alike(value) for value in row] == [_alike(value) for value in expected]


_OPEN: dict[str, Any] = {}


def _kept(url: str) -> Any:
    """One connection for all examples."""
    if url not in _OPEN:
        _OPEN[url] = open_driver(url, asynchronous=False).connect()
    return _OPEN[url]


def _alike(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


# ---------------------------------------------------------------- the first statement


def test_the_first_statement_may_ask_for_every_lock(mariadb_url: str) -> None:
    """Before anybody has connected, the server's version is assumed; no lock is refused on that ground."""
    with Database(mariadb_url) as db:
        db.create_all(Base)
    with Database(mariadb_url) as db, db.session() as session:
        assert session.scalars(select(Item).with_for_update(skip_locked=True)).all() == []


def test_what_was_made_on_an_assumption_is_made_anew(mariadb_url: str) -> None:
    """A URL that says MySQL, whose RETURNING is assumed away until the server turns out to be MariaDB."""
    with Database(mariadb_url) as db:
        db.create_all(Base)
    with Database(mariadb_url.replace("mariadb://", "mysql://")) as db:
        with db.begin() as session:
            session.add(Item(name="first"))
        with counted(db) as seen, db.begin() as session:
            session.add(Item(name="second"))

        assert any("RETURNING" in sql for sql in seen)
        assert names(db) == ["first", "second"]
