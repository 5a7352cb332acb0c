"""Units of work that meet on real servers: conflicts, deadlocks, lost connections, cut commits."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from holdfast import AsyncDatabase, Database, DeclarativeBase, Mapped, mapped_column, select
from holdfast.errors import CommitOutcomeUnknown, ConnectionLost, Outcome, SerializationFailure

ACCOUNTS, START, WORKERS, TRANSFERS = 4, 1000, 6, 20


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    moves: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def filled_url(database_url: str) -> str:
    with Database(database_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])
    return database_url


def state(url: str) -> tuple[int, int]:
    """(the sum of all balances, the number of moves that lasted)."""
    with Database(url) as db, db.session() as session:
        accounts = session.scalars(select(Account)).all()
        return sum(a.balance for a in accounts), sum(a.moves for a in accounts)


def move(session: Any, source: int, target: int, amount: int) -> None:
    accounts = {a.id: a for a in session.scalars(select(Account).where(Account.id.in_([source, target])))}
    accounts[source].balance -= amount
    accounts[target].balance += amount
    accounts[source].moves += 1


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


def test_without_replay_transfers_fail(postgresql_url: str) -> None:
    with Database(postgresql_url, pool_size=WORKERS) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])
        meet = threading.Barrier(2)

        def work(session: Any) -> None:
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


async def test_no_transfer_is_lost_among_tasks(async_database_url: str) -> None:
    async with AsyncDatabase(async_database_url, pool_size=WORKERS) as db:
        await db.create_all(Base)
        async with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])

        @db.transaction(isolation="SERIALIZABLE", retries=200)
        async def transfer(session: Any, source: int, target: int, amount: int) -> None:
            both = select(Account).where(Account.id.in_([source, target]))
            accounts = {a.id: a for a in await session.scalars(both)}
            accounts[source].balance -= amount
            accounts[target].balance += amount
            accounts[source].moves += 1

        async def worker(seed: int) -> None:
            for turn in turns(seed):
                await transfer(*turn)

        await asyncio.gather(*map(worker, range(WORKERS)))
        async with db.session() as session:
            accounts = (await session.scalars(select(Account))).all()

    assert sum(a.balance for a in accounts) == ACCOUNTS * START
    assert sum(a.moves for a in accounts) == WORKERS * TRANSFERS


def test_the_total_is_conserved_while_backends_are_terminated(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=n, balance=START) for n in range(1, ACCOUNTS + 1)])
    stop = multiprocessing.get_context("spawn").Event()
    killer = multiprocessing.get_context("spawn").Process(target=_terminate, args=(postgresql_url, stop))
    killer.start()
    try:
        with Database(postgresql_url, pool_size=WORKERS, pool_pre_ping=True) as db:
            transfer = db.transaction(isolation="SERIALIZABLE", retries=500)(move)
            failed = _in_threads(lambda seed: [transfer(*turn) for turn in turns(seed)])
    finally:
        stop.set()
        killer.join(20)

    assert killer.exitcode == 0, "nobody was terminated"
    assert failed == []
    assert state(postgresql_url) == (ACCOUNTS * START, WORKERS * TRANSFERS)


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


def _terminate(url: str, stop: Any) -> None:
    """End somebody's server process every few milliseconds, in a process of its own."""
    import psycopg

    someone = (
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database() AND query LIKE '%accounts%' ORDER BY random() LIMIT 1) AS one"
    )
    ended = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.wait(0.02):
            ended += connection.execute(someone).fetchone()[0]  # type: ignore[index]
    raise SystemExit(0 if ended else 1)


# ---------------------------------------------------------------- conflicts one by one


def test_a_deadlock_is_replayed(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Account(id=1, balance=0), Account(id=2, balance=0)])
        meet, attempts = threading.Barrier(2), []

        def work(first: int, second: int) -> None:
            def unit(session: Any) -> None:
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


