"""What became of a COMMIT: done, not done, or unknown.

Theory: a client knows that a transaction is not done as long as COMMIT was not sent, and when the server's own words
refuse it.  It knows that it is done when the server says so.  In between, whatever ends the wait (a cut wire, a
time-out of the driver, a cancellation that would wait no longer) leaves it unknown; to say anything else is a guess.

Rule: decided by facts of the error and of the connection, for every driver alike, never by text.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    HoldfastError,
    Outcome,
    StatementTimeout,
    TransactionFailed,
)
from holdfast.steps import Command, Step

_IN_DOUBT = frozenset({"40003", "08007"})
"""SQLSTATEs by which a server, or a proxy before it, says that it does not know itself."""
_SQLITE_IOERR = 10
"""https://www.sqlite.org/rescode.html#ioerr: the log may hold the transaction, or not."""


def is_finish(step: Step) -> bool:
    """Whether a step is a COMMIT whose outcome is to be known."""
    return type(step) is Command and step.finish


def refusal(connection: Any, step: Command) -> HoldfastError | None:
    """Say why a COMMIT is not even sent: nothing is open, or the wire is known to be cut."""
    if connection is None:
        return TransactionFailed(
            "The transaction ended before its COMMIT",
            mend="Call `session.rollback()` and do the work again; end transactions by the session only,"
            " never by `text('COMMIT')` or `text('ROLLBACK')`.",
            statement=step.sql,
        )
    if not connection.usable or connection.is_cut():
        return ConnectionLost(statement=step.sql, outcome=Outcome.NOT_DONE)
    return None


def contradiction(answer: Any, step: Command) -> HoldfastError | None:
    """Hear a server that answers a COMMIT with ROLLBACK: its transaction had failed before."""
    return TransactionFailed(statement=step.sql) if step.finish and answer == "ROLLBACK" else None


def judge(error: BaseException, step: Step) -> BaseException:
    """Say the outcome of an error that ended a COMMIT under way."""
    if not is_finish(step) or not isinstance(error, HoldfastError):
        return error
    if _is_refused(error):
        error.outcome = Outcome.NOT_DONE
        return error
    return CommitOutcomeUnknown(
        f"{error.happened.rstrip('.')} during COMMIT, so the work may have lasted or not",
        statement=error.statement,
        orig=error.orig,
        sqlstate=error.sqlstate,
    )


def gave_no_answer(error: BaseException | None) -> bool:
    """Whether a driver stopped waiting by its own clock: the server has said nothing."""
    return isinstance(error, StatementTimeout) and error.sqlstate is None


def given_up(step: Command) -> CommitOutcomeUnknown:
    """Say that a COMMIT was not waited for any longer after a cancellation."""
    return CommitOutcomeUnknown(
        "The COMMIT was cancelled and did not answer in time, so the work may have lasted or not",
        statement=step.sql,
    )


def _is_refused(error: HoldfastError) -> bool:
    """Whether the database itself said that it did not commit."""
    number = getattr(error, "sqlite_errorcode", None)
    if number is not None:
        return bool(number & 0xFF != _SQLITE_IOERR)
    return (
        error.sqlstate is not None
        and error.sqlstate not in _IN_DOUBT
        and not isinstance(error, ConnectionLost)
    )
