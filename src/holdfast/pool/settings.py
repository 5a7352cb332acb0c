"""A pool's settings, with SQLAlchemy's names and meanings where SQLAlchemy has them.

Rule: checked here, once, before any connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many connections a pool keeps and opens, and how long they live.

    ``pool_recycle`` is in seconds, -1 for never; ``max_overflow`` -1 for no limit.
    ``pool_max_idle`` is how many seconds a connection beyond ``pool_size`` may be idle before it is
    closed: 0 closes it when it comes back (as SQLAlchemy does), -1 never.
    ``pool_max_connecting`` is how many may be opened at once, -1 for no limit.
    """

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: float = 30.0
    pool_recycle: float = -1
    pool_pre_ping: bool = False
    pool_max_idle: float = 60.0
    pool_max_connecting: int = 3

    @property
    def asks(self) -> bool:
        """Whether every idle connection is looked into before it is lent."""
        return self.pool_pre_ping or self.pool_recycle >= 0

    def __post_init__(self) -> None:
        _check("pool_size", self.pool_size, self.pool_size >= 1, "at least 1", "pool_size=5")
        _check("pool_timeout", self.pool_timeout, self.pool_timeout >= 0, "seconds", "pool_timeout=30")
        _check(
            "pool_max_idle",
            self.pool_max_idle,
            self.pool_max_idle >= 0 or self.pool_max_idle == -1,
            "seconds, or -1 for never",
            "pool_max_idle=60",
        )
        _check(
            "pool_max_connecting",
            self.pool_max_connecting,
            self.pool_max_connecting >= 1 or self.pool_max_connecting == -1,
            "at least 1, or -1 for no limit",
            "pool_max_connecting=3",
        )


def _check(name: str, given: float, right: bool, wanted: str, example: str) -> None:
    if not right:
        raise InvalidRequestError(f"{name} must be {wanted}, not {given}", mend=f"Write `{example}`.")


DEFAULT = PoolSettings()


def settle(settings: PoolSettings, *, single: bool) -> PoolSettings:
    """Fit settings to the database: one in memory lives in one connection, which must not be replaced."""
    if not single:
        return settings
    return replace(
        settings, pool_size=1, max_overflow=0, pool_recycle=-1, pool_pre_ping=False, pool_max_idle=-1
    )
