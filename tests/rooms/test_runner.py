"""Runners drive generators: connections are borrowed late, given back early, and end clean."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast.drivers import open_driver
from holdfast.errors import (
    ConnectionFailed,
    ConnectionLost,
    HoldfastError,
    Outcome,
    PoolTimeout,
    UnknownTable,
    WrongType,
)
from holdfast.observe import Observers, StatementEnded, StatementFailed, StatementStarted
from holdfast.pool import AsyncPool, BlockingPool, PoolSettings
from holdfast.runner import AsyncRunner, AsyncThreadRunner, SyncRunner, Teller, replay
from holdfast.steps import Command, Fetch, Operation, command, execute, fetch


def translate(error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
    return WrongType(orig=error, statement=sql) if isinstance(error, ValueError) else error


class Port:
    """A connection that answers at once, or waits until it is cancelled."""

    def __init__(self) -> None:
        self.in_transaction = False
        self.usable = True
        self.hung_up = False
        self.done: list[str] = []
        self.hangs: set[str] = set()
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    def is_cut(self) -> bool:
        return self.hung_up

    def cut(self) -> None:
        self.usable = False

    def command(self, sql: str) -> None:
        self.done.append(sql)
        self.in_transaction = sql == "BEGIN" or (self.in_transaction and sql not in ("COMMIT", "ROLLBACK"))

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> list[tuple[int]]:
        if sql == "fail":
            raise ValueError("secret")
        self.done.append(sql)
        return [(1,)]


class AsyncPort(Port):
    async def command(self, sql: str) -> None:  # type: ignore[override]
        await self._maybe_hang(sql)
        super().command(sql)

    async def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Any:  # type: ignore[override]
        await self._maybe_hang(sql)
        return super().fetch(sql, params, binary)

    async def ping(self) -> None:
        await self._maybe_hang("ping")
        self.done.append("ping")

    async def _maybe_hang(self, sql: str) -> None:
        if sql in self.hangs:
            self.entered.set()
            await self.go_on.wait()


class Pool:
    """Lends one connection, and remembers how it came back."""

    def __init__(self, port: Port, failure: HoldfastError | None = None) -> None:
        self.port = port
        self.failure = failure
        self.log: list[str] = []

    def acquire(self) -> Any:
        self.log.append("acquire")
        if self.failure is not None:
            raise self.failure
        return self.port

    def release(self, connection: Any, *, discard: bool = False) -> None:
        self.log.append("discard" if discard else "release")


class APool(Pool):
    async def acquire(self) -> Any:
        return super().acquire()

    def take(self) -> Any:
        return None

    async def release(self, connection: Any, *, discard: bool = False) -> None:
        super().release(connection, discard=discard)

    def put(self, connection: Any) -> bool:
        return False

    def abandon(self, connection: Any) -> None:
        self.log.append("abandon")


def sync_runner(**given: Any) -> tuple[SyncRunner, Pool]:
    pool = Pool(Port(), given.pop("failure", None))
    return SyncRunner(pool, translate, **given), pool


def async_runner() -> tuple[AsyncRunner, APool, AsyncPort]:
    port = AsyncPort()
    pool = APool(port)
    return AsyncRunner(pool, translate), pool, port


def read() -> Operation[Any]:
    return (yield from fetch("read"))


def answer_at_once() -> Operation[int]:
    return 7
    yield Command("never")


def recover() -> Operation[Any]:
    try:
        yield from fetch("fail")
    except HoldfastError as error:
        return error


def fail() -> Operation[Any]:
    return (yield from fetch("fail"))


def cleaning() -> Operation[Any]:
    try:
        return (yield from fetch("slow"))
    except BaseException:
        yield from command("ROLLBACK", cleanup=True)
        raise


def test_an_operation_without_steps_never_touches_the_pool() -> None:
    runner, pool = sync_runner()

    assert runner(answer_at_once()) == 7
    assert pool.log == []


def test_a_read_gives_its_connection_back() -> None:
    runner, pool = sync_runner()

    assert runner(read()) == [(1,)]
    assert pool.log == ["acquire", "release"]
    assert runner.connection is None


def test_a_transaction_keeps_its_connection_until_it_ends() -> None:
    runner, pool = sync_runner()

    runner(command("BEGIN"))
    runner(read())
    assert pool.log == ["acquire"]
    runner(command("COMMIT"))
    assert pool.log == ["acquire", "release"]


def test_closing_rolls_back_what_is_open() -> None:
    runner, pool = sync_runner()
    runner(command("BEGIN"))

    runner.close()

    assert pool.port.done == ["BEGIN", "ROLLBACK"]
    assert pool.log == ["acquire", "release"]


def test_a_typed_error_is_thrown_in_and_nothing_is_chained() -> None:
    runner, _ = sync_runner()

    error = runner(recover())

    assert isinstance(error, WrongType)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("echo", [False, True])
def test_a_printed_traceback_shows_nothing_of_the_driver(echo: bool) -> None:
    runner, _ = sync_runner(teller=Teller(Observers(), echo))

    with pytest.raises(WrongType) as caught:
        runner(fail())

    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_broken_connection_is_thrown_away() -> None:
    runner, pool = sync_runner()
    pool.port.usable = False

    runner(recover())

    assert pool.log == ["acquire", "discard"]


def test_an_operation_hears_that_no_connection_was_to_be_had() -> None:
    failure = ConnectionFailed(server="x", reason="y")
    runner, pool = sync_runner(failure=failure)

    def clean_up() -> Operation[Any]:
        try:
            yield from fetch("read")
        except ConnectionFailed as error:
            yield from command("ROLLBACK", cleanup=True)
            return error

    assert runner(clean_up()) is failure
    assert pool.log == ["acquire"]
    assert pool.port.done == []


def test_observers_hear_of_every_statement() -> None:
    observers = Observers()
    heard: list[Any] = []
    remove = observers.add(heard.append)
    runner, _ = sync_runner(teller=Teller(observers, echo=False))

    runner(read())
    runner(recover())
    remove()
    runner(read())

    kinds = [type(event) for event in heard]
    assert kinds == [StatementStarted, StatementEnded, StatementStarted, StatementFailed]
    assert heard[1].rowcount == 1


def test_replay_gives_the_steps_and_the_value() -> None:
    value, steps = replay(recover(), [WrongType()])

    assert isinstance(value, WrongType)
    assert steps == [Fetch("fail")]


@pytest.mark.parametrize("answers", [[], [[(1,)], "too many"]])
def test_replay_wants_as_many_answers_as_steps(answers: list[Any]) -> None:
    with pytest.raises(AssertionError, match="answer"):
        replay(read(), answers)


async def test_async_reads_give_their_connection_back() -> None:
    runner, pool, _ = async_runner()

    assert await runner(read()) == [(1,)]
    assert await runner(answer_at_once()) == 7
    assert pool.log == ["acquire", "release"]


async def test_async_errors_are_typed_and_unchained() -> None:
    runner, pool, _ = async_runner()

    error = await runner(recover())

    assert (type(error), error.__context__) == (WrongType, None)
    assert pool.log == ["acquire", "release"]


async def test_a_cancelled_read_leaves_a_connection_that_answers() -> None:
    runner, pool, port = async_runner()
    port.hangs = {"read"}
    task = asyncio.create_task(runner(read()))
    await port.entered.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert port.done == ["ping"]
    assert pool.log == ["acquire", "release"]


async def test_a_cleanup_is_finished_in_spite_of_more_cancellation() -> None:
    runner, pool, port = async_runner()
    await runner(command("BEGIN"))
    port.hangs = {"slow", "ROLLBACK"}
    task = asyncio.create_task(runner(cleaning()))
    await port.entered.wait()
    port.entered.clear()
    task.cancel()
    await port.entered.wait()

    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    port.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert port.done == ["BEGIN", "ROLLBACK"]
    assert pool.log == ["acquire", "release"]


async def test_a_cleanup_that_does_not_end_costs_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.runner.patience.CLEANUP_SECONDS", 0.01)
    runner, pool, port = async_runner()
    await runner(command("BEGIN"))
    port.hangs = {"slow", "ROLLBACK"}
    task = asyncio.create_task(runner(cleaning()))
    await port.entered.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert pool.log == ["acquire", "abandon"]


def finish() -> Operation[Any]:
    return (yield from command("COMMIT", finish=True))


def read_and_finish() -> Operation[Any]:
    yield from fetch("read")
    yield from finish()


@pytest.mark.parametrize("operation", [finish, read_and_finish])
@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("blocking", [True, False])
async def test_a_commit_is_not_sent_over_a_wire_that_is_cut(
    operation: Any, *, observed: bool, blocking: bool
) -> None:
    observers = Observers()
    if observed:
        observers.add(lambda _event: None)
    teller = Teller(observers, echo=False)
    port = Port() if blocking else AsyncPort()
    runner: Any = (
        SyncRunner(Pool(port), translate, teller) if blocking else AsyncRunner(APool(port), translate, teller)
    )

    async def run(work: Operation[Any]) -> Any:
        return runner(work) if blocking else await runner(work)

    await run(command("BEGIN"))
    port.hung_up = True
    with pytest.raises(ConnectionLost) as caught:
        await run(operation())

    assert caught.value.outcome is Outcome.NOT_DONE
    assert "COMMIT" not in port.done


def test_a_commit_needs_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded interpreter takes for its main thread one that may set no handlers."""
    monkeypatch.setattr("holdfast.runner.interrupt.main_thread", threading.current_thread)
    runner, pool = sync_runner()
    runner(command("BEGIN"))

    with ThreadPoolExecutor() as threads:
        threads.submit(runner, finish()).result()

    assert pool.port.done == ["BEGIN", "COMMIT"]


