"""Advisory locks: a name that one transaction at a time may hold, until it ends.

PostgreSQL knows them by 64-bit numbers; a name becomes the first eight bytes of its BLAKE2b hash, as a signed
number, so that any program can compute it.

MariaDB and MySQL have locks by name (``GET_LOCK``) for all databases of a server, so the number is put behind the MD5
of the database's name; and they are the connection's.  Its driver gives them back when the transaction has ended,
however it did; a connection that ends one in another way, and so may still hold a name, is not lent again.

SQLite has one lock for writing, which is the write transaction itself: whoever has it holds every name.
"""

from __future__ import annotations

from hashlib import blake2b

from holdfast.capabilities import Capabilities
from holdfast.errors import DatabaseBusy, InvalidRequestError, LockTimeout
from holdfast.steps import Operation, command, fetch

LONGEST_WAIT_SECONDS = 31_536_000
"""A year, the longest time-out of MariaDB's locks; GET_LOCK must be told one."""


def lock_number(name: str | int) -> int:
    """The number of a lock; a number stands for itself."""
    if isinstance(name, str):
        return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    if not -(2**63) <= name < 2**63:
        raise InvalidRequestError("The number of an advisory lock has 64 bits", mend="Give a name, a str.")
    return name


def take_lock(known: Capabilities, name: str | int, *, wait: bool) -> Operation[bool]:
    """Take a lock inside an open transaction; tell whether it was had."""
    take = _take_named if known.named_locks else _take_numbered
    return take(lock_number(name), wait=wait)


def _take_numbered(number: int, *, wait: bool) -> Operation[bool]:
    function = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    rows = yield from fetch(f"SELECT {function}({number})")
    return wait or bool(rows[0][0])


def _take_named(number: int, *, wait: bool) -> Operation[bool]:
    seconds = LONGEST_WAIT_SECONDS if wait else 0
    sql = f"SELECT GET_LOCK(CONCAT(MD5(COALESCE(DATABASE(), '')), '.{number}'), {seconds})"
    had: bool = (yield from command(sql)) == "1"
    if wait and not had:
        raise LockTimeout(statement=sql)
    return had


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
