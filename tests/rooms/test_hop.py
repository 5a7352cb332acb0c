"""The way to a thread and back: one turn of the loop, in the task's own context, whatever is cancelled when."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from holdfast.runner import Worker, returns

WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Port:
    """A connection that does nothing, and can be told to stop."""

    in_transaction = False
    usable = True

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(params=["bell", "no bell"])
async def worker(request: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    if request.param == "no bell":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    worker = await Worker.open(Port)
    yield worker
    await worker.close()


async def test_a_hop_answers_what_the_thread_answered(worker: Worker) -> None:
    assert await worker.call(threading.get_ident) != threading.get_ident()


async def test_a_hop_raises_what_the_thread_raised_and_keeps_nothing_alive(worker: Worker) -> None:
    class Big:
        """Something a traceback would keep."""

    def fail() -> None:
        big = Big()
        raise ValueError(str(big))

    with pytest.raises(ValueError, match="Big"):
        await worker.call(fail)

    gc.disable()
    try:
        with pytest.raises(ValueError, match="Big"):
            await worker.call(fail)
        assert not [one for one in gc.get_objects() if type(one) is Big]
    finally:
        gc.enable()


async def test_a_hop_takes_one_turn_of_the_loop(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    turns = 0
    select = selector.select

    def count(timeout: float | None = None) -> Any:
        nonlocal turns
        turns += 1
        return select(timeout)

    monkeypatch.setattr(selector, "select", count)
    for _ in range(50):
        await worker.call(int)

    assert turns == 50


async def test_a_task_wakes_in_its_own_context(worker: Worker) -> None:
    async def ask(name: str) -> list[str]:
        WHO.set(name)
        heard = []
        for _ in range(5):
            await worker.call(int)
            heard.append(WHO.get())
        return heard

    one, two = await asyncio.gather(ask("one"), ask("two"))

    assert (one, two) == (["one"] * 5, ["two"] * 5)
    assert WHO.get() == "nobody"


async def test_a_task_can_be_cancelled_at_any_turn(worker: Worker) -> None:
    """Whenever it comes, either the answer is there or the cancellation; and the worker serves the next."""
    ends = set()
    for turns in range(12):
        for _ in range(10):
            task = asyncio.create_task(worker.call(lambda: "answer"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            ends.add((await asyncio.gather(task, return_exceptions=True))[0].__class__)
            assert await worker.call(int) == 0

    assert ends <= {str, asyncio.CancelledError}
    assert asyncio.CancelledError in ends


async def test_a_cancelled_hop_waits_for_its_thread(worker: Worker) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended = []

    def work() -> None:
        begun.set()
        worker.connection.cancelled.wait()
        go_on.wait()
        ended.append(True)

    task = asyncio.create_task(worker.call(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()  # once more, while it waits for the thread
    assert not task.done()
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_timeout_ends_a_hop(worker: Worker) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await worker.call(lambda: worker.connection.cancelled.wait(30))

    assert await worker.call(int) == 0


async def test_a_loop_that_listens_to_no_file_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
    before = open_files()
    worker = await Worker.open(Port)

    assert await worker.call(lambda: 1) == 1
    assert open_files() == before
    await worker.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
@pytest.mark.parametrize("leave", ["close", "terminate", "closed loop"])
def test_bells_do_not_outlive_their_workers(leave: str) -> None:
    async def work() -> Worker:
        worker = await Worker.open(Port)
        await worker.call(int)
        if leave == "close":
            await worker.close()
        elif leave == "terminate":
            worker.terminate()
        return worker

    before = open_files()
    for _ in range(5):
        worker = asyncio.run(work())
        if leave == "closed loop":
            worker.terminate()
        worker._thread.join(5)
        del worker
    gc.collect()

    assert open_files() == before


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="there is no bell without eventfd")
async def test_the_loop_keeps_nobodys_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is opened by whoever comes first, and outlives the request that did."""
    heard: list[str] = []
    hang: Callable[..., int | None] = returns._hang_bell

    def spy(loop: Any, deliver: Callable[[], None]) -> int | None:
        def listen() -> None:
            heard.append(WHO.get())
            deliver()

        return hang(loop, listen)

    monkeypatch.setattr(returns, "_hang_bell", spy)
    WHO.set("a request")
    worker = await Worker.open(Port)
    await worker.close()

    assert set(heard) == {"nobody"}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