async def test_a_cancellation_during_a_cleanup_is_not_lost() -> None:
    runner, pool, port = async_runner()
    await runner(command("BEGIN"))
    port.hangs = {"ROLLBACK"}
    task = asyncio.create_task(runner(command("ROLLBACK", cleanup=True)))
    await port.entered.wait()

    task.cancel()
    await asyncio.sleep(0)
    port.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert pool.log == ["acquire", "release"]


async def test_a_cut_transaction_is_rolled_back() -> None:
    runner, pool, port = async_runner()
    await runner(command("BEGIN"))
    port.hangs = {"read"}
    task = asyncio.create_task(runner(read()))
    await port.entered.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert port.done == ["BEGIN", "ping", "ROLLBACK"]
    assert pool.log == ["acquire", "release"]


async def test_a_coroutine_closed_unfinished_cuts_its_connection() -> None:
    runner, pool, port = async_runner()
    port.hangs = {"read"}
    work = runner(read())
    work.send(None)

    work.close()

    assert pool.log == ["acquire", "abandon"]


@pytest.fixture
async def sqlite_pool(tmp_path: Any) -> Any:
    driver = open_driver(f"sqlite:///{tmp_path}/a.db", asynchronous=True)
    pool = AsyncPool(driver)
    yield pool, driver
    await pool.close()


