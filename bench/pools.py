"""``python -m bench.pools``: what it costs to borrow a connection, alone and among sixteen who want eight.

The pools take turns within every round, as everywhere in bench/; ratios are those of the same round, to
the pool that comes with the driver.  Nothing here passes or fails on a time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import placement, report
from bench.placement import Placement
from bench.systems.pools import POOLS, STATEMENT

URL = "HOLDFAST_TEST_POSTGRESQL_URL"
SIZE = 8
WORKERS = 16
BORROWS = 1000
TURNS = 25
"""How often each worker borrows in a round."""


@dataclass(slots=True)
class Measured:
    """A pool and its samples, one for each round."""

    system: Any
    borrow_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pools", description="Time pools beside each other."
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--door", choices=("blocking", "async"))
    parser.add_argument("--pin", choices=placement.MODES, default="none", help="see bench/README.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    options = parser.parse_args(words)
    url = os.environ.get(URL)
    if not url:
        print(f"Set {URL}=postgresql://…, or run `./dev bench pools`, which lends a server.", file=sys.stderr)
        return 2
    Placement(options.pin)
    loop = asyncio.new_event_loop()

    def call(function: Callable[..., Any], *given: Any) -> Any:
        answer = function(*given)
        return loop.run_until_complete(answer) if inspect.isawaitable(answer) else answer

    measured = [Measured(one()) for one in POOLS if options.door in (None, one.door)]
    for one in measured:
        call(one.system.open, url, SIZE)
    for number in range(options.rounds + 1):  # the first warms up
        turn = number % len(measured)
        for one in measured[turn:] + measured[:turn]:
            _one_round(one, call, keep=number > 0)
    for one in measured:
        call(one.system.close)
    loop.close()
    _report(measured, options)
    return 0


def _one_round(one: Measured, call: Callable[..., Any], *, keep: bool) -> None:
    gc.collect()
    on_loop = one.system.door == "async"
    borrowed = None
    if one.system.borrow is not None:
        borrowed = call(_borrow_async if on_loop else _borrow, one.system.borrow)
    seconds, latencies = call(_crowd_async if on_loop else _crowd, one.system.work)
    if not keep:
        return
    if borrowed is not None:
        one.borrow_us.append(borrowed / BORROWS * 1e6)
    ordered = sorted(latencies)
    one.per_second.append(len(ordered) / seconds)
    one.p50_ms.append(ordered[len(ordered) // 2] * 1e3)
    one.p99_ms.append(ordered[-(-len(ordered) * 99 // 100) - 1] * 1e3)


def _borrow(borrow: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(BORROWS):
        borrow()
    return time.perf_counter() - began


async def _borrow_async(borrow: Callable[[], Any]) -> float:
    began = time.perf_counter()
    for _ in range(BORROWS):
        await borrow()
    return time.perf_counter() - began


def _crowd(work: Callable[[], None]) -> tuple[float, list[float]]:
    latencies: list[float] = []

    def labour() -> None:
        for _ in range(TURNS):
            began = time.perf_counter()
            work()
            latencies.append(time.perf_counter() - began)

    threads = [threading.Thread(target=labour) for _ in range(WORKERS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, latencies


async def _crowd_async(work: Callable[[], Any]) -> tuple[float, list[float]]:
    latencies: list[float] = []

    async def labour() -> None:
        for _ in range(TURNS):
            began = time.perf_counter()
            await work()
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(labour() for _ in range(WORKERS)))
    return time.perf_counter() - began, latencies


def _report(measured: list[Measured], options: argparse.Namespace) -> None:
    print("; ".join(f"{name} {number}" for name, number in report.find_versions().items()))
    print(
        f"{options.rounds} rounds; {WORKERS} workers, {SIZE} connections, {STATEMENT!r}; pinned: {options.pin}"
    )
    for door in dict.fromkeys(one.system.door for one in measured):
        group = [one for one in measured if one.system.door == door]
        rows = [_row(one, group[0]) for one in group]
        head = ["pool", "borrow and return, µs", "statements/s", "p50, ms", "p99, ms"]
        report.print_table(f"{door}: medians (ratio to {group[0].system.name})", head, rows)
    if options.json:
        document = {
            f"{one.system.door} {one.system.name}": {
                name: [round(sample, 3) for sample in getattr(one, name)]
                for name in ("borrow_us", "per_second", "p50_ms", "p99_ms")
            }
            for one in measured
        }
        versions = report.find_versions()
        options.json.write_text(json.dumps({"versions": versions, "results": document}, indent=1) + "\n")


def _row(one: Measured, base: Measured) -> list[str]:
    return [
        one.system.name,
        _cell(one.borrow_us, base.borrow_us),
        _cell(one.per_second, base.per_second),
        _cell(one.p50_ms, base.p50_ms),
        _cell(one.p99_ms, base.p99_ms),
    ]


def _cell(mine: list[float], base: list[float]) -> str:
    if not mine:
        return "–"
    middle = median(mine)
    digits = 0 if middle >= 100 else 2 if middle < 10 else 1
    return f"{middle:,.{digits}f} ({median(a / b for a, b in zip(mine, base, strict=True)):.2f} ×)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
