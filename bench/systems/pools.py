"""The pools measured beside each other, on PostgreSQL.

A class has ``name``, ``door``, ``open(url, size)``, ``close()``, ``borrow()`` (take a connection and give it
back) and ``work()`` (take one, run `STATEMENT` on it, give it back); async ones are coroutines.  Each pool is
set up once, with its own defaults, and with as many connections as ``size`` and no more.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from holdfast import AsyncDatabase, Database

STATEMENT = "SELECT 1"


class HoldfastPool:
    name = "holdfast"
    door = "blocking"

    def open(self, url: str, size: int) -> None:
        self._db = Database(url, pool_size=size, max_overflow=0)

    def close(self) -> None:
        self._db.close()

    def borrow(self) -> None:
        pool = self._db.pool
        pool.release(pool.acquire())

    def work(self) -> None:
        pool = self._db.pool
        connection = pool.acquire()
        try:
            connection.fetch(STATEMENT, (), False)
        finally:
            pool.release(connection)


class HoldfastSession(HoldfastPool):
    name = "holdfast session"
    borrow = None  # type: ignore[assignment]  # a session borrows when it has something to ask

    def work(self) -> None:
        with self._db.session() as session:
            session.scalar(text(STATEMENT))


class PsycopgPool:
    name = "psycopg_pool"
    door = "blocking"

    def open(self, url: str, size: int) -> None:
        from psycopg_pool import ConnectionPool

        self._pool = ConnectionPool(url, min_size=size, max_size=size, kwargs={"autocommit": True}, open=True)
        self._pool.wait()

    def close(self) -> None:
        self._pool.close()

    def borrow(self) -> None:
        self._pool.putconn(self._pool.getconn())

    def work(self) -> None:
        connection = self._pool.getconn()
        try:
            connection.execute(STATEMENT).fetchall()
        finally:
            self._pool.putconn(connection)


class QueuePool:
    name = "QueuePool"
    door = "blocking"

    def open(self, url: str, size: int) -> None:
        plain = url.replace("postgresql://", "postgresql+psycopg://")
        self._engine = create_engine(
            plain, pool_size=size, max_overflow=0, isolation_level="AUTOCOMMIT", pool_reset_on_return=None
        )

    def close(self) -> None:
        self._engine.dispose()

    def borrow(self) -> None:
        self._engine.pool.connect().close()

    def work(self) -> None:
        connection = self._engine.pool.connect()
        try:
            connection.driver_connection.execute(STATEMENT).fetchall()  # type: ignore[union-attr]
        finally:
            connection.close()


class SqlalchemyConnection(QueuePool):
    name = "SQLAlchemy connection"
    borrow = None  # type: ignore[assignment]

    def work(self) -> None:
        with self._engine.connect() as connection:
            connection.scalar(text(STATEMENT))


class HoldfastAsyncpg:
    name = "holdfast asyncpg"
    door = "async"
    driver = "asyncpg"

    async def open(self, url: str, size: int) -> None:
        plain = url.replace("postgresql://", f"postgresql+{self.driver}://")
        self._db = AsyncDatabase(plain, pool_size=size, max_overflow=0)

    async def close(self) -> None:
        await self._db.close()

    async def borrow(self) -> None:
        pool = self._db.pool
        await pool.release(await pool.acquire())

    async def work(self) -> None:
        pool = self._db.pool
        connection = await pool.acquire()
        try:
            await connection.fetch(STATEMENT, (), False)
        finally:
            await pool.release(connection)


class HoldfastAsyncSession(HoldfastAsyncpg):
    name = "holdfast session"
    borrow = None  # type: ignore[assignment]

    async def work(self) -> None:
        async with self._db.session() as session:
            await session.scalar(text(STATEMENT))


class HoldfastPsycopg(HoldfastAsyncpg):
    name = "holdfast psycopg"
    driver = "psycopg"


class AsyncpgPool:
    """As it comes, it sends a statement that resets the session whenever a connection comes back."""

    name = "asyncpg pool"
    door = "async"
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed

    async def open(self, url: str, size: int) -> None:
        import asyncpg

        self._pool = await asyncpg.create_pool(url, min_size=size, max_size=size, **self.options)

    async def close(self) -> None:
        await self._pool.close()

    async def borrow(self) -> None:
        await self._pool.release(await self._pool.acquire())

    async def work(self) -> None:
        connection = await self._pool.acquire()
        try:
            await connection.fetch(STATEMENT)
        finally:
            await self._pool.release(connection)


async def _no_reset(_: Any) -> None:
    return None


class AsyncpgPoolUnreset(AsyncpgPool):
    name = "asyncpg pool, no reset"
    options = {"reset": _no_reset}  # noqa: RUF012 - never changed


class PsycopgAsyncPool:
    name = "psycopg_pool"
    door = "async"

    async def open(self, url: str, size: int) -> None:
        from psycopg_pool import AsyncConnectionPool

        self._pool = AsyncConnectionPool(
            url, min_size=size, max_size=size, kwargs={"autocommit": True}, open=False
        )
        await self._pool.open(wait=True)

    async def close(self) -> None:
        await self._pool.close()

    async def borrow(self) -> None:
        await self._pool.putconn(await self._pool.getconn())

    async def work(self) -> None:
        connection = await self._pool.getconn()
        try:
            await (await connection.execute(STATEMENT)).fetchall()
        finally:
            await self._pool.putconn(connection)


class AsyncQueuePool:
    name = "QueuePool"
    door = "async"

    async def open(self, url: str, size: int) -> None:
        plain = url.replace("postgresql://", "postgresql+asyncpg://")
        self._engine = create_async_engine(
            plain, pool_size=size, max_overflow=0, isolation_level="AUTOCOMMIT", pool_reset_on_return=None
        )

    async def close(self) -> None:
        await self._engine.dispose()

    async def borrow(self) -> None:
        async with self._engine.connect():
            pass

    async def work(self) -> None:
        async with self._engine.connect() as connection:
            await connection.scalar(text(STATEMENT))


# The first of each door is what the ratios are to: the pool that comes with the driver.
POOLS: tuple[Any, ...] = (
    PsycopgPool,
    HoldfastPool,
    QueuePool,
    HoldfastSession,
    SqlalchemyConnection,
    AsyncpgPool,
    AsyncpgPoolUnreset,
    HoldfastAsyncpg,
    HoldfastPsycopg,
    PsycopgAsyncPool,
    AsyncQueuePool,
    HoldfastAsyncSession,
)
