"""SQLite through the standard library; an async database runs it on worker threads.

Rule: only this file imports ``sqlite3``.  Errors are told apart by SQLite's result codes
(https://www.sqlite.org/rescode.html); its texts are read only for the names of tables, columns
and constraints, which it gives nowhere else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL

from holdfast import errors
from holdfast.capabilities import Capabilities, Locks
from holdfast.drivers.sqlite_interrupt import OPERATIONS, SignalWatch
from holdfast.drivers.values import blame, find_position, is_bad_text, is_beyond_64_bits
from holdfast.errors import BadUrl, ConnectionFailed, HoldfastError
from holdfast.steps import Answer

BUSY_TIMEOUT_SECONDS = 5.0
CACHED_STATEMENTS = 512
_ARGUMENTS = frozenset({"uri", "timeout", "cached_statements", "detect_types", "check_same_thread"})
# Names that SQLite itself reads from a file: URI, https://www.sqlite.org/uri.html
_URI_NAMES = frozenset({"mode", "cache", "psow", "nolock", "immutable", "vfs", "modeof"})
KEEP_FROM_WRITING, LET_WRITE = "PRAGMA query_only=ON", "PRAGMA query_only=OFF"


class SqliteConnection:
    """One connection of the standard library's module, in autocommit mode."""

    __slots__ = ("_execute", "_kept_from_writing", "_raw", "_watch")

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw: sqlite3.Connection | None = raw
        self._execute = raw.execute
        self._kept_from_writing = False
        self._watch = SignalWatch()
        raw.set_progress_handler(self._watch.look, OPERATIONS)

    @property
    def in_transaction(self) -> bool:
        return self._raw is not None and self._raw.in_transaction

    @property
    def usable(self) -> bool:
        return self._raw is not None

    @property
    def raw(self) -> sqlite3.Connection | None:
        return self._raw

    def fetch(self, sql: str, params: Sequence[Any], binary: bool) -> Sequence[Sequence[Any]]:
        try:
            return self._execute(sql, params).fetchall()
        except sqlite3.OperationalError:
            self._watch.reraise()
            raise

    def execute(self, sql: str, params: Sequence[Any]) -> int:
        try:
            return self._execute(sql, params).rowcount
        except sqlite3.OperationalError:
            self._watch.reraise()
            raise

    def execute_many(self, sql: str, params: Sequence[Sequence[Any]]) -> int:
        assert self._raw is not None
        try:
            return self._raw.executemany(sql, params).rowcount
        except sqlite3.OperationalError:
            self._watch.reraise()
            raise

    def run(self, sql: str, params: Sequence[Any]) -> Answer:
        try:
            cursor = self._execute(sql, params)
            rows = () if cursor.description is None else cursor.fetchall()
        except sqlite3.OperationalError:
            self._watch.reraise()
            raise
        if cursor.description is None:
            return Answer(None, (), cursor.rowcount)
        # SQLite counts the rows of RETURNING only when the last one is read.
        count = len(rows) if cursor.rowcount < 0 else cursor.rowcount
        return Answer(tuple(column[0] for column in cursor.description), rows, count)

    def command(self, sql: str) -> None:
        if self._kept_from_writing:
            self._let_write()
        try:
            self._execute(sql)
        except sqlite3.OperationalError:
            self._watch.reraise()
            raise
        if self._kept_from_writing:
            self._let_write()
        elif sql == KEEP_FROM_WRITING:
            self._kept_from_writing = True

    def _let_write(self) -> None:
        """Take back, once its transaction is over, what kept a connection from writing, whoever ended it."""
        if not self.in_transaction:
            self._execute(LET_WRITE)
            self._kept_from_writing = False

    def is_cut(self) -> bool:
        return self._raw is None

    def cut(self) -> None:
        self.cancel()  # there is no wire; what is under way can be stopped

    def peek(self) -> bool:
        return self._raw is not None

    def ping(self, timeout_seconds: float | None = None) -> None:
        self._execute("SELECT 1").fetchall()

    def cancel(self) -> None:
        if self._raw is not None:
            self._raw.interrupt()

    def close(self) -> None:
        if self._raw is not None:
            raw, self._raw = self._raw, None
            self._execute = _refuse
            raw.close()


def _refuse(*_: object) -> Any:
    raise sqlite3.ProgrammingError("Cannot operate on a closed database.")


