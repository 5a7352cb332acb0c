"""What became of a commit whose answer did not come, asked of the server by another connection.

PostgreSQL keeps the end of each transaction by its number (``txid_status``).  So a session that may have to ask takes
the number down just before COMMIT, which costs a round trip.

A number says nothing on another server: a replica that was promoted without having received the commit gives the same
number to somebody else.  So the server is taken down as well: when it was started, and once for each start its system
identifier and timeline, which a promotion changes.  Where they do not match, the outcome stays unknown.
https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.errors import ConnectionLost, DatabaseError, Outcome
from holdfast.steps import Operation, command, fetch

# txid_... are the names of PostgreSQL 10, which all later versions keep.
_STARTED = (
    "extract(epoch FROM pg_postmaster_start_time())::text"  # a timestamp's own text depends on the time zone
)
NUMBER = f"SELECT txid_current_if_assigned()::text, {_STARTED}"
STATUS = f"SELECT txid_status({{number}}), {_STARTED}"
IDENTITY = "SELECT system_identifier::text, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) FROM pg_control_system()"
_ANSWERS = {"committed": Outcome.DONE, "aborted": Outcome.NOT_DONE}

Identities = dict[str, tuple[str, str] | None]
"""By the start of a server: its system identifier and timeline; None where it does not tell."""


@dataclass(frozen=True, slots=True)
class TransactionNumber:
    """The number of a transaction, and when the server that gave it was started, in seconds since 1970."""

    number: int
    started: str


def take_number(identities: Identities) -> Operation[TransactionNumber | None]:
    """Ask for this transaction's number; None where it has written nothing, so that nothing is in doubt."""
    rows = yield from fetch(NUMBER)
    number, started = rows[0]
    if number is None:
        return None
    if started not in identities:
        identities[started] = yield from _ask_identity_guarded()
    return TransactionNumber(int(number), started)


def _ask_identity_guarded() -> Operation[tuple[str, str] | None]:
    """Ask inside the transaction, which must outlive a server that refuses (Aurora has no such functions)."""
    yield from command("SAVEPOINT holdfast_identity")
    found: tuple[str, str] | None = None
    refused = False
    try:
        found = yield from _ask_identity()
    except ConnectionLost:
        raise
    except DatabaseError:
        refused = True
    if refused:
        yield from command("ROLLBACK TO SAVEPOINT holdfast_identity")
    yield from command("RELEASE SAVEPOINT holdfast_identity")
    return found


def _ask_identity() -> Operation[tuple[str, str]]:
    rows = yield from fetch(IDENTITY)
    return rows[0][0], rows[0][1]


def ask_outcome(
    number: TransactionNumber, identities: Mapping[str, tuple[str, str] | None]
) -> Operation[Outcome | None]:
    """Ask what became of a transaction; None while it is under way: its server process has not noticed the cut.

    A server that has forgotten a transaction so old answers NULL, and then nobody knows.
    """
    rows: Any = yield from fetch(STATUS.format(number=number.number))
    status, started = rows[0]
    if started != number.started and not (yield from _is_same_server(number, identities)):
        return Outcome.UNKNOWN
    return None if status == "in progress" else _ANSWERS.get(status, Outcome.UNKNOWN)


def _is_same_server(
    number: TransactionNumber, identities: Mapping[str, tuple[str, str] | None]
) -> Operation[bool]:
    known = identities.get(number.started)
    return known is not None and (yield from _ask_identity()) == known
