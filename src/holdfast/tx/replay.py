"""Whether a unit of work that failed is run again, and how long to wait before.

Theory: after a conflict nothing of the transaction lasts, and the same work may well succeed; so the whole of it runs
again, in a new transaction.  A connection that was lost before COMMIT was sent took its transaction with it, and is
the same case.  Anything else would fail again, or may have happened already, and is never repeated.

| error | replayed | why |
| --- | --- | --- |
| SerializationFailure (40001, 1020, SQLITE_BUSY_SNAPSHOT) | yes | another transaction changed what this one had read |
| DeadlockDetected (40P01, 1213) | yes | the server chose this one to give way |
| DatabaseBusy (SQLITE_BUSY, SQLITE_LOCKED) | yes | SQLite has one writer at a time |
| ConnectionLost, not done | yes | the transaction went with its connection |
| ConnectionFailed | after a lost connection | nothing ran; the server that was lost may be coming back |
| StaleDataError | yes, unless the work brought the version | the next attempt reads what is there now |
| CommitOutcomeUnknown | no | it may have lasted |
| LockTimeout | no | NOWAIT and lock_timeout are a wish to be told |
| LockTimeout (1205) of a statement without NOWAIT | yes | InnoDB's own patience, which finds deadlocks that it does not look for |
| PoolTimeout | no | nothing ran; waiting longer is for the pool to decide |
| anything else | no | |

Rule: errors are told apart by class, which comes from SQLSTATE or result codes; time and chance are arguments.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeGuard

from holdfast.errors import (
    ConnectionFailed,
    ConnectionLost,
    DatabaseBusy,
    DeadlockDetected,
    HoldfastError,
    InvalidRequestError,
    LockTimeout,
    OperationalError,
    Outcome,
    SerializationFailure,
    StaleDataError,
    TransactionFailed,
)

from .scope import Scope

CONFLICTS = (SerializationFailure, DeadlockDetected, DatabaseBusy, ConnectionLost)
FIRST_PAUSE_SECONDS = 0.01
FIRST_PAUSE_LOST_SECONDS = 0.1
"""After a lost connection: a server that restarts needs longer than one that had a conflict."""
LONGEST_PAUSE_SECONDS = 2.0


def is_conflict(error: BaseException) -> TypeGuard[OperationalError]:
    """Whether nothing of this transaction lasts, and the same work may succeed in a new one."""
    if isinstance(error, LockTimeout):
        return error.may_pass
    return isinstance(error, CONFLICTS) and error.outcome is Outcome.NOT_DONE


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a unit of work is run again: ``retries`` times after the first, none begun after ``deadline`` seconds."""

    scope: Scope = field(default_factory=Scope)
    retries: int = 5
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise InvalidRequestError(
                f"retries must be 0 or more, not {self.retries}", mend="Write `retries=5`."
            )
        if self.deadline is not None and self.deadline <= 0:
            raise InvalidRequestError(
                f"deadline must be seconds, not {self.deadline}", mend="Write `deadline=10`."
            )


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt failed: what it raised, and the conflict that had ended its transaction before, if any.

    Whatever the work made of such a conflict, nothing could last.
    """

    error: Exception
    conflict: Exception | None = None

    @property
    def reason(self) -> Exception:
        return self.conflict or self.error


class Attempts:
    """The attempts of one unit of work."""

    __slots__ = ("count", "met", "policy", "started", "waited_seconds")

    def __init__(self, policy: Policy, now: float) -> None:
        self.policy = policy
        self.started = now
        self.count = 1
        self.met: Counter[type[Exception]] = Counter()
        self.waited_seconds = 0.0

    def __repr__(self) -> str:
        return f"<Attempts {self.count} of {self.policy.retries + 1}, waited {self.waited_seconds:.3f} s>"

    def pause_after(self, ended: Ended, now: float, chance: float) -> float | None:
        """Tell how many seconds to wait before the next attempt; None where there is none.

        Exponential, with full jitter: ``chance`` is between 0 and 1, so that those who met do not meet again.
        """
        may_run_again = self._may_run_again(ended.reason)
        self.met[type(ended.reason)] += 1
        if not may_run_again or self.count > self.policy.retries:
            return None
        first = FIRST_PAUSE_LOST_SECONDS if self._was_lost else FIRST_PAUSE_SECONDS
        pause = min(LONGEST_PAUSE_SECONDS, first * 2.0 ** min(self.count - 1, 30)) * chance
        deadline = self.policy.deadline
        if deadline is not None and now + pause - self.started >= deadline:
            return None
        self.count += 1
        self.waited_seconds += pause
        return pause

    @property
    def _was_lost(self) -> bool:
        return ConnectionLost in self.met

    def _may_run_again(self, reason: Exception) -> bool:
        if isinstance(reason, StaleDataError):
            return reason.may_pass
        return is_conflict(reason) or (self._was_lost and isinstance(reason, ConnectionFailed))

    def give_up(self, ended: Ended, now: float) -> Exception:
        """The error to raise: it says how often the work was tried, and what it met."""
        error = ended.error
        if isinstance(error, TransactionFailed):
            error = ended.reason  # what a swallowed conflict leaves behind says less than the conflict
        if isinstance(error, HoldfastError):
            error.attempts, error.waited_seconds = self.count, self.waited_seconds
        if self.count > 1:
            _add_story(error, self._story(now))
        return error

    def _story(self, now: float) -> str:
        met = ", ".join(f"{kind.__name__} × {count}" for kind, count in self.met.items())
        return f"tried {self.count} times in {now - self.started:.2f} s, waited {self.waited_seconds:.2f} s, met {met}"


def _add_story(error: Exception, story: str) -> None:
    if isinstance(error, HoldfastError):
        error.happened = f"{error.happened.rstrip('.')} ({story})"
    else:
        error.add_note(f"The unit of work was {story}.")
