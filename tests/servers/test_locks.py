"""Row locks: every form of ``with_for_update``, the transaction it opens, and what a server says that has none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, text, update
from sqlalchemy.dialects import postgresql

from holdfast import (
    AsyncDatabase,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    relationship,
    select,
)
from holdfast.errors import DatabaseBusy, InvalidRequestError, LockNotSupported, LockTimeout, ReadOnly
from tests.conftest import ask, mariadb
from tests.servers.waiting import poll, wait_for_waiters


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="new")
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"), default=1)
    owner: Mapped[Owner] = relationship()


Boss = aliased(Owner, name="boss")
Join = select(Job, Owner).join(Job.owner)
AliasJoin = select(Job, Boss).join(Job.owner.of_type(Boss))

FORMS: dict[str, tuple[Any, str]] = {
    "plain": (select(Job).with_for_update(), "FOR UPDATE"),
    "nowait": (select(Job).with_for_update(nowait=True), "FOR UPDATE NOWAIT"),
    "skip_locked": (select(Job).with_for_update(skip_locked=True), "FOR UPDATE SKIP LOCKED"),
    "read": (select(Job).with_for_update(read=True), "FOR SHARE"),
    "key_share": (select(Job).with_for_update(key_share=True), "FOR NO KEY UPDATE"),
    "read, key_share": (select(Job).with_for_update(read=True, key_share=True), "FOR KEY SHARE"),
    "of a class": (Join.with_for_update(of=Owner), "FOR UPDATE OF owners"),
    "of classes": (Join.with_for_update(of=[Owner, Job]), "FOR UPDATE OF owners, jobs"),
    "of a column": (Join.with_for_update(of=Job.id), "FOR UPDATE OF jobs"),
    "of columns": (Join.with_for_update(of=(Job.id, Job.state, Owner.id)), "FOR UPDATE OF jobs, owners"),
    "of an alias": (AliasJoin.with_for_update(of=Boss), "FOR UPDATE OF boss"),
    "of an alias's column": (AliasJoin.with_for_update(of=Boss.id), "FOR UPDATE OF boss"),
    "of a table": (Join.with_for_update(of=Job.__table__), "FOR UPDATE OF jobs"),
    "all words": (
        Join.with_for_update(of=Job, read=True, key_share=True, nowait=True),
        "FOR KEY SHARE OF jobs NOWAIT",
    ),
}
ON_SQLITE = {"plain", *(name for name in FORMS if name.startswith("of "))}
INSIDE: dict[str, Any] = {
    "a subquery": select(Job).where(Job.id.in_(select(Job.id).limit(1).with_for_update(skip_locked=True))),
    "a CTE": select(Job).join(
        free := select(Job.id).limit(1).with_for_update(skip_locked=True).cte("free"), Job.id == free.c.id
    ),
    "a change": update(Job)
    .where(Job.id.in_(select(Job.id).limit(1).with_for_update(skip_locked=True)))
    .values(state="taken")
    .returning(Job),
}
GETS: dict[str, Any] = {
    "True": True,
    "{}": {},
    "nowait": {"nowait": True},
    "of": {"of": Job},
    "read": {"read": True, "key_share": True, "skip_locked": True},
    "SQLAlchemy's": sa.sql.selectable.ForUpdateArg(nowait=True),
}


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    yield from filled(database_url)


@pytest.fixture
def pg(postgresql_url: str) -> Iterator[Database]:
    yield from filled(postgresql_url)


@pytest.fixture
def lite(sqlite_url: str) -> Iterator[Database]:
    yield from filled(f"{sqlite_url}?timeout=0.05")


def filled(url: str) -> Iterator[Database]:
    with Database(url) as opened:
        opened.create_all(Base)
        with opened.begin() as session:
            session.add(Owner(id=1))
            session.add_all([Job(id=n) for n in (1, 2, 3)])
        yield opened


def row_locks(session: Session) -> set[str]:
    """The tables this very connection holds row locks in: a lock that another one took is not among them."""
    return set(
        session.scalars(
            text(
                "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid()"
                " AND mode IN ('RowShareLock', 'RowExclusiveLock') AND relation::regclass::text IN ('jobs', 'owners')"
            )
        )
    )


# ---------------------------------------------------------------- forms on PostgreSQL


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_said_to_the_server_in_a_transaction_it_keeps(pg: Database, name: str) -> None:
    statement, words = FORMS[name]
    assert pg.plan(statement).sql.partition("FOR ")[1:] == ("FOR ", words.removeprefix("FOR "))
    assert words in str(statement.compile(dialect=postgresql.dialect()))

    for _ in range(2):  # as a new plan, and as a known one
        with pg.session() as session:
            assert len(session.execute(statement).all()) == 3

            assert session.in_transaction()
            assert row_locks(session) == locked_tables(words)


def locked_tables(words: str) -> set[str]:
    """The tables that a form locks rows of, by what it says."""
    named = words.partition(" OF ")[2].removesuffix(" NOWAIT")
    return set(named.replace("boss", "owners").split(", ")) if named else {"jobs"}


@pytest.mark.parametrize("name", INSIDE)
def test_a_lock_inside_a_statement_is_kept_too(pg: Database, name: str) -> None:
    with pg.session() as session, pg.session() as other:
        (mine,) = session.scalars(INSIDE[name]).all()
        assert session.in_transaction()

        (theirs,) = other.scalars(INSIDE[name]).all()

        assert mine.id != theirs.id


@pytest.mark.parametrize("name", GETS)
def test_get_and_refresh_take_every_form(pg: Database, name: str) -> None:
    with pg.session() as session:
        job = session.get_one(Job, 1)
        assert not session.in_transaction()

        session.refresh(job, with_for_update=GETS[name])
        assert session.in_transaction()
        assert "jobs" in row_locks(session)
        session.rollback()
        assert session.get(Job, 1, with_for_update=GETS[name]) is job

        assert session.in_transaction()
        with pg.session() as other:
            free = other.scalars(select(Job.id).order_by(Job.id).with_for_update(skip_locked=True)).all()
        assert free == [2, 3]


@pytest.mark.parametrize("nothing", [None, False])
def test_get_without_a_lock_opens_nothing(db: Database, nothing: Any) -> None:
    with db.session() as session:
        job = session.get_one(Job, 1, with_for_update=nothing)
        session.refresh(job, with_for_update=nothing)

        assert not session.in_transaction()


@pytest.mark.parametrize("wrong", ["nowait", {"no_wait": True}, 1])
def test_get_tells_of_a_form_there_is_not(db: Database, wrong: Any) -> None:
    with (
        db.session() as session,
        pytest.raises(InvalidRequestError, match=r'with_for_update=\{"nowait": True\}'),
    ):
        session.get(Job, 1, with_for_update=wrong)


def test_a_locked_object_is_as_its_row_is(db: Database) -> None:
    """What was read before the lock may have been changed by who held it."""
    with db.session() as session:
        job = session.get_one(Job, 1)
        with db.begin() as other:
            other.get_one(Job, 1).state = "done"

        assert session.get(Job, 1, with_for_update=True) is job

        assert job.state == "done"


# ---------------------------------------------------------------- waiting


def test_a_lock_waits_for_its_turn(pg: Database, postgresql_url: str) -> None:
    seen: list[str] = []

    def wait() -> None:
        with pg.begin() as other:
            seen.append(other.get_one(Job, 1, with_for_update=True).state)

    with pg.session() as session, psycopg.connect(postgresql_url, autocommit=True) as watcher:
        session.get_one(Job, 1, with_for_update=True).state = "done"
        thread = threading.Thread(target=wait)
        thread.start()
        wait_for_waiters(watcher, 1)
        assert seen == []
        session.commit()
        thread.join()

    assert seen == ["done"]


WAITS: dict[str, Callable[[Session], object]] = {
    "nowait": lambda s: s.get(Job, 1, with_for_update={"nowait": True}),
    "lock_timeout": lambda s: (
        s.execute(text("SET LOCAL lock_timeout = '10ms'")),
        s.scalars(select(Job).with_for_update()).all(),
    ),
    "an update": lambda s: (
        s.execute(text("SET LOCAL lock_timeout = '10ms'")),
        s.execute(update(Job).values(state="x")),
    ),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_lock_that_is_not_free_in_time_is_told(pg: Database, name: str) -> None:
    with pg.session() as holder, pg.session() as session:
        holder.get(Job, 1, with_for_update=True)
        session.begin()

        with pytest.raises(LockTimeout, match=r"session.rollback\(\).*skip_locked=True") as caught:
            WAITS[name](session)

        assert caught.value.sqlstate == "55P03"
        session.rollback()
        assert len(session.scalars(select(Job).with_for_update(skip_locked=True)).all()) == 2


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_async_drivers_lock_and_tell(pg: Database, postgresql_url: str, driver: str) -> None:
    url = postgresql_url.replace("://", f"+{driver}://", 1)
    async with AsyncDatabase(url) as db, db.session() as holder, db.session() as session:
        await holder.get(Job, 1, with_for_update=True)
        assert holder.in_transaction()
        free = await session.scalars(select(Job.id).order_by(Job.id).with_for_update(skip_locked=True))
        assert free.all() == [2, 3]
        await session.rollback()

        with pytest.raises(LockTimeout):
            await session.scalars(select(Job).with_for_update(nowait=True))


# ---------------------------------------------------------------- MariaDB

ON_MARIADB: dict[str, tuple[Any, str]] = {
    "plain": (select(Job).with_for_update(), " FOR UPDATE"),
    "nowait": (select(Job).with_for_update(nowait=True), " FOR UPDATE NOWAIT"),
    "skip_locked": (select(Job).with_for_update(skip_locked=True), " FOR UPDATE SKIP LOCKED"),
    "read": (select(Job).with_for_update(read=True), " LOCK IN SHARE MODE"),
    "read, nowait": (select(Job).with_for_update(read=True, nowait=True), " LOCK IN SHARE MODE NOWAIT"),
    "of a class": (Join.with_for_update(of=Owner), " FOR UPDATE"),  # it locks the rows of both tables
}


@pytest.fixture
def maria(mariadb_url: str) -> Iterator[Database]:
    yield from filled(mariadb_url)


@pytest.mark.parametrize("name", ON_MARIADB)
def test_each_form_is_said_to_mariadb_in_a_transaction_it_keeps(maria: Database, name: str) -> None:
    statement, words = ON_MARIADB[name]
    assert maria.plan(statement).sql.endswith(words)

    with maria.session() as session, maria.session() as other:
        session.execute(statement).all()

        assert session.in_transaction()
        free = select(Job.id).order_by(Job.id).with_for_update(skip_locked=True)
        assert other.scalars(free).all() == []
        readers = select(Job).with_for_update(
            read=True, nowait=True
        )  # ids alone would be read and locked in an index
        if "read" in name:
            assert len(other.scalars(readers).all()) == 3
        else:
            with pytest.raises(LockTimeout):
                other.scalars(readers)


def test_a_lock_waits_for_its_turn_on_mariadb(maria: Database, mariadb_url: str) -> None:
    seen: list[str] = []

    def wait() -> None:
        with maria.begin() as other:
            seen.append(other.get_one(Job, 1, with_for_update=True).state)

    with maria.session() as session, mariadb(mariadb_url) as watcher:
        session.get_one(Job, 1, with_for_update=True).state = "done"
        thread = threading.Thread(target=wait)
        thread.start()
        poll(lambda: "LOCK WAIT" in ask(watcher, "SHOW ENGINE INNODB STATUS")[0][2], "the other waits")
        assert seen == []
        session.commit()
        thread.join()

    assert seen == ["done"]


@pytest.mark.parametrize("words", [{"key_share": True}, {"key_share": True, "read": True}], ids=str)
def test_what_mariadb_has_not_is_refused_before_anything_is_sent(
    maria: Database, words: dict[str, bool]
) -> None:
    with maria.session() as session:
        with pytest.raises(LockNotSupported, match="key_share=True"):
            session.scalars(select(Job).with_for_update(**words))

        assert not session.in_transaction()


async def test_asyncmy_locks_and_tells(maria: Database, mariadb_url: str) -> None:
    async with AsyncDatabase(mariadb_url) as db, db.session() as holder, db.session() as session:
        await holder.get(Job, 1, with_for_update=True)
        assert holder.in_transaction()
        free = await session.scalars(select(Job.id).order_by(Job.id).with_for_update(skip_locked=True))
        assert free.all() == [2, 3]

        with pytest.raises(LockTimeout):
            await session.scalars(select(Job).with_for_update(nowait=True))
        assert session.in_transaction()  # the statement is undone, and nothing else


# ---------------------------------------------------------------- SQLite, and read-only transactions


@pytest.mark.parametrize("name", sorted(ON_SQLITE))
def test_on_sqlite_a_plain_lock_is_the_write_transaction(lite: Database, name: str) -> None:
    for _ in range(2):
        with lite.session() as session, lite.session() as other:
            assert len(session.execute(FORMS[name][0]).all()) == 3
            assert session.in_transaction()

            with pytest.raises(DatabaseBusy):
                other.get(Job, 3, with_for_update=True)
            assert other.get_one(Job, 3).state == "new"  # readers do not wait


@pytest.mark.parametrize("name", [*sorted(FORMS.keys() - ON_SQLITE), *INSIDE])
def test_what_sqlite_has_not_is_refused_before_anything_is_sent(lite: Database, name: str) -> None:
    statement = FORMS[name][0] if name in FORMS else INSIDE[name]
    for _ in range(2):
        with lite.session() as session:
            with pytest.raises(
                LockNotSupported, match=r"sqlite has no row lock with (\w+=True).*Leave \1 out"
            ):
                session.execute(statement)

            assert not session.in_transaction()
            assert len(session.scalars(select(Job)).all()) == 3


@pytest.mark.parametrize("words", [{"nowait": True}, {"skip_locked": True}, {"read": True}])
def test_get_and_refresh_refuse_it_too(lite: Database, words: dict[str, bool]) -> None:
    with lite.session() as session:
        job = session.get_one(Job, 1)

        with pytest.raises(LockNotSupported):
            session.get(Job, 1, with_for_update=words)
        with pytest.raises(LockNotSupported):
            session.refresh(job, with_for_update=words)


@pytest.mark.parametrize("name", ["plain", "of a class"])
def test_a_read_only_transaction_takes_no_lock(db: Database, name: str) -> None:
    with pytest.raises(ReadOnly, match=r"db\.begin"), db.begin(read_only=True) as session:
        session.execute(FORMS[name][0])
