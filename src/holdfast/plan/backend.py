"""What all sessions of one database share: the dialect, the facts, the plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from holdfast.capabilities import Capabilities

from .cache import PlanCache
from .types import bind_processor

ArrayEncoder = Callable[[TypeEngine[Any]], Callable[[Sequence[Any]], Any]]
"""For a column type: what turns a list of its values into one array parameter."""


@dataclass(slots=True)
class Backend:
    """A database as silent rooms see it."""

    dialect: Dialect
    capabilities: Capabilities
    array_encoder: ArrayEncoder
    plans: PlanCache = field(default_factory=PlanCache)
    identities: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    """Servers that gave numbers of transactions: see tx/outcomes.py."""
    memo: dict[Any, Any] = field(default_factory=dict)
    """SQL of flushes and relation loads, made once per table or relation; bounded by the models."""

    def learn(self, known: Capabilities) -> None:
        """Take what a first connection told of the server; what was made on an assumption is made anew."""
        self.capabilities = known
        self.plans.clear()
        self.memo.clear()


def plain_arrays(dialect: Dialect) -> ArrayEncoder:
    """Arrays as lists of bound values, for drivers that have nothing faster."""

    def encoder(type_: TypeEngine[Any]) -> Callable[[Sequence[Any]], Any]:
        processor = bind_processor(type_, dialect)
        if processor is None:
            return list
        return lambda values: [None if v is None else processor(v) for v in values]

    return encoder
