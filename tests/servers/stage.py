"""Plays the scripts of `anomalies`: one transaction after another takes its step, on connections of their own.

A step that waits for another transaction's lock is left waiting, and the next step is taken; that it waits is what the
server says, not what a clock says.  Blocking sessions play on a thread each, async ones on the loop.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
from sqlalchemy import text

from holdfast import AsyncDatabase, Database
from holdfast.errors import DatabaseError
from tests.conftest import ask, mariadb, without_driver

from .anomalies import START, Anomaly, History, Row, Step
from .waiting import PATIENCE_SECONDS

Begin = dict[str, Any]
"""The arguments of ``session.begin``."""

IsWaiting = Callable[[str], Awaitable[bool]]
"""Whether the transaction of that name waits for a lock; the name is the one `_name` made known to the server."""


class Player:
    """One transaction of a script, on a session of either kind."""

    def __init__(self, who: str, session: Any, call: Callable[..., Awaitable[Any]], history: History) -> None:
        self.who = who
        self.session = session
        self.call = call
        self.history = history
        self.pending: asyncio.Task[None] | None = None
        self.known_as = who

    async def take(self, step: Step) -> None:
        """Take a step; a transaction that was refused is rolled back, and takes no more."""
        if self.who in self.history.errors:
            return
        try:
            await self._take(step)
        except DatabaseError as error:
            self.history.errors[self.who] = type(error).__name__
            await self.call(self.session.rollback)

    async def _take(self, step: Step) -> None:
        if step.word == "commit":
            await self.call(self.session.commit)
            self.history.committed.add(self.who)
        elif step.word == "rollback":
            await self.call(self.session.rollback)
        else:
            result = await self.call(self.session.execute, step.statement)
            if step.word == "read":
                self.history.reads.setdefault(self.who, []).append(dict(map(tuple, result.all())))


async def play(
    db: Database | AsyncDatabase,
    anomaly: Anomaly,
    begin_of: Callable[[str], Begin | None],
    is_waiting: IsWaiting,
) -> History:
    """Play a script; answers what came of it."""
    history = History()
    await _fill(db)
    async with AsyncExitStack() as stack:
        players = {
            who: await stack.enter_async_context(_player(db, who, begin_of(who), history))
            for who in sorted({step.who for step in anomaly.steps})
        }
        for step in anomaly.steps:
            player = players[step.who]
            if player.pending is not None:
                await asyncio.wait_for(player.pending, PATIENCE_SECONDS)
            player.pending = asyncio.create_task(player.take(step))
            for one in players.values():  # a commit may have set others free
                await _settle(one, is_waiting)
        for player in players.values():
            assert player.pending is not None
            await asyncio.wait_for(player.pending, PATIENCE_SECONDS)
    history.final = await _final(db)
    return history


async def _settle(player: Player, is_waiting: IsWaiting) -> None:
    """Wait until a step is done or waits for a lock."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while player.pending is not None:
        await asyncio.wait({player.pending}, timeout=0.002)
        if player.pending.done():
            player.pending.result()
            return
        if await is_waiting(player.known_as):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{player.who} neither goes on nor waits for a lock")


@asynccontextmanager
async def _player(
    db: Database | AsyncDatabase, who: str, begin: Begin | None, history: History
) -> AsyncIterator[Player]:
    if isinstance(db, AsyncDatabase):
        async with db.session() as session:
            if begin is not None:
                session.begin(**begin)
            player = Player(who, session, lambda act, *rest: act(*rest), history)
            await _name(player, db.dialect_name)
            yield player
        return
    with ThreadPoolExecutor(1) as thread:
        loop = asyncio.get_running_loop()

        def call(act: Callable[..., Any], *rest: Any) -> Awaitable[Any]:
            return loop.run_in_executor(thread, lambda: act(*rest))

        blocking = await call(db.session)
        try:
            if begin is not None:
                await call(lambda: blocking.begin(**begin))
            player = Player(who, blocking, call, history)
            await _name(player, db.dialect_name)
            yield player
        finally:
            await call(blocking.close)


async def _name(player: Player, server: str) -> None:
    """Let the watcher know who it is; SET takes no snapshot, nor does a question that touches no table."""
    if server == "postgresql":
        await player.call(player.session.execute, text(f"SET LOCAL application_name = '{player.who}'"))
    elif server == "mariadb":
        asked = await player.call(player.session.execute, text("SELECT CONNECTION_ID()"))
        player.known_as = str(asked.scalar_one())


async def _fill(db: Database | AsyncDatabase) -> None:
    rows = [Row(id=id_, value=value) for id_, value in START.items()]
    if isinstance(db, AsyncDatabase):
        async with db.begin() as session:
            await session.execute(Row.__table__.delete())
            session.add_all(rows)
    else:
        with db.begin() as blocking:
            blocking.execute(Row.__table__.delete())
            blocking.add_all(rows)


async def _final(db: Database | AsyncDatabase) -> dict[int, int]:
    statement = Row.__table__.select()
    if isinstance(db, AsyncDatabase):
        async with db.session() as session:
            return dict(map(tuple, (await session.execute(statement)).all()))  # type: ignore[arg-type]
    with db.session() as blocking:
        return dict(map(tuple, blocking.execute(statement).all()))  # type: ignore[arg-type]


# ---------------------------------------------------------------- who waits

_WAITS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    " AND cardinality(pg_blocking_pids(pid)) > 0"
)


@asynccontextmanager
async def watch(url: str) -> AsyncIterator[IsWaiting]:
    """A watcher of a server: says who waits.  On SQLite nobody does: who cannot go on is told at once."""
    if url.startswith("sqlite"):
        yield _nobody
        return
    if url.startswith("mariadb"):
        with mariadb(url) as connection:

            async def waits(number: str) -> bool:
                ((_, _, status),) = await asyncio.to_thread(ask, connection, "SHOW ENGINE INNODB STATUS")
                mine = rf"^MariaDB thread id {number},"
                return any(
                    re.search(mine, part, re.MULTILINE) and re.search(r"^LOCK WAIT ", part, re.MULTILINE)
                    for part in status.split("---TRANSACTION ")
                )

            yield waits
        return
    plain = without_driver(url)
    async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:

        async def is_waiting(who: str) -> bool:
            cursor = await connection.execute(_WAITS, [who])
            return await cursor.fetchone() is not None

        yield is_waiting


async def _nobody(who: str) -> bool:
    return False
