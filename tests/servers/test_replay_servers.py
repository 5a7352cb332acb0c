"""Units of work that meet on real servers: conflicts, deadlocks, lost connections, cut commits."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import text

from holdfast import (
    AsyncDatabase,
    AsyncSession,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    Versioned,
    mapped_column,
    select,
)
from holdfast.errors import CommitOutcomeUnknown, ConnectionLost, Outcome, SerializationFailure
from holdfast.observe import StatementStarted
from tests.conftest import SESSION_NUMBER, ask, end_session, mariadb
from tests.servers.conftest import Bounced
from tests.servers.test_cut_wires import POSTGRESQL
from tests.servers.wire import DOWN, RESET, UP, Wire

ACCOUNTS, START, WORKERS, TRANSFERS = 4, 1000, 6, 20


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    moves: Mapped[int] = mapped_column(default=0)


class Page(Versioned, Base):
    __tablename__ = "pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    views: Mapped[int]


@pytest.fixture
def filled_url(database_url: str) -> str:
    with Database(database_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])
    return database_url


def state(url: str) -> tuple[int, int]:
    """(the sum of all balances, the number of moves that lasted)."""
    with Database(url) as db:
        accounts = db.run(lambda session: session.scalars(select(Account)).all(), read_only=True)
    return sum(a.balance for a in accounts), sum(a.moves for a in accounts)


def move(session: Session, source: int, target: int, amount: int) -> None:
    accounts = {a.id: a for a in session.scalars(select(Account).where(Account.id.in_([source, target])))}
    accounts[source].balance -= amount
    accounts[target].balance += amount
    accounts[source].moves += 1


def server_of(url: str) -> str:
    return url.partition(":")[0]


def with_driver(url: str, driver: str) -> str:
    return url.replace("://", f"+{driver}://", 1)


def turns(seed: int) -> list[tuple[int, int, int]]:
    chance = random.Random(seed)
    return [(*chance.sample(range(1, ACCOUNTS + 1), 2), chance.randrange(1, 50)) for _ in range(TRANSFERS)]


# ---------------------------------------------------------------- bank transfers


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_no_transfer_is_lost_or_half_done(filled_url: str, isolation: str) -> None:
    with Database(filled_url, pool_size=WORKERS) as db:
        transfer = db.transaction(isolation=isolation, retries=200)(move)
        failed = _in_threads(lambda seed: [transfer(*turn) for turn in turns(seed)])

    assert failed == []
    assert state(filled_url) == (ACCOUNTS * START, WORKERS * TRANSFERS)


def test_no_transfer_is_lost_behind_a_pooler(bounced: Bounced) -> None:
    url = bounced.url
    with Database(url, pooler="transaction", pool_size=WORKERS) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])

        @db.transaction(isolation="REPEATABLE READ", retries=200)
        def transfer(session: Session, *turn: int) -> None:
            assert session.advisory_lock("transfers")
            move(session, *turn)

        failed = _in_threads(lambda seed: [transfer(*turn) for turn in turns(seed)[:5]])

    assert failed == []
    assert state(bounced.direct) == (ACCOUNTS * START, WORKERS * 5)


def test_without_replay_transfers_fail(wired_url: str) -> None:
    with Database(wired_url, pool_size=WORKERS) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])
        meet = threading.Barrier(2)

        def work(session: Session) -> None:
            accounts = session.scalars(select(Account)).all()
            meet.wait(10)
            accounts[0].balance += 1

        errors: list[BaseException] = []

        def run() -> None:
            try:
                db.run(work, isolation="REPEATABLE READ", retries=0)
            except SerializationFailure as error:
                errors.append(error)

        both = [threading.Thread(target=run) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()

    assert len(errors) == 1


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_no_transfer_is_lost_among_tasks(async_database_url: str, isolation: str) -> None:
    async with AsyncDatabase(async_database_url, pool_size=WORKERS) as db:
        await db.create_all(Base)
        await db.run(fill)
        assert await _in_tasks(db, isolation) == []
        async with db.session() as session:
            accounts = (await session.scalars(select(Account))).all()

    assert sum(a.balance for a in accounts) == ACCOUNTS * START
    assert sum(a.moves for a in accounts) == WORKERS * TRANSFERS


@pytest.fixture(params=["postgresql", "mariadb"])
def terminated(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server on which another process ends sessions at random; it must have ended some."""
    url = str(request.getfixturevalue(f"{request.param}_url"))
    with Database(url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])
    spawn = multiprocessing.get_context("spawn")
    begun, stop = spawn.Event(), spawn.Event()
    killer = spawn.Process(target=_terminate, args=(url, begun, stop))
    killer.start()
    assert begun.wait(60)
    yield url
    stop.set()
    killer.join(60)
    assert killer.exitcode == 0, "nobody was terminated"


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_the_total_is_conserved_while_backends_are_terminated(terminated: str, isolation: str) -> None:
    with Database(terminated, pool_size=WORKERS, pool_pre_ping=True) as db:
        transfer = db.transaction(isolation=isolation, retries=500)(move)
        unknown: list[CommitOutcomeUnknown] = []

        def work(seed: int) -> None:
            for turn in turns(seed):
                try:
                    transfer(*turn)
                except CommitOutcomeUnknown as error:
                    unknown.append(error)

        failed = _in_threads(work)

    assert failed == []
    assert_conserved(terminated, unknown)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize(
    ("terminated", "driver"),
    [("postgresql", "psycopg"), ("postgresql", "asyncpg"), ("mariadb", "asyncmy")],
    indirect=["terminated"],
)
async def test_the_total_is_conserved_among_tasks_while_backends_are_terminated(
    terminated: str, driver: str, isolation: str
) -> None:
    async with AsyncDatabase(with_driver(terminated, driver), pool_size=WORKERS, pool_pre_ping=True) as db:
        unknown = await _in_tasks(db, isolation)

    assert_conserved(terminated, unknown)