class SqliteDriver:
    """SQLite in a file or in memory."""

    name = "sqlite"
    threaded = True
    shares = False

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        if url.username or url.password or url.host or url.port:
            raise BadUrl(
                reason="a SQLite URL has no host, user or password",
                mend="Write `sqlite:///relative.db`, `sqlite:////absolute/path.db` or `sqlite://`.",
            )
        self._settings = dict(options)
        self._connect_args = {
            name: self._settings.pop(name) for name in list(self._settings) if name not in _DIALECT_OPTIONS
        }
        self.dialect = SQLiteDialect_pysqlite(dbapi=sqlite3, paramstyle="qmark", **self._settings)
        self._file, self._arguments = _read_options(url)
        self._arguments |= self._connect_args
        self.single = _is_memory(url)
        self.target = ":memory:" if self.single else self._file
        self._read_only = url.query.get("mode") == "ro" or "immutable" in url.query
        self._register = self.dialect.on_connect()
        _complete(self.dialect)
        self.capabilities = _find_capabilities()

    def __repr__(self) -> str:
        return f"SqliteDriver({'in memory' if self.single else self._file!r})"

    def connect(self) -> SqliteConnection:
        """Open a connection with foreign keys checked, and a write-ahead log for files."""
        failed: HoldfastError | None = None
        raw: sqlite3.Connection | None = None
        try:
            raw = sqlite3.connect(self._file, **self._arguments)
            self._prepare(raw)
            return SqliteConnection(raw)
        except (sqlite3.Error, sqlite3.Warning, ValueError, TypeError) as error:
            failed = ConnectionFailed(
                server=f"SQLite ({self._file})",
                reason=_name_of(error),
                orig=error,
                mend="Check that the directory exists and may be written to, and that the file is a SQLite database.",
            )
        if raw is not None:
            raw.close()
        raise failed

    def _prepare(self, raw: sqlite3.Connection) -> None:
        self._register(cast(Any, raw))
        raw.execute("PRAGMA foreign_keys=ON")
        if self.single or self._read_only:
            raw.execute("PRAGMA schema_version").fetchall()  # a file that is no database is told now
            return
        try:
            mode = raw.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            mode = "read-only"
        if mode == "wal":
            # Under WAL, NORMAL cannot corrupt; only the last commits may be lost with the power:
            # https://www.sqlite.org/pragma.html#pragma_synchronous
            raw.execute("PRAGMA synchronous=NORMAL")

    def translate(self, error: BaseException, sql: str, params: Sequence[Any] = ()) -> BaseException:
        """Give the typed error for one of SQLite's."""
        if isinstance(error, sqlite3.Error):
            return _translate(error, sql, params)
        if isinstance(error, OverflowError | UnicodeEncodeError):
            kind, position = blame(params, _CHECKS)
            if kind is errors.WrongType:
                kind = errors.ValueOutOfRange if isinstance(error, OverflowError) else errors.BadText
            return kind(statement=sql, orig=error, position=position)
        return error


_CHECKS = (
    (lambda value: is_bad_text(value, nul_is_bad=False), errors.BadText),
    (is_beyond_64_bits, errors.ValueOutOfRange),
)
_DIALECT_OPTIONS = frozenset({"json_serializer", "json_deserializer", "native_datetime"})
_KINDS: dict[int, type[HoldfastError]] = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: errors.UniqueViolation,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: errors.UniqueViolation,
    sqlite3.SQLITE_CONSTRAINT_ROWID: errors.UniqueViolation,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: errors.ForeignKeyViolation,
    sqlite3.SQLITE_CONSTRAINT_TRIGGER: errors.IntegrityError,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: errors.NotNullViolation,
    sqlite3.SQLITE_CONSTRAINT_CHECK: errors.CheckViolation,
    3091: errors.WrongType,  # SQLITE_CONSTRAINT_DATATYPE, not named before Python 3.12
    sqlite3.SQLITE_BUSY_SNAPSHOT: errors.SerializationFailure,
    sqlite3.SQLITE_BUSY: errors.DatabaseBusy,
    sqlite3.SQLITE_LOCKED: errors.DatabaseBusy,
    sqlite3.SQLITE_READONLY: errors.ReadOnly,
    sqlite3.SQLITE_INTERRUPT: errors.StatementTimeout,
    sqlite3.SQLITE_CANTOPEN: errors.ConnectionFailed,
    sqlite3.SQLITE_NOTADB: errors.ConnectionFailed,
    sqlite3.SQLITE_TOOBIG: errors.ValueTooLong,
    sqlite3.SQLITE_CONSTRAINT: errors.IntegrityError,
    sqlite3.SQLITE_MISMATCH: errors.WrongType,
    sqlite3.SQLITE_AUTH: errors.PermissionDenied,
    sqlite3.SQLITE_PERM: errors.PermissionDenied,
    sqlite3.SQLITE_RANGE: errors.ProgrammingError,
    sqlite3.SQLITE_ERROR: errors.ProgrammingError,
}
_BY_PREFIX: tuple[tuple[str, type[HoldfastError], str], ...] = (
    ("no such table: ", errors.UnknownTable, "table"),
    ("no such column: ", errors.UnknownColumn, "column"),
)


