"""The bounded cache of plans, one per database, shared by its sessions and their threads.

A dict and one rule: a reader never blocks.  Reads and writes of a dict are atomic in CPython, with and without the
GIL; two threads that miss at once both make the plan, and one of them wins.  When the cache is full, the oldest
quarter is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import islice

from .plan import Plan

CACHE_SIZE = 1000
"""Plans kept per database; a plan is some kilobytes."""


class PlanCache:
    """Plans under their keys; ``get`` makes what is missing."""

    __slots__ = ("_plans", "built", "size")

    def __init__(self, size: int = CACHE_SIZE) -> None:
        self.size = size
        self.built = 0
        self._plans: dict[Hashable, Plan] = {}

    def get(self, key: Hashable, make: Callable[[], Plan]) -> Plan:
        plan = self._plans.get(key)
        if plan is None:
            plan = make()
            self.built += 1
            if len(self._plans) >= self.size:
                self._evict()
            self._plans[key] = plan
        return plan

    def find(self, key: Hashable) -> Plan | None:
        return self._plans.get(key)

    def clear(self) -> None:
        self._plans.clear()

    def _evict(self) -> None:
        for key in list(islice(list(self._plans), max(1, self.size // 4))):
            self._plans.pop(key, None)

    def __len__(self) -> int:
        return len(self._plans)

    def __repr__(self) -> str:
        return f"<PlanCache {len(self._plans)} of {self.size}, {self.built} built>"
