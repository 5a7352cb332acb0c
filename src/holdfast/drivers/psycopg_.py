"""PostgreSQL through psycopg 3, blocking and async.

Rule: only this file imports ``psycopg``.  Statements are compiled with native ``$1``
placeholders and sent by raw cursors, which do not look at the text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Dumper, Loader
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL
from sqlalchemy.types import JSON, TypeDecorator, TypeEngine

from holdfast import errors
from holdfast.drivers import binary_arrays, ends, keepalives, postgresql, sqlstate
from holdfast.drivers.pooler import Pooler
from holdfast.drivers.psycopg_probe import ask_process, ask_process_async
from holdfast.drivers.values import blame
from holdfast.errors import BadUrl, HoldfastError
from holdfast.steps import Answer

_IDLE = int(pq.TransactionStatus.IDLE)
_OPEN = (int(pq.TransactionStatus.INTRANS), int(pq.TransactionStatus.INERROR))
_USABLE = (_IDLE, *_OPEN)
_NAMES = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.keyword)


class _Base:
    __slots__ = ("_cursor", "_pgconn", "_poll", "_raw")

    def __init__(self, raw: Any, cursor: Any) -> None:
        self._raw = raw
        self._pgconn = raw.pgconn
        self._poll = ends.make_poll(raw.pgconn.socket)
        self._cursor = cursor

    @property
    def raw(self) -> Any:
        return self._raw

    @property
    def in_transaction(self) -> bool:
        return self._pgconn.transaction_status in _OPEN

    @property
    def usable(self) -> bool:
        return self._pgconn.transaction_status in _USABLE

    def is_cut(self) -> bool:
        return not self.usable or ends.is_cut(self._pgconn.socket)

    def peek(self) -> bool:
        # The state first: the number of a closed socket may be another's by now.
        return self._pgconn.transaction_status == _IDLE and not self._poll(0)

    def terminate(self) -> None:
        self._pgconn.finish()

    def _answer(self, rows: Sequence[Sequence[Any]]) -> Answer:
        keys = tuple(column.name for column in self._cursor.description)
        return Answer(keys, rows, self._cursor.rowcount)


class PsycopgConnection(_Base):
    """One blocking connection, in autocommit mode."""

    __slots__ = ()

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Sequence[Sequence[Any]]:
        cursor = self._cursor
        cursor.execute(sql, params, binary=binary)
        return cursor.fetchall()  # type: ignore[no-any-return]

    def execute(self, sql: str, params: Sequence[Any]) -> int:
        return self._cursor.execute(sql, params).rowcount  # type: ignore[no-any-return]

    def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        self._cursor.executemany(sql, params)
        return self._cursor.rowcount  # type: ignore[no-any-return]

    def run(self, sql: str, params: Sequence[Any]) -> Answer:
        cursor = self._cursor
        cursor.execute(sql, params or None)
        if cursor.description is None:
            return Answer(None, (), cursor.rowcount)
        return self._answer(cursor.fetchall())

    def command(self, sql: str) -> str | None:
        return self._cursor.execute(sql, prepare=False).statusmessage  # type: ignore[no-any-return]

    def cut(self) -> None:
        with suppress(psycopg.OperationalError):  # it is closed already
            ends.hang_up(self._pgconn.socket)

    def ping(self, timeout_seconds: float | None = None) -> None:
        if timeout_seconds is None:
            self._cursor.execute("", prepare=False)
        else:
            _ping(self._pgconn, self._poll, timeout_seconds)

    def cancel(self) -> None:
        self._raw.cancel_safe()

    def close(self) -> None:
        self._raw.close()


def _ping(pgconn: Any, wait: Callable[[float], Any], timeout_seconds: float) -> None:
    """Send an empty statement and wait so long for the answer; psycopg itself would wait for ever."""
    end = monotonic() + timeout_seconds
    pgconn.send_query(b"")
    pgconn.flush()
    while pgconn.is_busy():
        if not wait(max(0.0, end - monotonic()) * 1000):
            raise TimeoutError
        pgconn.consume_input()
    _end_ping(pgconn)


async def _ping_async(pgconn: Any) -> None:
    """The same on a loop; psycopg itself spends five more seconds on cancelling what does not answer."""
    loop, fileno = asyncio.get_running_loop(), pgconn.socket
    pgconn.send_query(b"")
    pgconn.flush()
    while pgconn.is_busy():
        readable = asyncio.Event()
        loop.add_reader(fileno, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(fileno)
        pgconn.consume_input()
    _end_ping(pgconn)


def _end_ping(pgconn: Any) -> None:
    while pgconn.get_result() is not None:
        if pgconn.is_busy():
            pgconn.consume_input()
    if pgconn.transaction_status not in _USABLE:
        raise psycopg.OperationalError("the connection is closed")


class PsycopgAsyncConnection(_Base):
    """One async connection, in autocommit mode."""

    __slots__ = ()

    async def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Sequence[Sequence[Any]]:
        cursor = self._cursor
        await cursor.execute(sql, params, binary=binary)
        return await cursor.fetchall()  # type: ignore[no-any-return]

    async def execute(self, sql: str, params: Sequence[Any]) -> int:
        await self._cursor.execute(sql, params)
        return self._cursor.rowcount  # type: ignore[no-any-return]

    async def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        await self._cursor.executemany(sql, params)
        return self._cursor.rowcount  # type: ignore[no-any-return]

    async def run(self, sql: str, params: Sequence[Any]) -> Answer:
        cursor = self._cursor
        await cursor.execute(sql, params or None)
        if cursor.description is None:
            return Answer(None, (), cursor.rowcount)
        return self._answer(await cursor.fetchall())

    async def command(self, sql: str) -> str | None:
        await self._cursor.execute(sql, prepare=False)
        return self._cursor.statusmessage  # type: ignore[no-any-return]

    async def ping(self, timeout_seconds: float | None = None) -> None:
        if timeout_seconds is None:
            await self._cursor.execute("", prepare=False)
        else:
            async with asyncio.timeout(timeout_seconds):
                await _ping_async(self._pgconn)

    async def cancel(self) -> None:
        await self._raw.cancel_safe()

    async def close(self) -> None:
        await self._raw.close()


class _AsItIs(Dumper):
    """Sends a `BinaryArray` as it is."""

    format = pq.Format.BINARY

    def dump(self, obj: Any) -> Any:
        return obj


class _UnknownLoader(Loader):
    """Reads the binary form of a type that psycopg does not know, as far as it is text.

    That holds for citext, for enumerations, and for ltree after its version byte; psycopg would give bytes.
    """

    format = pq.Format.BINARY

    def load(self, data: Any) -> Any:
        raw = bytes(data)
        try:
            return (raw[1:] if raw[:1] == b"\x01" else raw).decode()
        except UnicodeDecodeError:
            return raw


_ARRAY_DUMPERS = [(kind, type(kind.__name__, (_AsItIs,), {"oid": kind.oid})) for kind in binary_arrays.KINDS]


class _DriverBase:
    name = "psycopg"
    threaded = False
    single = False

    def __init__(self, url: URL, options: Mapping[str, Any], pooler: str | None = None) -> None:
        for name in url.query:
            if name not in _NAMES:
                raise BadUrl(
                    reason=f"libpq has no option {name!r}",
                    mend="Known options: https://www.postgresql.org/docs/current/libpq-connect.html.",
                )
        settings, connect_args = postgresql.split_options(options)
        self.dialect = PGDialect_psycopg(dbapi=psycopg, paramstyle="numeric_dollar", **settings)  # type: ignore[no-untyped-call]
        # hstore stays text, which SQLAlchemy reads; its own form needs a query per connection.
        self.dialect._has_native_hstore = False
        postgresql.assume(self.dialect)
        self.capabilities = postgresql.capabilities("psycopg", 65535, pipeline=pq.version() >= 140000)
        _, self._arguments = self.dialect.create_connect_args(url)  # type: ignore[no-untyped-call]
        self._arguments |= {**connect_args, "autocommit": True}
        self._arguments |= keepalives.with_defaults(self._arguments)
        self.target = postgresql.describe_target(url)
        self._password = url.password
        self._known = False
        self.pooler = Pooler(pooler)
        if self.pooler.shares:
            self._name_no_statement()

    @property
    def shares(self) -> bool:
        return self.pooler.shares

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target})"

    def array_encoder(self, type_: TypeEngine[Any]) -> Callable[[Sequence[Any]], Any]:
        """What turns values of a column type into one array parameter."""
        impl = type_.dialect_impl(self.dialect)
        while isinstance(impl, TypeDecorator):
            impl = impl.impl_instance
        if isinstance(impl, JSON):
            dumps = self.dialect._json_serializer or json.dumps
            return lambda values: binary_arrays.texts([None if v is None else dumps(v) for v in values])
        build: Callable[[Sequence[Any]], Any] = binary_arrays.builder(impl) or list
        processor = type_._cached_bind_processor(self.dialect)
        if processor is None or (
            build is binary_arrays.moments and getattr(type_, "bind_only_checks", False)
        ):
            return build
        return lambda values: build([None if v is None else processor(v) for v in values])

    def _adapt(self, raw: Any) -> None:
        for kind, dumper in _ARRAY_DUMPERS:
            raw.adapters.register_dumper(kind, dumper)
        raw.adapters.register_loader(0, _UnknownLoader)

    def _name_no_statement(self) -> None:
        # A user who says otherwise has a PgBouncer that keeps prepared statements, as it can since 1.21.
        self._arguments.setdefault("prepare_threshold", None)

    def _meets_pooler(self, raw: Any, row: Sequence[Any]) -> bool:
        """Learn from the first connection, and tell whether a pooler is found that nobody spoke of."""
        met = self.pooler.meets(raw.pgconn.backend_pid, row[2])
        if met:
            self._name_no_statement()
        self._learn(raw, row)  # last, for whoever finds it learnt looks at no number
        return met

    def _keep_to_mode(self, raw: Any) -> None:
        """Do as the mode says in a connection that may be older than its finding."""
        if self.pooler.shares:
            raw.prepare_threshold = self._arguments.get("prepare_threshold")

    def _learn(self, raw: Any, row: Sequence[Any]) -> None:
        number = raw.pgconn.server_version
        version = (number // 10000, number % 10000)
        strings = raw.pgconn.parameter_status(b"standard_conforming_strings")
        postgresql.learn(self.dialect, version, row, conforming=strings != b"off")
        self.capabilities = postgresql.with_version(self.capabilities, version)
        self._known = True

    def _fail(self, error: BaseException, *, reached: bool) -> HoldfastError:
        return postgresql.connection_failed(
            error,
            target=self.target,
            password=self._password,
            sqlstate=getattr(error, "sqlstate", None),
            reached=reached,
        )

    def translate(self, error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        """Give the typed error for one of psycopg's."""
        if isinstance(error, psycopg.Error):
            return _translate(error, sql, params)
        if isinstance(error, UnicodeEncodeError | OverflowError | TypeError | ValueError) and params:
            kind, position = blame(params)
            if kind is errors.WrongType:
                kind = errors.DataError
            return kind(statement=sql, orig=error, position=position)
        return error


