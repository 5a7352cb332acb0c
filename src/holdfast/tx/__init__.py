"""Transactions: how they begin on each server, when one is run again, what became of a commit, advisory locks."""

from .locks import begin_at_once, lock_number, take_lock
from .outcomes import Identities, TransactionNumber, ask_outcome, take_number
from .replay import Attempts, Ended, Policy, is_conflict
from .scope import Scope, begin_sql, describe_scope

__all__ = [
    "Attempts",
    "Ended",
    "Identities",
    "Policy",
    "Scope",
    "TransactionNumber",
    "ask_outcome",
    "begin_at_once",
    "begin_sql",
    "describe_scope",
    "is_conflict",
    "lock_number",
    "take_lock",
    "take_number",
]