def test_a_conflict_that_the_work_swallowed_is_replayed(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add(Account(id=1, balance=0))
        attempts = []

        def work(session: Any) -> None:
            account = session.get(Account, 1)
            attempts.append(account.balance)
            if len(attempts) == 1:
                with db.begin() as other:
                    other.get(Account, 1).balance = 10
            account.balance += 1
            try:
                session.flush()
            except SerializationFailure:
                pass

        db.run(work, isolation="REPEATABLE READ")

        with db.session() as session:
            assert session.get_one(Account, 1).balance == 11
    assert attempts == [0, 10]


def test_a_connection_lost_before_the_commit_is_replayed(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
        attempts = []

        def work(session: Any) -> None:
            attempts.append(1)
            session.add(Account(id=1, balance=0))
            session.flush()
            if len(attempts) == 1:
                session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        db.run(work)

    assert len(attempts) == 2
    assert state(postgresql_url) == (0, 0)


# ---------------------------------------------------------------- commits that are cut off


class Cutter:
    """A proxy on loopback that cuts both sides when COMMIT passes: before the server sees it, or after it answered."""

    def __init__(self, url: str, *, forward: bool) -> None:
        target = make_url(url)
        self._target = (target.host or "127.0.0.1", target.port or 5432)
        self._forward = forward
        self.armed = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = target.set(host="127.0.0.1", port=port).update_query_dict({"sslmode": "disable"})
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            cut = threading.Event()
            threading.Thread(target=self._up, args=(client, server, cut), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, cut), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        while data := _read(client):
            if self.armed and b"COMMIT" in data:
                self.armed = False
                cut.set()
                if self._forward:
                    server.sendall(data)
                else:
                    server.close()
                    client.close()
                return
            server.sendall(data)
        server.close()

    def _down(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        while data := _read(server):
            if cut.is_set():
                break
            client.sendall(data)
        client.close()
        server.close()

    def close(self) -> None:
        self._listener.close()


def _read(from_: socket.socket) -> bytes:
    try:
        return from_.recv(65536)
    except OSError:
        return b""


@pytest.fixture(params=[True, False], ids=["committed", "not committed"])
def cutter(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[Cutter]:
    with Database(postgresql_url) as db:
        db.create_all(Base)
    made = Cutter(postgresql_url, forward=request.param)
    yield made
    made.close()


def test_a_commit_that_was_cut_is_looked_up_and_never_done_twice(cutter: Cutter, postgresql_url: str) -> None:
    attempts: list[int] = []
    said: list[str] = []

    def work(session: Any) -> str:
        attempts.append(1)
        session.add(Account(balance=7, moves=1))
        session.on_commit(lambda: said.append("committed"))
        return "answer"

    with Database(cutter.url) as db:
        assert db.run(work) == "answer"

    assert state(postgresql_url) == (7, 1)
    assert said == ["committed"]
    assert len(attempts) == (1 if cutter._forward else 2)


async def test_a_cut_commit_on_an_event_loop(cutter: Cutter, postgresql_url: str) -> None:
    async def work(session: Any) -> str:
        session.add(Account(balance=7, moves=1))
        return "answer"

    async with AsyncDatabase(cutter.url) as db:
        assert await db.run(work) == "answer"

    assert state(postgresql_url) == (7, 1)


def test_without_a_number_the_outcome_is_unknown_and_said_so(cutter: Cutter) -> None:
    with Database(cutter.url) as db:
        with pytest.raises(CommitOutcomeUnknown, match="db.outcome") as caught, db.begin() as session:
            session.add(Account(balance=7))

        assert caught.value.outcome is Outcome.UNKNOWN
        assert db.outcome(caught.value) is Outcome.UNKNOWN


def test_a_block_that_resolves_ends_well_or_says_not_done(cutter: Cutter, postgresql_url: str) -> None:
    with Database(cutter.url) as db:
        try:
            with db.begin(resolve=True) as session:
                session.add(Account(balance=7, moves=1))
            lasted = True
        except ConnectionLost as error:
            assert error.outcome is Outcome.NOT_DONE
            lasted = False

    assert lasted is cutter._forward
    assert state(postgresql_url) == ((7, 1) if lasted else (0, 0))


# ---------------------------------------------------------------- advisory locks


def test_one_transaction_at_a_time_holds_a_name(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        with db.begin() as one, db.begin() as two:
            assert one.advisory_lock("report") is True
            assert two.advisory_lock("report", wait=False) is False
            assert two.advisory_lock("another", wait=False) is True
        with db.begin() as two:
            assert two.advisory_lock("report", wait=False) is True
