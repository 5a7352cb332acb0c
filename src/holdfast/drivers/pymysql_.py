"""MariaDB and MySQL through PyMySQL, blocking.

Rule: only this file imports ``pymysql``.  Values are written into the statement by `mysql_text`; PyMySQL carries it,
reads the answer, and knows from the server's status whether a transaction is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import SERVER_STATUS
from pymysql.err import MySQLError
from sqlalchemy.engine import URL

from holdfast import errors
from holdfast.capabilities import Capabilities
from holdfast.drivers import ends, mysql_errno
from holdfast.drivers.mysql import ASK_FACTS, Family
from holdfast.drivers.mysql_text import render
from holdfast.drivers.sqlstate import outcome_of
from holdfast.drivers.values import blame
from holdfast.errors import HoldfastError
from holdfast.steps import Answer

_IN_TRANSACTION: int = SERVER_STATUS.SERVER_STATUS_IN_TRANS
STOP_SECONDS = 5
"""How long the second connection may take that stops a statement of the first."""


class PymysqlConnection:
    """One connection, in autocommit mode."""

    __slots__ = ("_family", "_most_bytes", "_raw")

    def __init__(self, raw: Any, family: Family) -> None:
        self._raw = raw
        self._family = family
        self._most_bytes = family.capabilities.max_statement_bytes or 2**30

    @property
    def raw(self) -> Any:
        return self._raw

    @property
    def in_transaction(self) -> bool:
        return bool(self._raw.server_status & _IN_TRANSACTION)

    @property
    def usable(self) -> bool:
        return self._raw._sock is not None

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

    def command(self, sql: str) -> None:
        self._send(sql.encode())

    def _send(self, statement: bytes) -> Any:
        """Send a statement, and answer PyMySQL's result."""
        if len(statement) >= self._most_bytes:
            raise _TooLongError
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
        if self.usable:
            with suppress(MySQLError):
                self._raw.ping(reconnect=False)

    def is_cut(self) -> bool:
        sock = self._raw._sock
        return sock is None or ends.is_cut(sock.fileno())

    def cut(self) -> None:
        sock = self._raw._sock
        if sock is not None:
            ends.hang_up(sock.fileno())

    def ping(self) -> None:
        self._raw.ping(reconnect=False)

    def cancel(self) -> None:
        self._stop("KILL QUERY")

    def _stop(self, how: str) -> None:
        """End the statement, or all of the connection, from a connection beside it."""
        with suppress(MySQLError, OSError):
            beside = pymysql.connect(**{**self._family.arguments, "connect_timeout": STOP_SECONDS})
            try:
                beside.query(f"{how} {self._raw.thread_id()}")
            finally:
                beside.close()

    def close(self) -> None:
        if self._raw.open:
            self._raw.close()


class _TooLongError(Exception):
    """A statement that the server would not take and would hang up on."""


class PymysqlDriver:
    """MariaDB or MySQL, blocking."""

    name = "pymysql"
    threaded = False
    single = False

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        self._family = Family(url, options, library=pymysql, driver="pymysql")
        self._family.arguments |= {"charset": "utf8mb4"}
        self.dialect = self._family.dialect

    def __repr__(self) -> str:
        return f"PymysqlDriver({self._family.target})"

    @property
    def capabilities(self) -> Capabilities:
        return self._family.capabilities

    def on_learn(self, hear: Callable[[Capabilities], None]) -> None:
        """Tell the facts anew when the first connection has told them."""
        self._family.on_learn = hear

    def connect(self) -> PymysqlConnection:
        """Open a connection and set it up; the first one tells the dialect about the server."""
        failed: HoldfastError
        family = self._family
        raw: Any = None
        try:
            raw = pymysql.connect(**family.arguments)
            if family.facts is None:
                raw.query(ASK_FACTS)
                family.take_facts(raw._result.rows)
            raw.query(family.setting_up())
            if family.first_words:
                raw.query(family.first_words)
            return PymysqlConnection(raw, family)
        except HoldfastError as error:
            failed = error
        except (MySQLError, OSError, RuntimeError) as error:
            number, sqlstate, _ = _read(error)
            failed = family.connection_failed(error, number, sqlstate)
        if raw is not None and raw.open:
            raw.close()
        raise failed

    def translate(self, error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        """Give the typed error for one of PyMySQL's."""
        if isinstance(error, _TooLongError):
            return errors.ValueTooLong(
                "The statement with its values is longer than the server takes (max_allowed_packet)",
                mend="Save fewer or smaller values at once, or raise `max_allowed_packet` on the server.",
                statement=sql,
                orig=error,
            )
        if isinstance(error, MySQLError):
            number, sqlstate, text = _read(error)
            if number is None:
                return errors.ConnectionLost(
                    statement=sql, orig=error, outcome=outcome_of(errors.ConnectionLost, sql)
                )
            return mysql_errno.build(error, number, sqlstate, text, sql=sql, params=params)
        if isinstance(error, UnicodeEncodeError | OverflowError | TypeError | ValueError) and params:
            kind, position = blame(params)
            if kind is errors.WrongType and isinstance(error, OverflowError):
                kind = errors.ValueOutOfRange
            return kind(statement=sql, orig=error, position=position)
        return error


def _read(error: BaseException) -> tuple[int | None, str | None, str]:
    """Read (number, SQLSTATE, text); what PyMySQL says itself has no SQLSTATE, and 0 for a closed connection."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    text = str(error.args[1]) if len(error.args) > 1 else ""
    return number or None, getattr(error, "sqlstate", None), text
