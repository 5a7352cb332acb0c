"""Which core runs what.

MariaDB serves each connection by a thread, which has a number of its own and is pinned like a process.
One round trip to a local PostgreSQL costs 31 µs when client and server share a core, and 112 µs when a
sleeping core must be woken (measured on a two-core virtual machine); a connection keeps the luck it began
with.  Left alone, that decides every single-row figure.  So the client is pinned to one core and its server
processes to another ("apart": what a remote server is like) or to the same one ("same": counts nothing but
work).  Where we may not, or where there is one core, nothing is pinned, and the report says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

MODES = ("apart", "same", "none")


class Placement:
    """Pins this thread, and the threads it starts, at once; server processes when told about them."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self._done: set[int] = set()
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) < 2:
            self.mode = "none"
        if self.mode != "none":
            self._server_core = cores[0] if mode == "same" else cores[1]
            os.sched_setaffinity(0, {cores[0]})

    def pin(self, pids: Iterable[int]) -> None:
        """Pin our server processes; give up for good at the first that is not ours to pin."""
        for pid in set(pids) - self._done if self.mode != "none" else ():
            try:
                # A server elsewhere, or in another container, has numbers that mean somebody else here.
                if not _is_server(Path(f"/proc/{pid}/cmdline").read_bytes()):
                    raise ProcessLookupError
                os.sched_setaffinity(pid, {self._server_core})
            except OSError:
                self.mode = "client only"
                return
            self._done.add(pid)


def _is_server(command: bytes) -> bool:
    return any(name in command for name in (b"postgres", b"mariadbd", b"mysqld"))
