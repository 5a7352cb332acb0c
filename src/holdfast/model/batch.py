"""What an instance carries of ours: its `Batch`, the siblings it was loaded with; and what it needs of a session.

No batch: transient.  A batch without session: detached.  ``pending``: added, not yet inserted.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol
from weakref import ref

from holdfast.native import alive

from .mapper import Mapper, Relation

BATCH = "_holdfast"
"""The entry of an instance's ``__dict__`` that holds its batch."""

CHANGED = "_holdfast_changed"
"""The entry of a detached object that holds what its changed attributes were."""

RAW = "*"
"""Before a name: the value as it was loaded, of an attribute that can change in place."""


class _Missing:
    def __repr__(self) -> str:
        return "<not loaded>"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class SessionPort(Protocol):
    """What instances need of the session that holds them."""

    abandoned: bool
    closed: bool
    flushing: bool
    dirty: dict[int, Any]

    def note_change(self, instance: Any, name: str) -> None:
        """Remember the value of an attribute before its first change."""

    def note_read(self, instance: Any, name: str) -> None:
        """Remember that a value that can change in place is now in somebody's hands."""

    def load_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """Load an attribute for the instance and its siblings; answer its value."""

    def load_replaced(self, instance: Any, name: str) -> Any:
        """Load what an assignment replaces, without a flush: the objects at hand may be half made."""

    def peek(self, instance: Any, relation: Relation) -> Any:
        """Answer the to-one target if the identity map has it, else None."""

    def cascade_add(self, instance: Any) -> None:
        """Add an object that a change brought within reach."""

    def released(self, relation: Relation, instance: Any) -> None:
        """An object was taken out of a relation that owns it."""

    def await_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """Answer an awaitable for an attribute's value (async sessions only)."""


class Batch:
    """Objects of one class that came from one result: siblings, held weakly."""

    __slots__ = ("epoch", "forbidden", "mapper", "members", "options", "pending", "session")

    def __init__(self, mapper: Mapper | None, session: Any, epoch: int = 0, options: Any = None) -> None:
        self.mapper = mapper
        self.session = session
        self.epoch = epoch
        self.options = options
        self.pending = False
        self.members: list[ref[Any]] = []
        self.forbidden: frozenset[str] = frozenset()

    def alive(self) -> list[Any]:
        """The siblings that still exist and still belong to this batch."""
        return alive(self.members, BATCH, self)

    def __repr__(self) -> str:
        state = "detached" if self.session is None else "pending" if self.pending else "persistent"
        return f"<Batch of {len(self.members)} {self.mapper.name if self.mapper else '?'}, {state}>"


DETACHED = Batch(None, None)


class _Unheld:
    """Stands for the session of an object that no session holds: remembers its changes until one does."""

    flushing = False
    dirty: ClassVar[dict[int, Any]] = {}

    def note_change(self, instance: Any, name: str) -> None:
        note_detached(instance, name)


UNHELD = _Unheld()


def note_detached(instance: Any, name: str) -> None:
    """Remember what an attribute of a detached object was, for the session that takes it back."""
    values = instance.__dict__
    value = values.get(RAW + name, values.get(name, MISSING))
    if isinstance(value, (list, set)) and RAW + name not in values:
        value = list(value)
    values.setdefault(CHANGED, {}).setdefault(name, value)


def session_of(instance: Any) -> Any:
    """The open session that holds the object, if one does."""
    batch = instance.__dict__.get(BATCH)
    session = None if batch is None else batch.session
    return None if session is None or session.closed else session
