"""``python -m bench.collector``: how long the garbage collector is at work for one operation.

A mean, not a median: a collection of everything comes once in a hundred operations and more, takes tens of
milliseconds, and no median shows it.  Measured by ``gc.callbacks``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.schema import PostgresAdmin
from bench.systems import BARE, find

URL = "HOLDFAST_TEST_POSTGRESQL_URL"
WORK = ("rows", "graph_planned")
WARM_UP = 20


class Collections:
    """Counts collections and their time, by generation."""

    def __init__(self) -> None:
        self.counts = [0, 0, 0]
        self.seconds = [0.0, 0.0, 0.0]
        self._began = 0.0

    def hear(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
            return
        self.counts[info["generation"]] += 1
        self.seconds[info["generation"]] += time.perf_counter() - self._began


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.collector", description="Time the garbage collector during reads."
    )
    parser.add_argument("--operations", type=int, default=1500, help="of each work and system (1500)")
    options = parser.parse_args(words)
    url = os.environ.get(URL)
    if not url:
        print(
            f"Set {URL}=postgresql://…, or run `./dev bench collector`, which lends a server.",
            file=sys.stderr,
        )
        return 2
    table = Table(
        "work", "door", "system", "µs of the collector", "full collections", title="per operation; mean"
    )
    admin = PostgresAdmin(url)
    try:
        for _, found in find("postgresql"):
            if not isinstance(found, Exception) and found.name in (BARE, "holdfast"):
                asyncio.run(_measure(found(), admin, options.operations, table))
    finally:
        admin.close()
    Console().print(table)
    return 0


async def _measure(system: Any, admin: PostgresAdmin, operations: int, table: Table) -> None:
    await _settle(system.open(admin.place))
    try:
        for work in WORK:
            heard = Collections()
            for number in range(WARM_UP + operations):
                if number == WARM_UP:
                    gc.collect()
                    gc.callbacks.append(heard.hear)
                await _settle(getattr(system, work)())
            gc.callbacks.remove(heard.hear)
            spent, full = sum(heard.seconds) / operations * 1e6, heard.counts[2] / operations
            table.add_row(work, system.door, system.name, f"{spent:.0f}", f"{full:.4f}")
    finally:
        await _settle(system.close())


async def _settle(answer: Any) -> Any:
    return await answer if asyncio.iscoroutine(answer) else answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
