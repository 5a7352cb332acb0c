"""Row locks: what a statement asks for, and whether the server has it.

A lock that a server has not is refused before anything is sent: SQLAlchemy's compiler leaves the words out in silence,
and then two workers take the same job.  SQLite has no row locks; there a plain ``with_for_update()`` is kept by the
write transaction that it opens, which keeps all other writers out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import ForUpdateArg

from holdfast.capabilities import Locks
from holdfast.errors import InvalidRequestError, LockNotSupported, ReadOnly
from holdfast.query import FromStatement

FORMS = ("nowait", "read", "skip_locked", "key_share", "of")
"""The words of ``with_for_update``, by SQLAlchemy's names."""


def lock_options(asked: Any) -> dict[str, Any] | None:
    """What ``get(..., with_for_update=...)`` says: True, a mapping of words, or nothing."""
    if asked is None or asked is False:
        return None
    if asked is True:
        return {}
    if isinstance(asked, ForUpdateArg):
        return {word: getattr(asked, word) for word in FORMS}
    if isinstance(asked, Mapping) and asked.keys() <= set(FORMS):
        return dict(asked)
    raise InvalidRequestError(
        "with_for_update takes True, or a dict of " + ", ".join(FORMS),
        mend='Write with_for_update=True, or with_for_update={"nowait": True}.',
    )


def find_locks(statement: Any) -> list[ForUpdateArg]:
    """The locks that a statement and the selects inside it take."""
    if isinstance(statement, FromStatement):
        statement = statement.statement
    if not isinstance(statement, visitors.ExternallyTraversible):
        return []
    found = [getattr(element, "_for_update_arg", None) for element in visitors.iterate(statement)]
    return [lock for lock in found if lock is not None]


def judge_locks(statement: Any, locks: Locks, *, server: str) -> bool:
    """Say whether a statement takes row locks; raises `LockNotSupported` for one that the server has not."""
    asked = find_locks(statement)
    for lock in asked:
        for word, has_it in _needs(lock, locks):
            if not has_it:
                raise LockNotSupported(feature=word, server=server)
    return bool(asked)


def _needs(lock: ForUpdateArg, locks: Locks) -> list[tuple[str, bool]]:
    """(a word of a lock, whether the server has it), for the words that are said."""
    words = [
        ("with_for_update()", True, locks.for_update),
        ("read=True", lock.read, locks.for_share),
        ("key_share=True", lock.key_share, locks.key_share),
        ("nowait=True", lock.nowait, locks.nowait),
        ("skip_locked=True", lock.skip_locked, locks.skip_locked),
    ]
    return [(word, has_it) for word, said, has_it in words if said]


def read_only_lock() -> ReadOnly:
    """A transaction that only reads cannot keep writers out."""
    return ReadOnly(
        "A lock was asked for in a read-only transaction",
        mend="Open one that may write: `with db.begin() as session: ...`.",
    )