async def test_an_operation_on_a_worker_crosses_once(sqlite_pool: Any) -> None:
    pool, driver = sqlite_pool
    runner = AsyncThreadRunner(pool, driver.translate)
    threads = []

    def three_steps() -> Operation[Any]:
        yield from command("CREATE TABLE t (a INTEGER)")
        threads.append(threading.get_ident())
        yield from execute("INSERT INTO t VALUES (1)")
        threads.append(threading.get_ident())
        return (yield from fetch("SELECT a FROM t"))

    assert await runner(three_steps()) == [(1,)]
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    assert pool.stats().idle == 1


async def test_a_worker_keeps_a_transaction_and_rolls_it_back_at_close(sqlite_pool: Any) -> None:
    pool, driver = sqlite_pool
    runner = AsyncThreadRunner(pool, driver.translate)
    await runner(command("CREATE TABLE t (a INTEGER)"))

    await runner(command("BEGIN"))
    await runner(execute("INSERT INTO t VALUES (1)"))
    assert pool.stats().in_use == 1
    await runner.close()

    assert pool.stats().in_use == 0
    assert await runner(fetch("SELECT a FROM t")) == []


async def test_errors_on_a_worker_are_typed(sqlite_pool: Any) -> None:
    pool, driver = sqlite_pool
    runner = AsyncThreadRunner(pool, driver.translate)

    with pytest.raises(UnknownTable) as caught:
        await runner(fetch("SELECT 1 FROM missing"))

    assert caught.value.table == "missing"
    assert caught.value.__context__ is None


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


async def test_cancelling_interrupts_a_worker_and_waits_for_it(sqlite_pool: Any) -> None:
    pool, driver = sqlite_pool
    runner = AsyncThreadRunner(pool, driver.translate)
    entered = threading.Event()
    ended = []

    def endless() -> Operation[Any]:
        entered.set()
        try:
            return (yield from fetch(ENDLESS))
        finally:
            ended.append(True)

    def warm_up() -> Operation[Any]:
        yield from fetch("SELECT 1")
        yield from endless()

    task = asyncio.create_task(runner(warm_up()))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == [True]
    assert await runner(fetch("SELECT 1")) == [(1,)]


async def test_a_cancelled_worker_starts_no_further_statement(sqlite_pool: Any) -> None:
    pool, driver = sqlite_pool
    runner = AsyncThreadRunner(pool, driver.translate)
    entered, go_on = threading.Event(), threading.Event()
    seen = []

    def two_steps() -> Operation[Any]:
        yield from fetch("SELECT 1")
        entered.set()
        go_on.wait()
        try:
            yield from fetch("SELECT 2")
        except BaseException as error:
            seen.append(type(error))
            raise

    task = asyncio.create_task(runner(two_steps()))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert seen == [asyncio.CancelledError]


async def test_a_worker_operation_hears_that_no_connection_was_to_be_had(tmp_path: Any) -> None:
    driver = open_driver(f"sqlite:///{tmp_path}/no/such/directory.db", asynchronous=True)
    runner = AsyncThreadRunner(AsyncPool(driver), driver.translate)

    def handle() -> Operation[str]:
        try:
            yield from fetch("SELECT 1")
        except ConnectionFailed as error:
            yield from command("ROLLBACK", cleanup=True)
            return error.code
        return "connected"

    assert await runner(handle()) == "connection-failed"


def test_two_transactions_in_memory_say_why_they_wait() -> None:
    driver = open_driver("sqlite://", asynchronous=False)
    pool = BlockingPool(driver, PoolSettings(pool_timeout=0))
    one = SyncRunner(pool, driver.translate)
    one(command("BEGIN"))

    with pytest.raises(PoolTimeout, match="in memory has one connection"):
        SyncRunner(pool, driver.translate)(fetch("SELECT 1"))
    one.close()
    pool.close()
