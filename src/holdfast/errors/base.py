"""The root of the error family.

Rule: an error's text is made of names and advice, never of a user's values and never of the
driver's own message (PostgreSQL's DETAIL quotes the row).  The driver's exception is kept in
``orig``, and is not chained, so that no printed traceback shows it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


class Outcome(Enum):
    """What became of the work that failed."""

    DONE = "done"
    NOT_DONE = "not done"
    UNKNOWN = "unknown"


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"<{key}>"


class HoldfastError(Exception):
    """The base of every error of Holdfast.

    Facts are keyword arguments and become attributes.  Without ``happened`` the class's own
    sentence is filled from the facts, and so is ``mend``.
    """

    code: str = "holdfast-error"
    kind: str = "error"
    outcome: Outcome = Outcome.NOT_DONE
    happened: str = "Holdfast could not do this"
    mend: str = "Read the page of this code."
    statement: str | None = None
    orig: BaseException | None = None

    table: str | None = None
    column: str | None = None
    columns: tuple[str, ...] = ()
    constraint: str | None = None
    field: str | None = None
    position: int | None = None
    """Which bound value is at fault, counted from 0; None where the driver does not say."""
    sqlstate: str | None = None
    attempts: int = 1
    """How often the work was tried, by `Database.run`."""
    waited_seconds: float = 0.0
    """How long it was waited between the attempts."""

    def __init__(
        self,
        happened: str | None = None,
        *,
        mend: str | None = None,
        statement: str | None = None,
        orig: BaseException | None = None,
        outcome: Outcome | None = None,
        **facts: Any,
    ) -> None:
        self.__dict__.update(facts)
        self.statement = statement
        self.orig = orig
        self.outcome = outcome or self.outcome
        self.happened = happened or type(self).happened.format_map(_Facts(facts))
        self.mend = mend or type(self).mend.format_map(_Facts(facts))
        super().__init__(self.happened)

    def __str__(self) -> str:
        happened = self.happened.rstrip(".") + self._place()
        return f"{happened}. {self.mend} [{self.code}: docs/errors/{self.code}.md]"

    def __reduce__(self) -> Any:
        return type(self), self.args, {**self.__dict__, "orig": None}

    def _place(self) -> str:
        columns = self.columns or ((self.column,) if self.column else ())
        named = (
            ("field", self.field),
            ("table", self.table),
            ("column" if len(columns) < 2 else "columns", ", ".join(columns)),
            ("constraint", self.constraint),
        )
        parts = [f"{name} {value}" for name, value in named if value and value not in self.happened]
        return f" ({', '.join(parts)})" if parts else ""