def _translate(error: sqlite3.Error, sql: str, params: Sequence[Any]) -> HoldfastError:
    number = getattr(error, "sqlite_errorcode", None)
    if number is None:
        return _translate_own(error, sql, params)
    kind = _KINDS.get(number) or _KINDS.get(number & 0xFF, errors.OperationalError)
    facts: dict[str, Any] = {"sqlite_errorcode": number}
    happened: str | None = None
    if issubclass(kind, errors.IntegrityError):
        facts |= _read_names(kind, str(error))
    elif number == sqlite3.SQLITE_ERROR:
        kind, facts = _read_missing(kind, str(error), facts)
    if kind in (errors.OperationalError, errors.ProgrammingError):
        happened = f"{kind.happened} ({_name_of(error)})"
    if kind is errors.ConnectionFailed:
        facts |= {"server": "SQLite", "reason": _name_of(error)}
    return kind(happened, statement=sql, orig=error, **facts)


def _translate_own(error: sqlite3.Error, sql: str, params: Sequence[Any]) -> HoldfastError:
    """The module's own errors have no code: a closed connection, or a type it cannot bind."""
    position = find_position(params, lambda value: not isinstance(value, _BINDABLE))
    if position is not None:
        given = type(params[position]).__name__
        return errors.WrongType(
            f"SQLite takes no value of type {given}", statement=sql, orig=error, position=position
        )
    if isinstance(error, sqlite3.DataError):
        kind, position = blame(params, _CHECKS)
        return kind(statement=sql, orig=error, position=position)
    if str(error).startswith("Cannot operate on a closed database"):
        return errors.ConnectionLost(statement=sql, orig=error)
    return errors.ProgrammingError(statement=sql, orig=error)


_BINDABLE = (int, float, str, bytes, bytearray, memoryview, type(None))


def _read_names(kind: type[HoldfastError], text: str) -> dict[str, Any]:
    """Read the names from "UNIQUE constraint failed: users.email, users.name"."""
    _, _, names = text.partition(" constraint failed: ")
    if not names or kind is errors.IntegrityError:
        return {}
    if kind is errors.CheckViolation:
        return {"constraint": names}
    if names.startswith("index '"):
        return {"constraint": names[7:-1]}
    pairs = [name.partition(".") for name in names.split(", ")]
    columns = tuple(column for _, _, column in pairs)
    return {"table": pairs[0][0], "columns": columns, "column": columns[0] if len(columns) == 1 else None}


def _read_missing(
    kind: type[HoldfastError], text: str, facts: dict[str, Any]
) -> tuple[type[HoldfastError], dict[str, Any]]:
    for prefix, precise, fact in _BY_PREFIX:
        if text.startswith(prefix):
            return precise, {**facts, fact: text.removeprefix(prefix)}
    return kind, facts


def _name_of(error: BaseException) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def _is_memory(url: URL) -> bool:
    return (
        not url.database or url.database in (":memory:", "file::memory:") or url.query.get("mode") == "memory"
    )


def _read_options(url: URL) -> tuple[str, dict[str, Any]]:
    query = dict(url.query)
    uri = str(query.get("uri", "")).lower() in ("true", "1", "yes", "on")
    known = _ARGUMENTS | (_URI_NAMES if uri else frozenset())
    for name in query:
        if name not in known:
            raise BadUrl(
                reason=f"SQLite has no option {name!r}"
                + ("" if uri or name not in _URI_NAMES else " without `uri=true`"),
                mend="Known options: " + ", ".join(sorted(known)) + ".",
            )
    arguments: dict[str, Any] = {
        "timeout": _number(query, "timeout", BUSY_TIMEOUT_SECONDS),
        "cached_statements": int(_number(query, "cached_statements", CACHED_STATEMENTS)),
        "detect_types": int(_number(query, "detect_types", 0)),
        "check_same_thread": False,
        "isolation_level": None,
    }
    if not uri:
        in_memory = _is_memory(url)
        return ":memory:" if in_memory else str(Path(url.database or "").absolute()), arguments
    tail = "&".join(f"{name}={query[name]}" for name in sorted(query) if name not in _ARGUMENTS)
    file = url.database or ":memory:"
    file = file if file.startswith("file:") else f"file:{file}"
    return file + (f"?{tail}" if tail else ""), arguments | {"uri": True}


def _number(query: Mapping[str, Any], name: str, default: float) -> float:
    try:
        return float(query.get(name, default))
    except (TypeError, ValueError):
        pass
    raise BadUrl(reason=f"the option {name!r} is no number", mend=f"Write `?{name}={default:g}`.")


def _complete(dialect: SQLiteDialect_pysqlite) -> None:
    """Set what ``Dialect.initialize`` would ask a connection for."""
    dialect.server_version_info = sqlite3.sqlite_version_info
    dialect.default_schema_name = "main"
    dialect.default_isolation_level = "SERIALIZABLE"


def _find_capabilities() -> Capabilities:
    probe = sqlite3.connect(":memory:")
    most = probe.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    probe.close()
    version = sqlite3.sqlite_version_info
    return Capabilities(
        server="sqlite",
        server_version=version,
        driver="sqlite3",
        max_bound_values=most,
        returning=version >= (3, 35),
        json_each=True,
        locks=Locks(for_update=True),  # BEGIN IMMEDIATE locks all rows
        keep_from_writing=KEEP_FROM_WRITING,
        threaded=True,
    )