def assert_conserved(url: str, unknown: list[CommitOutcomeUnknown]) -> None:
    """No transfer is half done, none done twice; nobody but a server that cannot be asked leaves any in doubt."""
    total, moves = state(url)

    assert total == ACCOUNTS * START
    assert WORKERS * TRANSFERS - len(unknown) <= moves <= WORKERS * TRANSFERS
    assert not unknown or server_of(url) == "mariadb"


async def fill(session: AsyncSession) -> None:
    session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])


async def _in_tasks(db: AsyncDatabase, isolation: str) -> list[CommitOutcomeUnknown]:
    """Let tasks transfer; answers the commits whose outcome nobody knows."""
    unknown: list[CommitOutcomeUnknown] = []

    @db.transaction(isolation=isolation, retries=500)
    async def transfer(session: AsyncSession, source: int, target: int, amount: int) -> None:
        both = select(Account).where(Account.id.in_([source, target]))
        accounts = {a.id: a for a in await session.scalars(both)}
        accounts[source].balance -= amount
        accounts[target].balance += amount
        accounts[source].moves += 1

    async def worker(seed: int) -> None:
        for turn in turns(seed):
            try:
                await transfer(*turn)
            except CommitOutcomeUnknown as error:
                unknown.append(error)

    await asyncio.gather(*map(worker, range(WORKERS)))
    return unknown


def _in_threads(work: Any) -> list[BaseException]:
    failed: list[BaseException] = []

    def run(seed: int) -> None:
        try:
            work(seed)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def _terminate(url: str, begun: Any, stop: Any) -> None:
    """End somebody's server process every few milliseconds, in a process of its own."""
    ended = 0
    with _killer(url) as end_one:
        begun.set()
        while not stop.wait(0.02):
            ended += end_one()
    raise SystemExit(0 if ended else 1)


@contextmanager
def _killer(url: str) -> Iterator[Callable[[], int]]:
    """What ends one session of a database, and says how many it has ended."""
    if url.startswith("mariadb"):
        with mariadb(url) as connection:
            yield lambda: _kill_one(connection)
        return
    someone = (
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database() AND query <> '' ORDER BY random() LIMIT 1) AS one"
    )
    with psycopg.connect(url, autocommit=True) as asked:
        yield lambda: sum(count for (count,) in asked.execute(someone))


def _kill_one(connection: Any) -> int:
    others = ask(
        connection,
        "SELECT id FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID() ORDER BY rand() LIMIT 1",
    )
    try:
        for (number,) in others:
            ask(connection, f"KILL {number}")
    except pymysql.MySQLError:  # it went by itself
        return 0
    return len(others)