class PsycopgDriver(_DriverBase):
    """PostgreSQL, blocking."""

    def connect(self) -> PsycopgConnection:
        """Open a connection; the first one tells the dialect about the server."""
        failed: HoldfastError
        connection = None
        try:
            connection = self._open()
            if not self._known:
                self._meet(connection)
            self._keep_to_mode(connection.raw)
            return connection
        except (psycopg.Error, OSError) as error:
            failed = self._fail(error, reached=connection is not None)
        raise failed

    def _open(self) -> PsycopgConnection:
        raw = psycopg.connect(**self._arguments)
        self._adapt(raw)
        return PsycopgConnection(raw, psycopg.RawCursor(raw))

    def _meet(self, connection: PsycopgConnection) -> None:
        try:
            row = connection.fetch(postgresql.ASK_DEFAULTS, (), False)[0]
            if self._meets_pooler(connection.raw, row):
                self._find_mode(connection, row[2])
        except BaseException:
            connection.terminate()
            raise

    def _find_mode(self, connection: PsycopgConnection, process: int) -> None:
        with suppress(psycopg.Error, OSError):  # there may be no room for a second one
            beside = self._open()
            try:
                second = ask_process(beside.raw.pgconn)
                again = connection.fetch(postgresql.ASK_PROCESS, (), False)[0][0]
            finally:
                beside.terminate()
            self.pooler.judge(process, second, again)
        self.pooler.warn()


