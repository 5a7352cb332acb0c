"""Timing: systems take turns within every round, and the order moves on by one each round.

The collector stays on, as it is in a program; it runs once before each turn, so that nobody pays for
somebody else's garbage.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.placement import Placement
from bench.workloads import Workload


@dataclass(slots=True)
class Entry:
    """One system, open, with the admin that sets up its tables."""

    system: Any
    admin: Any
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str]:
        return (self.admin.place.server, self.system.door)


Samples = dict[tuple[str, str, str, str], list[float]]
"""(server, door, workload, system) → microseconds per operation, one for each round."""


class Harness:
    """Runs workloads on entries; blocking ones directly, async ones on one event loop."""

    def __init__(self, entries: list[Entry], placement: Placement, tell: Callable[[str], None]) -> None:
        self.entries = entries
        self._placement = placement
        self._tell = tell
        self._loop = asyncio.new_event_loop()
        self.samples: Samples = {}

    def run(self, workloads: Iterable[Workload], rounds: int) -> None:
        for workload in workloads:
            self._tell(f"{workload.name}: checking")
            ready = [entry for entry in self.entries if self._check(entry, workload)]
            for number in range(rounds):
                self._tell(f"{workload.name}: round {number + 1} of {rounds}")
                turn = number % max(len(ready), 1)
                for entry in ready[turn:] + ready[:turn]:
                    self._sample(entry, workload)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of a system, whichever colour it has."""
        answer = function(*args)
        return self._loop.run_until_complete(answer) if inspect.isawaitable(answer) else answer

    def close(self) -> None:
        for entry in self.entries:
            self.call(entry.system.close)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _check(self, entry: Entry, workload: Workload) -> bool:
        """Warm up, and see that the system does what it is asked; note why if it does not."""
        function = getattr(entry.system, workload.name, None)
        if function is None:
            return False
        try:
            for _ in range(3):
                workload.before(entry.admin)
                arguments = next(iter(workload.arguments(1)))
                if workload.needs_state:
                    arguments = (*arguments, self.call(entry.system.load_members))
                found = self.call(function, *arguments)
                workload.check(entry.system, entry.admin, found, *arguments)
            self._one_round(entry, workload)
        except Exception as error:  # a system that is not ready must not stop the others
            entry.failures[workload.name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return False
        self._placement.pin(entry.admin.backends())
        return True

    def _sample(self, entry: Entry, workload: Workload) -> None:
        seconds = self._one_round(entry, workload)
        key = (*entry.group, workload.name, entry.system.name)
        self.samples.setdefault(key, []).append(seconds / workload.operations * 1e6)

    def _one_round(self, entry: Entry, workload: Workload) -> float:
        workload.before(entry.admin)
        arguments = list(workload.arguments(workload.operations))
        if workload.needs_state:
            arguments = [(*given, self.call(entry.system.load_members)) for given in arguments]
        function = getattr(entry.system, workload.name)
        gc.collect()
        if entry.system.door == "async":
            return self._loop.run_until_complete(_time_async(function, arguments))
        return _time_blocking(function, arguments)


def _time_blocking(function: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> float:
    began = time.perf_counter()
    for given in arguments:
        function(*given)
    return time.perf_counter() - began


async def _time_async(function: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> float:
    began = time.perf_counter()
    for given in arguments:
        await function(*given)
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell: microseconds per operation, and the ratio to the bare driver, round by round."""

    median_us: float
    least_us: float
    ratio: float | None

    @classmethod
    def of(cls, mine: list[float], bare: list[float] | None) -> Figure:
        ratio = median(a / b for a, b in zip(mine, bare, strict=True)) if bare else None
        return cls(median(mine), min(mine), ratio)