# ---------------------------------------------------------------- conflicts one by one


def test_a_deadlock_is_replayed(wired_url: str) -> None:
    with Database(wired_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=1, balance=0), Account(id=2, balance=0)])
        meet, attempts = threading.Barrier(2), []

        def work(first: int, second: int) -> None:
            def unit(session: Session) -> None:
                attempts.append(first)
                session.get(Account, first, with_for_update=True).balance += 1
                session.flush()
                if len(attempts) <= 2:
                    meet.wait(10)
                session.get(Account, second, with_for_update=True).balance += 1

            db.run(unit)

        threads = [threading.Thread(target=work, args=pair) for pair in ((1, 2), (2, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        with db.session() as session:
            assert [a.balance for a in session.scalars(select(Account))] == [2, 2]
    assert len(attempts) == 3


def test_a_conflict_that_the_work_swallowed_is_replayed(wired_url: str) -> None:
    with Database(wired_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add(Account(id=1, balance=0))
        attempts = []

        def work(session: Session) -> None:
            account = session.get(Account, 1)
            attempts.append(account.balance)
            if len(attempts) == 1:
                with db.begin() as other:
                    other.get(Account, 1).balance = 10
            account.balance += 1
            with suppress(SerializationFailure):
                session.flush()

        db.run(work, isolation="REPEATABLE READ")

        with db.session() as session:
            assert session.get_one(Account, 1).balance == 11
    assert attempts == [0, 10]


def test_a_version_that_somebody_else_raised_is_read_again(wired_url: str) -> None:
    with Database(wired_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add(Page(id=1, views=0))
        attempts: list[int] = []

        def work(session: Session) -> None:
            page = session.get_one(Page, 1)
            attempts.append(page.views)
            if len(attempts) == 1:
                with db.begin() as other:
                    other.get_one(Page, 1).views = 10
            page.views += 1

        db.run(work)

        with db.session() as session:
            assert session.get_one(Page, 1).views == 11
    assert attempts == [0, 10]


def test_a_connection_lost_before_the_commit_is_replayed(wired_url: str) -> None:
    with Database(wired_url) as db:
        db.create_all(Base)
        attempts = []

        def work(session: Session) -> None:
            attempts.append(1)
            session.add(Account(id=1, balance=0))
            session.flush()
            if len(attempts) == 1:
                end_session(wired_url, session.scalar(text(SESSION_NUMBER[server_of(wired_url)])))
                session.scalar(text("SELECT 1"))

        db.run(work)

    assert len(attempts) == 2
    assert state(wired_url) == (0, 0)


# ---------------------------------------------------------------- commits that are cut off


@dataclass(frozen=True)
class Cut:
    """A wire that breaks at the first COMMIT, before the server has all of it or before the client has the answer."""

    wire: Wire
    lasts: bool

    def through(self, db: Database | AsyncDatabase) -> None:
        """Break the wire under a database whose URL leads through it."""

        def hear(event: object) -> None:
            if isinstance(event, StatementStarted) and event.sql == "COMMIT":
                remove()
                direction, after = (DOWN, 1) if self.lasts else (UP, POSTGRESQL.commit - 1)
                self.wire.arm(direction, after, RESET)

        remove = db.observers.add(hear)


@pytest.fixture(params=[True, False], ids=["committed", "not committed"])
def cut(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[Cut]:
    with Database(postgresql_url) as db:
        db.create_all(Base)
    with Wire(postgresql_url) as wire:
        yield Cut(wire, request.param)


def test_a_commit_that_was_cut_is_looked_up_and_never_done_twice(cut: Cut, postgresql_url: str) -> None:
    attempts: list[int] = []
    said: list[str] = []

    def work(session: Session) -> str:
        attempts.append(1)
        session.add(Account(balance=7, moves=1))
        session.on_commit(lambda: said.append("committed"))
        session.on_rollback(lambda: said.append("undone"))
        return "answer"

    with Database(cut.wire.url) as db:
        cut.through(db)
        assert db.run(work) == "answer"

    assert state(postgresql_url) == (7, 1)
    assert said == ["committed"]
    assert len(attempts) == (1 if cut.lasts else 2)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_cut_commit_on_an_event_loop(cut: Cut, driver: str, postgresql_url: str) -> None:
    attempts: list[int] = []

    async def work(session: AsyncSession) -> str:
        attempts.append(1)
        session.add(Account(balance=7, moves=1))
        return "answer"

    async with AsyncDatabase(cut.wire.through(driver)) as db:
        cut.through(db)
        assert await db.run(work) == "answer"

    assert state(postgresql_url) == (7, 1)
    assert len(attempts) == (1 if cut.lasts else 2)


def test_without_a_number_the_outcome_is_unknown_and_said_so(cut: Cut) -> None:
    attempts: list[int] = []
    said: list[str] = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.on_commit(lambda: said.append("committed"))
        session.on_rollback(lambda: said.append("undone"))
        session.add(Account(balance=7))

    with Database(cut.wire.url) as db:
        cut.through(db)
        with pytest.raises(CommitOutcomeUnknown, match=r"db\.outcome") as caught:
            db.run(work, resolve=False)

        assert caught.value.outcome is Outcome.UNKNOWN
        assert db.outcome(caught.value) is Outcome.UNKNOWN
    assert len(attempts) == 1
    assert said == []  # to say either would be a guess


def test_a_block_that_resolves_ends_well_or_says_not_done(cut: Cut, postgresql_url: str) -> None:
    account = Account(balance=7, moves=1)
    outcome = Outcome.DONE
    with Database(cut.wire.url) as db:
        cut.through(db)
        try:
            with db.begin(resolve=True) as session:
                session.add(account)
        except ConnectionLost as error:
            outcome = error.outcome

    assert outcome is (Outcome.DONE if cut.lasts else Outcome.NOT_DONE)
    assert (account.id is None) is not cut.lasts  # the object is what its row is
    assert state(postgresql_url) == ((7, 1) if cut.lasts else (0, 0))


def test_what_only_read_is_not_done_and_runs_again(cut: Cut) -> None:
    attempts: list[int] = []

    def work(session: Session) -> int:
        attempts.append(1)
        return len(session.scalars(select(Account)).all())

    with Database(cut.wire.url) as db:
        cut.through(db)
        assert db.run(work, read_only=True) == 0

    assert len(attempts) == 2


def test_an_outcome_can_be_asked_for_later(cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(cut.wire.url) as db:
        cut.through(db)
        session = db.session()
        session.begin(resolve=True)
        session.add(Account(balance=7))
        monkeypatch.setattr(db, "outcome", lambda error: Outcome.UNKNOWN)
        with pytest.raises(CommitOutcomeUnknown) as caught:
            session.commit()
        session.close()
        monkeypatch.undo()

        outcome = Outcome.DONE if cut.lasts else Outcome.NOT_DONE
        assert db.outcome(caught.value) is outcome
        assert db.outcome(pickle.loads(pickle.dumps(caught.value))) is outcome

        number, servers = caught.value.transaction, db._opened.backend.identities
        again = CommitOutcomeUnknown(transaction=replace(number, started="before"))
        servers["before"] = servers[number.started]  # as if this server had been started anew since
        assert db.outcome(again) is outcome
        servers["before"] = ("another", "server")
        assert db.outcome(again) is Outcome.UNKNOWN


# ---------------------------------------------------------------- advisory locks


def test_one_transaction_at_a_time_holds_a_name(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        with db.begin() as one, db.begin() as two, db.begin(read_only=True) as reader:
            assert one.advisory_lock("report") is True
            assert two.advisory_lock("report", wait=False) is False
            assert two.advisory_lock("another", wait=False) is True
            assert reader.advisory_lock("report", wait=False) is False
        with db.begin() as two:
            assert two.advisory_lock("report", wait=False) is True


def test_who_waits_for_a_name_gets_it_when_it_is_free(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        done: list[str] = []

        def work(session: Session) -> None:
            session.advisory_lock("report")
            session.on_commit(lambda: done.append("second"))

        with db.begin() as one:
            one.advisory_lock("report")
            thread = threading.Thread(target=db.run, args=(work,))
            thread.start()
            with db.session() as other:
                wait_until_blocked(other)
            done.append("first")
        thread.join(30)

    assert done == ["first", "second"]


def wait_until_blocked(session: Session) -> None:
    asked = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    deadline = time.monotonic() + 30
    while session.scalar(asked) == 0:
        assert time.monotonic() < deadline
