"""Events of the core, and who listens to them.

Rule: an event is a frozen record without a user's values.  Whoever emits asks first whether
anybody listens (``if observers.active:``), so that silence costs one test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StatementStarted:
    sql: str


@dataclass(frozen=True, slots=True)
class StatementEnded:
    """``rowcount`` is the rows given or touched; -1 where that is unknown."""

    sql: str
    rowcount: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class StatementFailed:
    sql: str
    error: BaseException
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class PlanBuilt:
    sql: str
    duration_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolWaited:
    duration_seconds: float
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class RelationLoaded:
    """``parents`` is how many objects were served; ``by_touch`` whether an attribute asked."""

    model: str
    name: str
    parents: int
    by_touch: bool = False


Event = StatementStarted | StatementEnded | StatementFailed | PlanBuilt | PoolWaited | RelationLoaded
Listener = Callable[[Event], None]


class Observers:
    """Who listens.  Adding and removing copy the tuple, so emitting needs no lock."""

    __slots__ = ("_listeners", "active")

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self.active = False
        """Whether anybody listens; the same as ``bool(observers)``, without a call."""

    def __bool__(self) -> bool:
        return self.active

    def __repr__(self) -> str:
        return f"Observers({len(self._listeners)} listening)"

    def add(self, listener: Listener) -> Callable[[], None]:
        """Let a listener hear every event; answers the function that removes it."""
        self._listeners = (*self._listeners, listener)
        self.active = True

        def remove() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)
            self.active = bool(self._listeners)

        return remove

    def emit(self, event: Event) -> None:
        """Tell all listeners."""
        for listener in self._listeners:
            listener(event)
