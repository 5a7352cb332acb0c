"""MariaDB and MySQL through PyMySQL, blocking.

Rule: only this file imports ``pymysql``.  Values are written into the statement by `mysql_text`; PyMySQL carries it,
reads the answer, and knows from the server's status whether a transaction is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import SERVER_STATUS
from pymysql.err import MySQLError
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

_IN_TRANSACTION: int = SERVER_STATUS.SERVER_STATUS_IN_TRANS


class PymysqlConnection:
    """One connection, in autocommit mode."""

    __slots__ = ("_family", "_holds_names", "_most_bytes", "_poll", "_raw")

    def __init__(self, raw: Any, family: Family) -> None:
        self._raw = raw
        self._poll = ends.make_poll(raw._sock.fileno())
        self._family = family
        self._holds_names = False
        self._most_bytes = family.capabilities.max_statement_bytes or 2**30

    @property
    def raw(self) -> Any:
        return self._raw

    @property
    def in_transaction(self) -> bool:
        raw = self._raw  # what the server said last is no longer true of a wire that is gone
        return bool(raw.server_status & _IN_TRANSACTION) and raw._sock is not None

    @property
    def usable(self) -> bool:
        return self._raw._sock is not None and (not self._holds_names or self.in_transaction)

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Sequence[Sequence[Any]]:
        return self._send(render(sql, params)).rows or ()

    def execute(self, sql: str, params: Sequence[Any]) -> int:
        return self._send(render(sql, params)).affected_rows  # type: ignore[no-any-return]

    def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        return sum(self._send(render(sql, one)).affected_rows for one in params)

    def run(self, sql: str, params: Sequence[Any]) -> Answer:
        result = self._send(render(sql, params))
        if result.description is None:
            return Answer(None, (), result.affected_rows)
        return Answer(tuple(column[0] for column in result.description), result.rows, result.affected_rows)

    def command(self, sql: str) -> str | None:
        takes = sql.startswith(TAKE_NAME)
        self._holds_names |= takes
        result = self._send(sql.encode())
        if self._holds_names and not self.in_transaction:
            self._give_names_back()
        return str(result.rows[0][0]) if takes else None

    def _give_names_back(self) -> None:
        """End the locks by name together with their transaction; who cannot is not usable any more."""
        with suppress(MySQLError):
            self._send(GIVE_NAMES_BACK)
            self._holds_names = False

    def _send(self, statement: bytes) -> Any:
        """Send a statement, and answer PyMySQL's result."""
        if len(statement) >= self._most_bytes:
            raise TooLongError
        raw = self._raw
        try:
            raw.query(statement)
            result = raw._result
            while raw._result.has_next:  # a procedure's answers end with its status
                raw.next_result()
        except MySQLError:
            if self.in_transaction:
                self._look()
            raise
        except BaseException:  # Ctrl-C: PyMySQL has dropped the wire, and the server would go on
            self._stop("KILL")
            raise
        return result

    def _look(self) -> None:
        """Ask whether the transaction has outlived an error; an error tells nothing of it."""
        if self._raw._sock is not None:
            with suppress(MySQLError):
                self._raw.ping(reconnect=False)

    def is_cut(self) -> bool:
        sock = self._raw._sock
        return sock is None or ends.is_cut(sock.fileno())

    def cut(self) -> None:
        sock = self._raw._sock
        if sock is not None:
            ends.hang_up(sock.fileno())

    def ping(self, timeout_seconds: float | None = None) -> None:
        raw = self._raw
        if timeout_seconds is None:
            raw.ping(reconnect=False)
            return
        kept, raw._read_timeout = raw._read_timeout, timeout_seconds
        try:
            raw.ping(reconnect=False)
        finally:
            raw._read_timeout = kept  # PyMySQL tells the socket before it reads again

    def peek(self) -> bool:
        # The state first: the number of a closed socket may be another's by now.
        return self._raw._sock is not None and not self._poll(0)

    def cancel(self) -> None:
        self._stop("KILL QUERY")

    def _stop(self, how: str) -> None:
        """End the statement, or all of the connection, from a connection beside it."""
        with suppress(MySQLError, OSError):
            beside = pymysql.connect(**{**self._family.arguments, "connect_timeout": mysql.STOP_SECONDS})
            try:
                beside.query(f"{how} {self._raw.thread_id()}")
            finally:
                beside.close()

    def close(self) -> None:
        if self._raw.open:
            self._raw.close()


class PymysqlDriver(FamilyDriver):
    """MariaDB or MySQL, blocking."""

    name = "pymysql"

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self._family.arguments |= {"charset": "utf8mb4"}

    def connect(self) -> PymysqlConnection:
        """Open a connection and set it up; the first one tells the dialect about the server."""
        failed: HoldfastError
        raw: Any = None
        try:
            raw = pymysql.connect(**self._family.arguments, defer_connect=True)
            raw.connect()
            self._set_up(raw)
            return PymysqlConnection(raw, self._family)
        except HoldfastError as error:
            failed = error
        except (MySQLError, OSError, RuntimeError) as error:
            failed = self._family.connection_failed(error, reached=has_greeted(raw))
        if raw is not None and raw.open:
            raw.close()
        raise failed

    def _set_up(self, raw: Any) -> None:
        family = self._family
        keepalives.apply(raw._sock, family.keepalives)
        if family.facts is None:
            raw.query(ASK_FACTS)
            family.take_facts(raw._result.rows)
        raw.query(family.setting_up())
        if family.first_words:
            raw.query(family.first_words)

    def translate(self, error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        """Give the typed error for one of PyMySQL's."""
        return mysql.translate(error, sql, params, known=isinstance(error, MySQLError))
