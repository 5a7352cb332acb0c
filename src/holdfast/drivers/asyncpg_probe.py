"""asyncpg before a pooler: how its mode is found, and a connection that sets nothing beyond a transaction.

Rule: the theory stands in pooler.py; here is what asyncpg does of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import asyncpg

from holdfast.drivers.pooler import PROBE_SECONDS, Pooler
from holdfast.drivers.postgresql import ASK_PROCESS


class SharedAsyncpg(asyncpg.Connection):  # type: ignore[misc]
    """asyncpg's connection, which sets nothing for longer than a transaction.

    Before it asks about a type that it does not know, asyncpg switches ``jit`` off for the session, and on again
    afterwards: behind a pooler those may be two sessions.
    """

    async def _introspect_types(self, typeoids: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - asyncpg's own
        if self.is_in_transaction():
            return await super()._introspect_types(typeoids, timeout)
        await self.execute("BEGIN")
        try:
            found = await super()._introspect_types(typeoids, timeout)
        except BaseException:
            with suppress(Exception):
                await self.execute("ROLLBACK")
            raise
        await self.execute("COMMIT")
        return found


async def ask(raw: Any, sql: str) -> Any:
    """Ask for one row by a statement without a name, which leaves nothing behind."""
    statement = await raw.prepare(sql, name="")
    return await statement.fetchrow()


async def open_beside(first: Any, process: int, pooler: Pooler, arguments: Mapping[str, Any]) -> Any:
    """Open a second connection, find by both what the mode is, and close the first."""
    try:
        beside = await asyncpg.connect(**arguments)
    except (asyncpg.PostgresError, OSError):  # there may be no room for a second one
        await first.close()
        return await asyncpg.connect(**arguments)
    try:
        await _find_mode(first, beside, process, pooler)
    except BaseException:
        beside.terminate()
        raise
    return beside


async def _find_mode(first: Any, beside: Any, process: int, pooler: Pooler) -> None:
    asked = asyncio.ensure_future(ask(beside, ASK_PROCESS))
    asked.add_done_callback(_look_at)
    done, _ = await asyncio.wait({asked}, timeout=PROBE_SECONDS)
    again = (await ask(first, ASK_PROCESS))[0]
    await first.close()  # whose server connection the other one may be waiting for
    second = (await asked)[0]
    pooler.judge(process, second if done else None, again)


def _look_at(asked: asyncio.Future[Any]) -> None:
    """Let a question that nobody waits for any more end in silence."""
    if not asked.cancelled():
        asked.exception()
