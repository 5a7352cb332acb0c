"""PostgreSQL through asyncpg.

Rule: only this file imports ``asyncpg``.  Results are asyncpg's records, which unpack and index
like tuples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlencode

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import URL

from holdfast import errors
from holdfast.drivers import ends, keepalives, postgresql, sqlstate
from holdfast.drivers.asyncpg_probe import SharedAsyncpg, ask, open_beside
from holdfast.drivers.pooler import Pooler
from holdfast.drivers.values import blame, blame_naive
from holdfast.errors import BadUrl, HoldfastError, PoolerDetected
from holdfast.steps import Answer

T = TypeVar("T")
_COUNT = re.compile(r"(\d+)$")
# In the DSN asyncpg reads libpq's names for TLS itself; the rest are arguments of its connect().
_DSN_NAMES = frozenset(
    {
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "passfile",
        "host",
        "port",
        "user",
        "password",
        "dbname",
        "service",
        "servicefile",
    }
)
_INTEGERS = {"statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size"}
_SECONDS = {"connect_timeout": "timeout", "timeout": "timeout", "command_timeout": "command_timeout"}
_KEEPALIVES = frozenset(keepalives.DEFAULTS)
_SERVER_NAMES = frozenset({"application_name", "options"})


class AsyncpgConnection:
    """One connection; without a transaction asyncpg is in autocommit mode."""

    __slots__ = ("_fetch", "_poll", "_raw")

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._fetch = raw.fetch
        self._poll = ends.make_poll(_socket_of(raw).fileno())

    @property
    def raw(self) -> Any:
        return self._raw

    @property
    def in_transaction(self) -> bool:
        # A connection that was given up has no protocol left to ask.
        return not self._raw.is_closed() and self._raw.is_in_transaction()

    @property
    def usable(self) -> bool:
        return not self._raw.is_closed()

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Awaitable[Sequence[Sequence[Any]]]:
        return self._fetch(sql, *params)  # type: ignore[no-any-return] # no coroutine around asyncpg's

    async def execute(self, sql: str, params: Sequence[Any]) -> int:
        return _count(await self._raw.execute(sql, *params))

    async def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        await self._raw.executemany(sql, params)
        return -1  # asyncpg does not tell

    async def run(self, sql: str, params: Sequence[Any]) -> Answer:
        # A name would be made for this one call, and closed with a round trip of its own.
        statement = await self._raw.prepare(sql, name="")
        rows = await statement.fetch(*params)
        keys = tuple(attribute.name for attribute in statement.get_attributes()) or None
        return Answer(keys, rows, _count(statement.get_statusmsg()))

    async def command(self, sql: str) -> str | None:
        return await self._raw.execute(sql)  # type: ignore[no-any-return]

    def is_cut(self) -> bool:
        return self._raw.is_closed() or ends.is_cut(_socket_of(self._raw).fileno())

    async def ping(self, timeout_seconds: float | None = None) -> None:
        # execute() fails on an empty statement, having no status to decode; and that a failed
        # transaction refuses even this one is an answer too.
        with suppress(asyncpg.InFailedSQLTransactionError):
            await self._raw.fetchrow(";", timeout=timeout_seconds)

    def peek(self) -> bool:
        # The state first: the number of a closed socket may be another's by now.  What the loop has
        # not read yet is found by the look.
        return not self._raw.is_closed() and not self._poll(0)

    async def close(self) -> None:
        await self._raw.close()

    def terminate(self) -> None:
        self._raw.terminate()


class AsyncpgSharedConnection(AsyncpgConnection):
    """One connection to a pooler that gives each transaction another server connection.

    asyncpg sends a statement, waits for the types of its parameters, and sends their values with the message
    that ends the exchange.  Where it refuses a value itself, that message is never sent, and the pooler keeps the
    server connection for us until our next statement: three wrong values on three idle connections, and everybody
    else waits.  So after such an error the exchange is ended here.
    """

    __slots__ = ()

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Awaitable[Sequence[Sequence[Any]]]:
        return self._whole(super().fetch(sql, params, binary))

    async def execute(self, sql: str, params: Sequence[Any]) -> int:
        return await self._whole(super().execute(sql, params))

    async def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        return await self._whole(super().execute_many(sql, params))

    async def run(self, sql: str, params: Sequence[Any]) -> Answer:
        return await self._whole(super().run(sql, params))

    async def _whole(self, exchange: Awaitable[T]) -> T:
        try:
            return await exchange
        except Exception as error:
            await self._end_exchange(error)
            raise

    async def _end_exchange(self, error: Exception) -> None:
        if isinstance(error, asyncpg.PostgresError) and not _is_own(error):
            return  # the server's own errors end it
        if self.usable and not self.in_transaction:
            with suppress(Exception):  # the first error is the one to tell
                await self.ping()


def _socket_of(raw: Any) -> Any:
    """The socket below; asyncpg has no public way to it, and none at all once it is closed."""
    return raw._transport.get_extra_info("socket")


def _count(status: str | None) -> int:
    found = _COUNT.search(status or "")
    return int(found.group(1)) if found else -1


_CONNECT_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    ValueError,
)


class AsyncpgDriver:
    """PostgreSQL, async."""

    name = "asyncpg"
    threaded = False
    single = False

    def __init__(self, url: URL, options: Mapping[str, Any], pooler: str | None = None) -> None:
        settings, connect_args = postgresql.split_options(options)
        dbapi = PGDialect_asyncpg.import_dbapi()  # type: ignore[no-untyped-call]
        self.dialect = PGDialect_asyncpg(dbapi=dbapi, **settings)  # type: ignore[no-untyped-call]
        postgresql.assume(self.dialect)
        self.capabilities = postgresql.capabilities("asyncpg", 32767, pipeline=False, counts_many=False)
        self._arguments = _read_options(url) | self._read_hosts(url) | connect_args
        self._keepalives = {
            name: int(self._arguments.pop(name)) for name in _KEEPALIVES if name in self._arguments
        }
        self.target = postgresql.describe_target(url)
        self._password = url.password
        self._known = False
        self.pooler = Pooler(pooler)
        if self.pooler.shares:
            self._share()

    @property
    def shares(self) -> bool:
        return self.pooler.shares

    def __repr__(self) -> str:
        return f"AsyncpgDriver({self.target})"

    async def connect(self) -> AsyncpgConnection:
        """Open a connection; the first one tells the dialect about the server."""
        failed: HoldfastError
        sharing, raw = self.pooler.shares, None
        try:
            raw = await asyncpg.connect(**self._arguments)
            return await self._prepare(raw, sharing)
        except _CONNECT_ERRORS as error:
            failed = postgresql.connection_failed(
                error,
                target=self.target,
                password=self._password,
                sqlstate=getattr(error, "sqlstate", None),
                reached=raw is not None,
            )
        raise failed

    async def _prepare(self, first: Any, sharing: bool) -> AsyncpgConnection:
        """Make a connection ready; ``sharing`` is what was thought of a pooler when it was opened."""
        raw = first
        try:
            if not self._known:
                raw = await self._meet(raw)
            if raw is first and self.pooler.shares is not sharing:  # another one found it meanwhile
                await first.close()
                raw = await asyncpg.connect(**self._arguments)
            keepalives.apply(_socket_of(raw), self._keepalives)
            await self._set_codecs(raw)
        except BaseException:
            raw.terminate()
            raise
        return AsyncpgSharedConnection(raw) if self.pooler.shares else AsyncpgConnection(raw)

    def _share(self) -> None:
        # A user who says otherwise has a PgBouncer that keeps prepared statements, as it can since 1.21.
        self._arguments.setdefault("statement_cache_size", 0)
        self._arguments.setdefault("connection_class", SharedAsyncpg)

    async def _meet(self, first: Any) -> Any:
        """Learn from the first connection; answer the one to use, another where a pooler is found."""
        row = await ask(first, postgresql.ASK_DEFAULTS)
        self._learn(first, row)
        if not self.pooler.meets(first.get_server_pid(), row[2]):
            return first
        self._share()  # which asyncpg wants to know when it connects
        try:
            beside = await open_beside(first, row[2], self.pooler, self._arguments)
        finally:
            first.terminate()
        try:
            self.pooler.warn()
        except PoolerDetected:  # where a filter makes it an error
            beside.terminate()
            raise
        return beside

    def _read_hosts(self, url: URL) -> dict[str, Any]:
        """Read SQLAlchemy's several hosts: ``?host=a:5432&host=b:5432``."""
        hosts, ports = self.dialect._split_multihost_from_url(url)
        if not hosts or not ports:
            return {}
        return {"host": list(hosts), "port": [port or url.port or 5432 for port in ports]}

    async def _set_codecs(self, raw: Any) -> None:
        """Let JSON pass as SQLAlchemy's types expect it: text in, values out."""
        loads = self.dialect._json_deserializer or json.loads
        await raw.set_type_codec(
            "json",
            schema="pg_catalog",
            format="binary",
            encoder=str.encode,
            decoder=lambda data: loads(data.decode()),
        )
        # jsonb has a version byte in front on the wire.
        await raw.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            format="binary",
            encoder=lambda text: b"\x01" + text.encode(),
            decoder=lambda data: loads(data[1:].decode()),
        )

    def _learn(self, raw: Any, row: Sequence[Any]) -> None:
        found = raw.get_server_version()
        version = (found.major, found.micro)  # since 10 PostgreSQL has two numbers
        conforming = getattr(raw.get_settings(), "standard_conforming_strings", "on") != "off"
        postgresql.learn(self.dialect, version, row, conforming=conforming)
        self.capabilities = postgresql.with_version(self.capabilities, version)
        self._known = True

    def translate(self, error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        """Give the typed error for one of asyncpg's."""
        if isinstance(error, asyncpg.InterfaceError | asyncpg.DataError) and _is_own(error):
            return _translate_own(error, sql, params)
        if isinstance(error, asyncpg.PostgresError):
            return _translate(error, sql, params)
        if isinstance(error, TimeoutError):
            return errors.StatementTimeout(statement=sql, orig=error)
        if isinstance(error, OSError | asyncpg.InternalClientError):
            # asyncpg speaks of another operation in progress when a FATAL message has come between two of ours,
            # as from pg_terminate_backend; whatever else it means, its protocol has lost the thread.
            outcome = sqlstate.outcome_of(errors.ConnectionLost, sql)
            return errors.ConnectionLost(statement=sql, orig=error, outcome=outcome)
        if isinstance(error, UnicodeEncodeError | OverflowError | ValueError | TypeError) and sql:
            kind, position = blame(params)
            return kind(statement=sql, orig=error, position=position)
        return error


def _is_own(error: BaseException) -> bool:
    """Tell whether asyncpg raised it itself: then no server gave it a severity."""
    return getattr(error, "severity", None) is None


def _translate(error: Any, sql: str, params: Sequence[Any]) -> HoldfastError:
    facts = {
        "schema": error.schema_name,
        "table": error.table_name,
        "column": error.column_name,
        "constraint": error.constraint_name,
    }
    position = sqlstate.read_position(error.context)
    return sqlstate.build(
        error, error.sqlstate or "XX000", sql=sql, params=params, position=position, facts=facts
    )


def _translate_own(error: BaseException, sql: str, params: Sequence[Any]) -> HoldfastError:
    """A value that asyncpg could not encode, or a connection that is no longer open."""
    if isinstance(error, ValueError | asyncpg.DataError):
        kind, position = blame(params)
        if kind is errors.WrongType:
            position = sqlstate.read_position(str(error))
            kind = errors.NaiveDatetime if blame_naive(params, position) else kind
            if isinstance(error.__cause__, OverflowError):
                kind = errors.ValueOutOfRange
        return kind(statement=sql, orig=error, position=position)
    outcome = sqlstate.outcome_of(errors.ConnectionLost, sql)
    return errors.ConnectionLost(statement=sql, orig=error, outcome=outcome)


def _read_options(url: URL) -> dict[str, Any]:
    """Part a URL's query: libpq's names go into a DSN, asyncpg's into arguments."""
    dsn: dict[str, str] = {}
    arguments: dict[str, Any] = {}
    server: dict[str, str] = {}
    for name, given in url.query.items():
        value = given if isinstance(given, str) else ",".join(given)
        if name == "host":
            continue  # the driver reads hosts, since there may be several
        if name in _DSN_NAMES:
            dsn[name] = value
        elif name in _SECONDS:
            arguments[_SECONDS[name]] = _number(name, value)
        elif name in _INTEGERS or name in _KEEPALIVES:
            arguments[name] = int(_number(name, value))
        elif name in _SERVER_NAMES:
            server[name] = value
        elif name == "ssl":
            dsn["sslmode"] = "require" if value.lower() in ("true", "1") else value
        else:
            raise BadUrl(
                reason=f"asyncpg has no option {name!r}",
                mend="Known options: "
                + ", ".join(sorted(_DSN_NAMES | _SERVER_NAMES | _INTEGERS | _KEEPALIVES | _SECONDS.keys()))
                + ".",
            )
    if server:
        arguments["server_settings"] = server
    arguments["dsn"] = "postgresql://?" + urlencode(dsn) if dsn else "postgresql://"
    return arguments | _read_place(url)


def _read_place(url: URL) -> dict[str, Any]:
    place = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "database": url.database,
    }
    return {name: value for name, value in place.items() if value}


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        pass
    raise BadUrl(reason=f"the option {name!r} is no number", mend=f"Write `?{name}=10`.")
