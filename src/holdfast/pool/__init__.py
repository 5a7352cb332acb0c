"""Lends connections: `state` decides, two thin shells act.

Rule: nobody outside this room keeps a connection longer than a transaction.
"""

from holdfast.pool.advice import PoolAdvice
from holdfast.pool.asynchronous import AsyncPool
from holdfast.pool.blocking import BlockingPool
from holdfast.pool.health import listening
from holdfast.pool.settings import PoolSettings
from holdfast.pool.state import PoolState
from holdfast.pool.statistics import Holder, Meter, PoolStats, Times

__all__ = [
    "AsyncPool",
    "BlockingPool",
    "Holder",
    "Meter",
    "PoolAdvice",
    "PoolSettings",
    "PoolState",
    "PoolStats",
    "Times",
    "listening",
]
