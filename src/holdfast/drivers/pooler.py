"""What stands between a driver and PostgreSQL: nothing, or a pooler such as PgBouncer.

In transaction mode a pooler gives each transaction another server connection.  What lives in a server connection is
then found again by chance only: prepared statements, SET, LISTEN, session locks, temporary tables.  So a driver that
*shares* server connections names no statement, and sets nothing for longer than a transaction.

How a pooler is told: at the start of a connection the server says its process's number, with the key for
cancelling.  A pooler cannot hand that on, since its client has no process of its own, and makes one up.  So the number
told differs from ``pg_backend_pid()``, which a driver asks at its first connection, together with what it asks anyway.
How transaction mode is told: while a first connection is open, a second one is answered by the same process, or the
first one by another than before.  Where neither is seen the mode stays unknown, for several poolers behind one
address, or other clients, can hide it: then the driver takes the safe side, and a word of the user's ends the doubt.
Measured: docs/decisions/pooler.md.
"""

from __future__ import annotations

import warnings
from typing import Final

from holdfast.errors import InvalidRequestError, PoolerDetected

TRANSACTION: Final = "transaction"
SESSION: Final = "session"
UNKNOWN: Final = "unknown"
PROBE_SECONDS = 1.0
"""How long the second connection may wait for an answer: in session mode there may be no free server connection."""


class Pooler:
    """What is known of a pooler, by the user's word or by what the first connection found."""

    __slots__ = ("declared", "mode")

    def __init__(self, declared: str | None) -> None:
        self.declared = declared
        self.mode = declared

    def __repr__(self) -> str:
        return f"Pooler(declared={self.declared!r}, mode={self.mode!r})"

    @property
    def shares(self) -> bool:
        """Whether the next transaction may be carried out by another server connection."""
        return self.mode in (TRANSACTION, UNKNOWN)

    def meets(self, told: int, real: int) -> bool:
        """Tell whether two numbers of the server's process show a pooler that nobody has spoken of yet."""
        if self.mode is not None or told == real:
            return False
        self.mode = UNKNOWN
        return True

    def judge(self, first: int, second: int | None, again: int) -> None:
        """Judge by who answered: the first connection, the second beside it (None: nobody), the first again."""
        if second == first or again != first:
            self.mode = TRANSACTION

    def warn(self) -> None:
        """Say what was found; the caller's state must hold already, for a filter may make it an error."""
        warning = PoolerDetected(mode=self.mode) if self.mode == TRANSACTION else _doubt()
        warnings.warn(warning, stacklevel=3)


def _doubt() -> PoolerDetected:
    return PoolerDetected(
        "A pooler stands between this database and PostgreSQL, in a mode that cannot be told for certain,"
        " so no prepared statements are used",
        mend='Write `pooler="transaction"`, or `pooler="session"` where each connection keeps a server connection'
        ' of its own, which is faster: `Database(url, pooler="session")`.',
        mode=UNKNOWN,
    )


def check(pooler: object, *, server: str) -> None:
    """Refuse a word that is none, before any I/O.

    Raises:
        InvalidRequestError: with the words there are, or where the server has no poolers.
    """
    if pooler is None:
        return
    if pooler not in (TRANSACTION, SESSION):
        raise InvalidRequestError(
            "pooler must be 'transaction', 'session' or None",
            mend='Write `pooler="transaction"` behind PgBouncer in transaction mode.',
        )
    if server != "postgresql":
        raise InvalidRequestError(
            f"There is no pooler before {server}", mend="Leave it out: `Database(url)`."
        )