class PsycopgAsyncDriver(_DriverBase):
    """PostgreSQL, async."""

    async def connect(self) -> PsycopgAsyncConnection:
        """Open a connection; the first one tells the dialect about the server."""
        failed: HoldfastError
        connection = None
        try:
            connection = await self._open()
            if not self._known:
                await self._meet(connection)
            self._keep_to_mode(connection.raw)
            return connection
        except (psycopg.Error, OSError) as error:
            failed = self._fail(error, reached=connection is not None)
        raise failed

    async def _open(self) -> PsycopgAsyncConnection:
        raw = await psycopg.AsyncConnection.connect(**self._arguments)
        self._adapt(raw)
        return PsycopgAsyncConnection(raw, psycopg.AsyncRawCursor(raw))

    async def _meet(self, connection: PsycopgAsyncConnection) -> None:
        try:
            row = (await connection.fetch(postgresql.ASK_DEFAULTS, (), False))[0]
            if self._meets_pooler(connection.raw, row):
                await self._find_mode(connection, row[2])
        except BaseException:
            connection.terminate()
            raise

    async def _find_mode(self, connection: PsycopgAsyncConnection, process: int) -> None:
        with suppress(psycopg.Error, OSError):  # there may be no room for a second one
            beside = await self._open()
            try:
                second = await ask_process_async(beside.raw.pgconn)
                again = (await connection.fetch(postgresql.ASK_PROCESS, (), False))[0][0]
            finally:
                beside.terminate()
            self.pooler.judge(process, second, again)
        self.pooler.warn()


