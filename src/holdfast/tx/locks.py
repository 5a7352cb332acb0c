"""Advisory locks: a name that one transaction at a time may hold, until it ends.

PostgreSQL knows them by 64-bit numbers; a name becomes the first eight bytes of its BLAKE2b hash, as a signed
number, so that any program can compute it.

SQLite has one lock for writing, which is the write transaction itself: whoever has it holds every name.
"""

from __future__ import annotations

from hashlib import blake2b

from holdfast.errors import DatabaseBusy, InvalidRequestError
from holdfast.steps import Operation, command, fetch


def lock_number(name: str | int) -> int:
    """The number of a lock; a number stands for itself."""
    if isinstance(name, str):
        return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    if not -(2**63) <= name < 2**63:
        raise InvalidRequestError("The number of an advisory lock has 64 bits", mend="Give a name, a str.")
    return name


def take_lock(name: str | int, *, wait: bool) -> Operation[bool]:
    """Take a lock inside an open transaction of PostgreSQL; tell whether it was had."""
    function = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    rows = yield from fetch(f"SELECT {function}({lock_number(name)})")
    return wait or bool(rows[0][0])


def begin_at_once() -> Operation[bool]:
    """Open SQLite's write transaction without waiting for it; tell whether it was had."""
    rows = yield from fetch("PRAGMA busy_timeout")
    yield from fetch("PRAGMA busy_timeout=0")
    try:
        yield from command("BEGIN IMMEDIATE")
        return True
    except DatabaseBusy:
        return False
    finally:
        yield from command(f"PRAGMA busy_timeout={int(rows[0][0])}", cleanup=True)
