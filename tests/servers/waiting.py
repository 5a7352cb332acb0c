"""Waiting for other sessions of PostgreSQL, by what the server shows and never by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 20.0
"""After so long a test gives up: something is wrong, not slow."""

_WAITERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND cardinality(pg_blocking_pids(pid)) > 0"
)
_WAITS = "SELECT cardinality(pg_blocking_pids(%s)) > 0"


def poll(is_so: Callable[[], bool], what: str) -> None:
    """Ask again and again until something is so; raises after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        time.sleep(0.002)  # the pace of asking; what is waited for is the answer


def wait_for_waiters(watcher: Any, count: int) -> None:
    """Wait until so many sessions of the watcher's database wait for locks."""
    poll(lambda: watcher.execute(_WAITERS).fetchone()[0] >= count, f"{count} sessions wait for locks")


def is_waiting(watcher: Any, pid: int) -> bool:
    """Whether a backend waits for another's lock."""
    return bool(watcher.execute(_WAITS, [pid]).fetchone()[0])