def _translate(error: psycopg.Error, sql: str, params: Sequence[Any]) -> HoldfastError:
    if error.sqlstate is None:
        return _translate_own(error, sql, params)
    diag = error.diag
    facts = {
        "schema": diag.schema_name,
        "table": diag.table_name,
        "column": diag.column_name,
        "constraint": diag.constraint_name,
    }
    position = sqlstate.read_position(diag.context)
    return sqlstate.build(error, error.sqlstate, sql=sql, params=params, position=position, facts=facts)


def _translate_own(error: psycopg.Error, sql: str, params: Sequence[Any]) -> HoldfastError:
    """What psycopg says itself has no SQLSTATE: its class and the values tell."""
    if isinstance(error, psycopg.OperationalError):
        outcome = sqlstate.outcome_of(errors.ConnectionLost, sql)
        return errors.ConnectionLost(statement=sql, orig=error, outcome=outcome)
    if isinstance(error, psycopg.DataError):
        kind, position = blame(params)
        return kind(statement=sql, orig=error, position=position)
    if isinstance(error, psycopg.ProgrammingError) and params:
        return errors.WrongType(statement=sql, orig=error)
    if isinstance(error, psycopg.InterfaceError):
        return errors.ConnectionLost(statement=sql, orig=error)
    return errors.ProgrammingError(statement=sql, orig=error)
