"""What a statement becomes, once: SQL text, how its parameters are read, and the shape of its rows.

A plan holds nothing of one execution.  Values are read from the bound parameters that SQLAlchemy's cache key
lists, so a plan serves every statement of the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from holdfast.model import Mapper, Relation
from holdfast.query import PLAIN, LoadTree

from .types import Processor

Kind = Literal["rows", "count", "unknown"]
Bind = Callable[[Sequence[Any], Mapping[str, Any] | None], tuple[str, Sequence[Any]]]


@dataclass(slots=True)
class JoinSlot:
    """A relation that the same row carries."""

    relation: Relation
    entity: EntitySlot


@dataclass(slots=True)
class EntitySlot:
    """An object in a row: its columns stand at ``first`` and after, in the order of ``names``."""

    mapper: Mapper
    first: int
    names: tuple[str, ...]
    processors: tuple[Processor | None, ...]
    nullable: bool = False
    tree: LoadTree = PLAIN
    joins: list[JoinSlot] = field(default_factory=list)
    wants: bool | None = None
    """Whether more statements follow for relations of the object; who sends them works it out, and the next."""
    loads: dict[tuple[Mapper, ...], Any] = field(default_factory=dict)
    """Those relations, by the classes that led to the object."""

    def index(self, name: str) -> int:
        return self.first + self.names.index(name)


@dataclass(slots=True)
class ColumnSlot:
    """A plain value in a row."""

    index: int
    processor: Processor | None
    hashable: bool = True


Slot = EntitySlot | ColumnSlot


@dataclass(slots=True)
class Plan:
    """A statement, ready to be sent again and again.

    ``sql`` is final unless ``bind`` answers another text: a statement with IN lists has one for each length.
    ``writes`` says that it must run in a transaction; ``refreshes`` that loaded objects take the row's values; ``locks`` that it locks rows;
    ``commits`` that the server commits what is open before it;
    ``loads`` that more statements follow for relations (None: not asked yet).
    """

    sql: str
    bind: Bind
    kind: Kind
    slots: tuple[Slot, ...] = ()
    keys: tuple[str, ...] = ()
    binary: bool = False
    writes: bool = False
    refreshes: bool = False
    locks: bool = False
    commits: bool = False
    unique: bool = False
    loads: bool | None = None
    touches: Mapper | None = None
    hydrate: Any = None
    source: str = ""
    lookups: tuple[tuple[Any, ...], ...] = ()
    """Per slot: the objects a row can be asked by, besides the name: ``row._mapping[User.name]``."""
    width: int = 0
    in_step: tuple[str, ...] = ()
    """The attributes whose values stand last in a row, for loaded objects and not for the user."""
    memo: dict[Any, Any] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many slots are the user's."""
        return len(self.slots) - len(self.in_step)

    @property
    def entities(self) -> list[EntitySlot]:
        return [slot for slot in self.slots if isinstance(slot, EntitySlot)]
