"""The pool has a type, and so has all it tells."""

from typing import assert_type

from holdfast import AsyncDatabase, Database
from holdfast.pool import AsyncPool, BlockingPool, Holder, PoolAdvice, PoolStats

db = Database("sqlite://")
assert_type(db.pool, BlockingPool)
assert_type(db.pool.stats(), PoolStats)
assert_type(db.pool.stats().wait.p99_seconds, float | None)
assert_type(db.pool.stats().longest, Holder | None)
assert_type(db.pool.holders(), tuple[Holder, ...])
assert_type(db.pool.advice(instances=2).pool_size, int)


async def advise(db: AsyncDatabase) -> PoolAdvice:
    assert_type(db.pool, AsyncPool)
    assert_type(db.pool.stats(), PoolStats)
    return await db.pool.advice(server_cores=8)
