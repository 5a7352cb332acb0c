"""``python -m bench.hops``: what it costs to have a thread do nothing for a task.

Ways to cross, in turns: ``run_in_executor``; a thread, a queue and a future; a job of Holdfast's that the loop is told
of by ``call_soon_threadsafe``; and the same by the bell.  All on one core, as the loop and its thread are in `bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from bench.systems.bare_hop import BareHop
from holdfast.runner import Worker, returns

Cross = Callable[[], Awaitable[Any]]
AT_ONCE = 100


class _Nothing:
    in_transaction = False
    usable = True

    def close(self) -> None:
        """Nothing is open."""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hops", description="Time empty thread hops.")
    parser.add_argument("--rounds", type=int, default=200, help=f"of {AT_ONCE} hops each (200)")
    options = parser.parse_args(words)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    table = Table("way", "µs", "ratio", title="an empty hop; median of the rounds")
    medians = asyncio.run(_measure(options.rounds))
    first = next(iter(medians.values()))
    for name, micros in medians.items():
        table.add_row(name, f"{micros:.1f}", f"{micros / first:.2f}")
    Console().print(table)
    return 0


async def _measure(rounds: int) -> dict[str, float]:
    hop = BareHop()
    hop.start()
    with patch.object(returns, "_hang_bell", lambda *_: None):
        silent = await Worker.open(_Nothing)
    rung = await Worker.open(_Nothing)
    executor = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    ways: dict[str, Cross] = {
        "thread, queue, future": lambda: hop.cross(int),
        "loop.run_in_executor": lambda: loop.run_in_executor(executor, int),
        "Holdfast's job, call_soon_threadsafe": lambda: silent.call(int),
        "Holdfast's job, bell": lambda: rung.call(int),
    }
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, cross in ways.items():
            samples[name].append(await _time(cross))
    hop.stop()
    await silent.close()
    await rung.close()
    executor.shutdown()
    return {name: statistics.median(values) for name, values in samples.items()}


async def _time(cross: Cross) -> float:
    start = time.perf_counter()
    for _ in range(AT_ONCE):
        await cross()
    return (time.perf_counter() - start) / AT_ONCE * 1e6


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
