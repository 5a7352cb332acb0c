"""A pool's settings, with SQLAlchemy's names and meanings.

Rule: checked here, once, before any connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many connections a pool keeps and opens, and how long they live.

    ``pool_recycle`` is in seconds, -1 for never; ``max_overflow`` -1 for no limit.
    """

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: float = 30.0
    pool_recycle: float = -1
    pool_pre_ping: bool = False

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise InvalidRequestError(
                f"pool_size must be at least 1, not {self.pool_size}", mend="Write `pool_size=5`."
            )
        if self.pool_timeout < 0:
            raise InvalidRequestError(
                f"pool_timeout must be seconds, not {self.pool_timeout}", mend="Write `pool_timeout=30`."
            )

    @property
    def checks(self) -> bool:
        """Whether an idle connection is looked at before it is lent."""
        return self.pool_pre_ping or self.pool_recycle >= 0


DEFAULT = PoolSettings()


def settle(settings: PoolSettings, *, single: bool) -> PoolSettings:
    """Fit settings to the database: one in memory lives in one connection, which must not be replaced."""
    if not single:
        return settings
    return replace(settings, pool_size=1, max_overflow=0, pool_recycle=-1, pool_pre_ping=False)
