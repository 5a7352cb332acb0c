"""Lends connections: `state` decides, two thin shells act.

Rule: nobody outside this room keeps a connection longer than a transaction.
"""

from holdfast.pool.asynchronous import AsyncPool
from holdfast.pool.blocking import BlockingPool
from holdfast.pool.settings import PoolSettings
from holdfast.pool.state import PoolState, PoolStats

__all__ = ["AsyncPool", "BlockingPool", "PoolSettings", "PoolState", "PoolStats"]
