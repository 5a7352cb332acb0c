"""MariaDB and MySQL through asyncmy, async.

Rule: only this file imports ``asyncmy``.  Values are written into the statement by `mysql_text`.

A statement that is cancelled costs its connection: asyncmy drops the wire in the middle of an answer, and the server
would go on with the statement and its locks, so it is ended from a connection beside it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncmy
from asyncmy.connection import Connection
from asyncmy.constants.COMMAND import COM_SET_OPTION
from asyncmy.errors import MySQLError
from sqlalchemy.engine import URL

from holdfast.drivers import ends, keepalives, mysql
from holdfast.drivers.mysql import (
    ASK_FACTS,
    GIVE_NAMES_BACK,
    TAKE_NAME,
    Family,
    FamilyDriver,
    TooLongError,
    has_greeted,
)
from holdfast.drivers.mysql_text import render
from holdfast.errors import HoldfastError
from holdfast.steps import Answer

_IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS
_MULTI_STATEMENTS_OFF = struct.pack("<H", 1)


class AsyncmyConnection:
    """One connection, in autocommit mode."""

    __slots__ = ("_family", "_holds_names", "_most_bytes", "_poll", "_raw")

    def __init__(self, raw: Any, family: Family) -> None:
        self._raw = raw
        self._poll = ends.make_poll(raw._transport.get_extra_info("socket").fileno())
        self._family = family
        self._holds_names = False
        self._most_bytes = family.capabilities.max_statement_bytes or 2**30

    @property
    def raw(self) -> Any:
        return self._raw

    @property
    def in_transaction(self) -> bool:
        # what the server said last is no longer true of a wire that is gone
        return bool(self._raw.server_status & _IN_TRANSACTION) and self._raw._connected

    @property
    def usable(self) -> bool:
        return self._is_connected and (not self._holds_names or self.in_transaction)

    @property
    def _is_connected(self) -> bool:
        return self._raw._connected and not self._raw._stream_broken

    async def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Sequence[Sequence[Any]]:
        return (await self._send(render(sql, params))).rows or ()

    async def execute(self, sql: str, params: Sequence[Any]) -> int:
        return (await self._send(render(sql, params))).affected_rows  # type: ignore[no-any-return]

    async def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        count = 0
        for one in params:
            count += (await self._send(render(sql, one))).affected_rows
        return count

    async def run(self, sql: str, params: Sequence[Any]) -> Answer:
        result = await self._send(render(sql, params))
        if result.description is None:
            return Answer(None, (), result.affected_rows)
        return Answer(tuple(column[0] for column in result.description), result.rows, result.affected_rows)

    async def command(self, sql: str) -> str | None:
        takes = sql.startswith(TAKE_NAME)
        self._holds_names |= takes
        result = await self._send(sql.encode())
        if self._holds_names and not self.in_transaction:
            await self._give_names_back()
        return str(result.rows[0][0]) if takes else None

    async def _give_names_back(self) -> None:
        """End the locks by name together with their transaction; who cannot is not usable any more."""
        with suppress(MySQLError):
            await self._send(GIVE_NAMES_BACK)
            self._holds_names = False

    async def _send(self, statement: bytes) -> Any:
        """Send a statement, and answer asyncmy's result."""
        if len(statement) >= self._most_bytes:
            raise TooLongError
        raw = self._raw
        try:
            await raw.query(statement)
            result = raw._result
            while raw._result.has_next:  # a procedure's answers end with its status
                await raw.next_result()
        except MySQLError:
            if self.in_transaction:
                await self._look()
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._kill())
            raise
        return result

    async def _look(self) -> None:
        """Ask whether the transaction has outlived an error; an error tells nothing of it."""
        if self._is_connected:
            with suppress(MySQLError):
                await self._raw.ping(False)

    async def _kill(self) -> None:
        """End the connection on the server, from a connection beside it."""
        self.terminate()
        with suppress(MySQLError, OSError):
            async with asyncio.timeout(mysql.STOP_SECONDS):
                beside: Any = await asyncmy.connect(**self._family.arguments)
                try:
                    await beside.query(f"KILL {self._raw.thread_id()}")
                finally:
                    await beside.ensure_closed()

    def is_cut(self) -> bool:
        if not self._is_connected:
            return True
        wire = self._raw._transport.get_extra_info("socket")
        return wire is None or ends.is_cut(wire.fileno())

    async def ping(self, timeout_seconds: float | None = None) -> None:
        async with asyncio.timeout(timeout_seconds):
            await self._raw.ping(False)

    def peek(self) -> bool:
        # The state first: the number of a closed socket may be another's by now.  What the loop has
        # read already lies in asyncmy's buffer; what it has not is found by the look.
        raw = self._raw
        return self._is_connected and raw._proto.pos == raw._proto.length and not self._poll(0)

    async def cancel(self) -> None:
        await self._kill()

    async def close(self) -> None:
        await self._raw.ensure_closed()

    def terminate(self) -> None:
        transport = self._raw._transport
        if transport is not None:
            transport.abort()
        self._raw.close()


class AsyncmyDriver(FamilyDriver):
    """MariaDB or MySQL, async."""

    name = "asyncmy"

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self._family.arguments.pop("write_timeout", None)  # asyncio's writes do not wait

    async def connect(self) -> AsyncmyConnection:
        """Open a connection and set it up; the first one tells the dialect about the server."""
        failed: HoldfastError
        raw: Any = None
        try:
            raw = Connection(**self._family.arguments)  # type: ignore[no-untyped-call]
            await raw.connect()
            await self._set_up(raw)
            return AsyncmyConnection(raw, self._family)
        except HoldfastError as error:
            failed = error
        except (MySQLError, OSError, RuntimeError) as error:
            failed = self._family.connection_failed(error, reached=has_greeted(raw))
        except BaseException:
            if raw is not None:
                raw.close()
            raise
        if raw is not None:
            raw.close()
        raise failed

    async def _set_up(self, raw: Any) -> None:
        family = self._family
        keepalives.apply(raw._transport.get_extra_info("socket"), family.keepalives)
        # asyncmy always asks for several statements in one text, which nobody here sends but an injection.
        await raw._execute_command(COM_SET_OPTION, _MULTI_STATEMENTS_OFF)
        await raw.read_packet()
        if family.facts is None:
            await raw.query(ASK_FACTS)
            family.take_facts(raw._result.rows)
        await raw.query(family.setting_up())
        if family.first_words:
            await raw.query(family.first_words)

    def translate(self, error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        """Give the typed error for one of asyncmy's."""
        return mysql.translate(error, sql, params, known=isinstance(error, MySQLError))
