"""Units of work on MariaDB: what InnoDB makes them replay, what nobody can tell of a commit, and locks by name."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from holdfast import (
    AsyncDatabase,
    AsyncSession,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    select,
)
from holdfast.errors import (
    CommitOutcomeUnknown,
    DeadlockDetected,
    HoldfastError,
    LockTimeout,
    Outcome,
    SerializationFailure,
)
from holdfast.observe import StatementStarted
from holdfast.tx import lock_number
from tests.conftest import ask, end_session, mariadb, own_database
from tests.servers.test_cut_wires import MARIADB
from tests.servers.waiting import poll
from tests.servers.wire import DOWN, RESET, UP, Wire

ONE_SECOND = "SET innodb_lock_wait_timeout = 1"


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


@pytest.fixture
def url(mariadb_url: str) -> str:
    with Database(mariadb_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=1, balance=0), Account(id=2, balance=0)])
    return mariadb_url


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    with Database(url) as opened:
        yield opened


def balances(url: str) -> list[int]:
    with mariadb(url) as connection:
        return [balance for (balance,) in ask(connection, "SELECT balance FROM accounts ORDER BY id")]


# ---------------------------------------------------------------- what is replayed


@pytest.fixture
def locked(url: str) -> Iterator[Callable[[], None]]:
    """Account 1 is locked by somebody, who lets go when this is called."""
    with mariadb(url) as holder:
        ask(holder, "BEGIN")
        ask(holder, "SELECT * FROM accounts WHERE id = 1 FOR UPDATE")
        yield lambda: ask(holder, "COMMIT") and None


def test_a_lock_that_innodb_waited_for_too_long_is_replayed_as_a_whole(
    url: str, locked: Callable[[], None]
) -> None:
    met: list[LockTimeout] = []

    def work(session: Session) -> None:
        session.execute(text(ONE_SECOND))
        session.get_one(Account, 2).balance += 1
        session.flush()
        try:
            session.get_one(Account, 1, with_for_update=True).balance += 1
        except LockTimeout as error:
            met.append(error)
            locked()
            raise

    with Database(url) as db:
        db.run(work)

    assert [error.may_pass for error in met] == [True]
    assert balances(url) == [1, 1]  # what the first attempt had written was rolled back


async def test_a_lock_that_innodb_waited_for_too_long_is_replayed_on_a_loop(
    url: str, locked: Callable[[], None]
) -> None:
    met: list[LockTimeout] = []

    async def work(session: AsyncSession) -> None:
        await session.execute(text(ONE_SECOND))
        (await session.get_one(Account, 2)).balance += 1
        await session.flush()
        try:
            (await session.get_one(Account, 1, with_for_update=True)).balance += 1
        except LockTimeout as error:
            met.append(error)
            locked()
            raise

    async with AsyncDatabase(url) as db:
        await db.run(work)

    assert len(met) == 1
    assert balances(url) == [1, 1]


@pytest.mark.usefixtures("locked")
def test_who_asked_not_to_wait_is_told_once(db: Database) -> None:
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.get_one(Account, 1, with_for_update={"nowait": True})

    with pytest.raises(LockTimeout) as caught:
        db.run(work)

    assert caught.value.may_pass is False
    assert attempts == [1]


def test_a_row_that_changed_since_the_snapshot_is_a_conflict(db: Database, url: str) -> None:
    with db.session() as session:
        session.begin(isolation="REPEATABLE READ")
        first, second = session.get_one(Account, 1), session.get_one(Account, 2)
        second.balance = 5
        session.flush()
        with mariadb(url) as other:
            ask(other, "UPDATE accounts SET balance = 9 WHERE id = 1")
        first.balance += 1

        with pytest.raises(SerializationFailure) as caught:
            session.flush()
        session.rollback()

        assert (caught.value.errno, caught.value.outcome) == (1020, Outcome.NOT_DONE)
    assert balances(url) == [9, 0]


async def test_a_deadlock_among_tasks_is_replayed(url: str) -> None:
    meet, attempts = asyncio.Barrier(2), []

    async with AsyncDatabase(url) as db:

        async def work(first: int, second: int) -> None:
            async def unit(session: AsyncSession) -> None:
                attempts.append(first)
                (await session.get_one(Account, first, with_for_update=True)).balance += 1
                await session.flush()
                if len(attempts) <= 2:
                    await meet.wait()
                (await session.get_one(Account, second, with_for_update=True)).balance += 1

            await db.run(unit)

        await asyncio.gather(work(1, 2), work(2, 1))

    assert balances(url) == [2, 2]
    assert len(attempts) == 3


# ---------------------------------------------------------------- commits that are cut off


def cut(db: Database | AsyncDatabase, wire: Wire, *, lasts: bool) -> None:
    """Break the wire at the first COMMIT: before its last byte is sent, or before its answer comes."""

    def hear(event: object) -> None:
        if isinstance(event, StatementStarted) and event.sql == "COMMIT":
            remove()
            wire.arm(*((DOWN, 1) if lasts else (UP, MARIADB.commit - 1)), RESET)

    remove = db.observers.add(hear)


@pytest.mark.parametrize("lasts", [True, False])
def test_a_commit_that_was_cut_is_unknown_and_never_repeated(url: str, lasts: bool) -> None:
    attempts: list[int] = []
    said: list[str] = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.on_commit(lambda: said.append("committed"))
        session.on_rollback(lambda: said.append("undone"))
        session.get_one(Account, 1).balance += 7

    with Wire(url) as wire, Database(wire.url) as db:
        cut(db, wire, lasts=lasts)
        with pytest.raises(CommitOutcomeUnknown) as caught:
            db.run(work)

        assert db.outcome(caught.value) is Outcome.UNKNOWN
    assert (attempts, said) == ([1], [])
    assert balances(url) == [7 if lasts else 0, 0]


@pytest.mark.parametrize("lasts", [True, False])
async def test_a_commit_that_was_cut_on_a_loop(url: str, lasts: bool) -> None:
    attempts: list[int] = []

    async def work(session: AsyncSession) -> None:
        attempts.append(1)
        (await session.get_one(Account, 1)).balance += 7

    with Wire(url) as wire:
        async with AsyncDatabase(wire.url) as db:
            cut(db, wire, lasts=lasts)
            with pytest.raises(CommitOutcomeUnknown):
                await db.run(work)

    assert attempts == [1]
    assert balances(url) == [7 if lasts else 0, 0]


def test_what_only_read_runs_again(url: str) -> None:
    attempts: list[int] = []

    def work(session: Session) -> int:
        attempts.append(1)
        return len(session.scalars(select(Account)).all())

    with Wire(url) as wire, Database(wire.url) as db:
        cut(db, wire, lasts=True)
        assert db.run(work, read_only=True) == 2

    assert len(attempts) == 2


# ---------------------------------------------------------------- locks by name


def is_free(db: Database, name: str = "report") -> bool:
    with db.begin() as session:
        return session.advisory_lock(name, wait=False)


def test_one_transaction_at_a_time_holds_a_name(db: Database) -> None:
    with db.begin() as one, db.begin() as two, db.begin(read_only=True) as reader:
        assert one.advisory_lock("report") is True
        assert one.advisory_lock("report") is True
        assert two.advisory_lock("report", wait=False) is False
        assert two.advisory_lock("another", wait=False) is True
        assert reader.advisory_lock("report", wait=False) is False

    assert is_free(db)


WAYS_OUT: dict[str, Callable[[Session, str], Any]] = {
    "commit": lambda session, url: session.commit(),
    "rollback": lambda session, url: session.rollback(),
    "close": lambda session, url: session.close(),
    "a commit by hand": lambda session, url: session.execute(text("COMMIT")),
    "a failed statement": lambda session, url: session.execute(text("SELECT nothing")),
    "a kill": lambda session, url: end_session(url, session.scalar(text("SELECT CONNECTION_ID()"))),
    "a deadlock": lambda session, url: lose_a_deadlock(session, url),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_name_is_free_however_its_transaction_ends(way: str, db: Database, url: str) -> None:
    session = db.session()
    assert session.advisory_lock("report") is True

    with suppress(HoldfastError):
        WAYS_OUT[way](session, url)
    session.close()

    assert is_free(db)
    assert db.pool.stats().in_use == 0


def lose_a_deadlock(session: Session, url: str) -> None:
    """Let InnoDB give this transaction up; it takes the one that changed less."""
    session.get_one(Account, 1, with_for_update=True)
    with mariadb(url) as other, mariadb(url) as watcher:
        ask(other, "BEGIN")
        ask(other, "UPDATE accounts SET balance = balance + 1 WHERE id = 2")
        ask(other, "INSERT INTO accounts (id, balance) SELECT seq, 0 FROM seq_10_to_60")
        waits = threading.Thread(target=ask, args=(other, "SELECT * FROM accounts WHERE id = 1 FOR UPDATE"))
        waits.start()
        poll(lambda: "LOCK WAIT" in ask(watcher, "SHOW ENGINE INNODB STATUS")[0][2], "the other waits")
        try:
            session.get_one(Account, 2, with_for_update=True)
        except DeadlockDetected:
            assert holder_of_name(watcher) is None, "it is free before the session is"
            raise
        finally:
            waits.join(30)
    raise AssertionError("there was no deadlock")


def holder_of_name(connection: Any) -> int | None:
    number = lock_number("report")
    ((holder,),) = ask(connection, f"SELECT IS_USED_LOCK(CONCAT(MD5(DATABASE()), '.{number}'))")
    return holder  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_lost_session_leaves_no_name_behind(db: Database, url: str) -> None:
    db.session().advisory_lock("report")
    gc.collect()

    with mariadb(url) as watcher:
        poll(lambda: holder_of_name(watcher) is None, "the name is free")


def test_who_waits_for_a_name_gets_it_when_it_is_free(db: Database, url: str) -> None:
    done: list[str] = []

    def work(session: Session) -> None:
        session.advisory_lock("report")
        done.append("second")

    with db.begin() as one, mariadb(url) as watcher:
        one.advisory_lock("report")
        thread = threading.Thread(target=db.run, args=(work,))
        thread.start()
        poll(lambda: waits_for_a_name(watcher), "the second waits")
        done.append("first")
    thread.join(30)

    assert done == ["first", "second"]


def waits_for_a_name(watcher: Any) -> bool:
    (count,) = ask(watcher, "SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock'")[
        0
    ]
    return bool(count)


async def test_a_task_cancelled_while_it_waits_holds_nothing(url: str) -> None:
    async with AsyncDatabase(url) as db:
        async with db.begin() as one:
            await one.advisory_lock("report")

            async def wait() -> None:
                async with db.begin() as two:
                    await two.advisory_lock("report")

            task = asyncio.create_task(wait())
            with mariadb(url) as watcher:
                await asyncio.to_thread(poll, lambda: waits_for_a_name(watcher), "it waits")
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()

        async with db.begin() as three:
            assert await three.advisory_lock("report", wait=False) is True
        assert db.pool.stats().in_use == 0


async def test_a_name_is_free_after_each_transaction_on_a_loop(url: str) -> None:
    async with AsyncDatabase(url) as db:
        for _ in range(3):
            async with db.begin() as session:
                assert await session.advisory_lock("report", wait=False) is True
        async with db.session() as session:
            assert await session.advisory_lock("report", wait=False) is True
            with suppress(HoldfastError):
                await session.execute(text("COMMIT"))
        async with db.begin() as one, db.begin() as two:
            assert await one.advisory_lock("report", wait=False) is True
            assert await two.advisory_lock("report", wait=False) is False


def test_databases_of_one_server_have_names_of_their_own(db: Database, mariadb_server: str) -> None:
    with (
        own_database(mariadb_server, "holdfast_test_names") as beside,
        Database(beside) as other,
        db.begin() as one,
        other.begin() as two,
    ):
        assert one.advisory_lock("report", wait=False) is True
        assert two.advisory_lock("report", wait=False) is True
