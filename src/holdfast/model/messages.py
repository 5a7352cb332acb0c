"""The words of this room: how a mistake in a model is told.

Every message says what was found, by name, and the line to write; the line is also the fact ``write``.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from holdfast.errors import ModelError, NotSupported


def mistake(happened: str, *, write: str, instead: str = "", **facts: Any) -> ModelError:
    """Make the error for a model that cannot work as written; ``instead`` says where the line goes."""
    return ModelError(happened, mend=f"Write{instead and ' '}{instead} `{write}`.", write=write, **facts)


def later(feature: str, *, write: str | None = None) -> NotSupported:
    """Make the error for something SQLAlchemy's ORM has and Holdfast has not yet."""
    mend = f"Write `{write}` for now." if write else "Leave it out for now."
    return NotSupported(feature=feature, mend=mend, write=write)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Answer `` (did you mean 'users'?)``, or nothing where no name is near."""
    near = nearest(name, names)
    return f" (did you mean {near!r}?)" if near else ""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Answer the name that was probably meant, whatever its case, or None."""
    lowered = {known.lower(): known for known in reversed(list(names))}
    found = get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def listed(names: Iterable[str]) -> str:
    """Answer names in one readable row."""
    return ", ".join(names) or "none"
