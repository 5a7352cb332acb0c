"""Now and deadlines, in seconds.

Rule: rooms that need the time take a `Clock`, so that a test can hand them its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Give seconds that only grow, from an unknown start."""
        ...

    def now(self) -> datetime:
        """Give the time of day, in UTC."""
        ...


class SystemClock:
    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        return datetime.now(UTC)


SYSTEM = SystemClock()


@dataclass
class ManualClock:
    """A clock that stands still until a test moves it."""

    seconds: float = 0.0
    start: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.start.timestamp() + self.seconds, UTC)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment after which waiting ends."""

    at_seconds: float
    clock: Clock = SYSTEM

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM) -> Deadline:
        return cls(clock.monotonic() + seconds, clock)

    def remaining_seconds(self) -> float:
        return max(0.0, self.at_seconds - self.clock.monotonic())

    def passed(self) -> bool:
        return self.remaining_seconds() <= 0.0
