"""What the drivers of MariaDB and MySQL share: facts, options, and what each connection is told first.

A connection speaks utf8mb4, in UTC, and under a ``sql_mode`` of ours, whatever the server's defaults are:

- strict, so that a value that does not fit is refused instead of cut;
- ``NO_AUTO_VALUE_ON_ZERO``, so that a key of 0 is a key of 0;
- ``SIMULTANEOUS_ASSIGNMENT`` on MariaDB, so that an UPDATE reads the row as it was;
- without ``ANSI_QUOTES`` and ``NO_BACKSLASH_ESCAPES``, on which the literals of `mysql_text` rely.

Where the server has ``innodb_snapshot_isolation`` it is on, as MariaDB has it from 11.6.2: without it REPEATABLE READ
lets a transaction overwrite, in silence, what it never saw.

Rule: no driver library is imported here.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.mysql import TIME
from sqlalchemy.dialects.mysql.base import MySQLDialect, MySQLTypeCompiler
from sqlalchemy.engine import URL

from holdfast import errors
from holdfast.capabilities import Capabilities, Locks, ValuesTable
from holdfast.drivers import keepalives
from holdfast.drivers.mysql_errno import build, describe, kind_of
from holdfast.drivers.sqlstate import outcome_of
from holdfast.drivers.values import blame
from holdfast.errors import BadUrl, ConnectionFailed

SQL_MODE = (
    "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
)
SIMULTANEOUS = ",SIMULTANEOUS_ASSIGNMENT"
"""MariaDB, from 10.3.5: ``SET a = b, b = a`` swaps, as on every other server; MySQL always goes from left to right."""
_BREAKS_LITERALS = frozenset(
    {"ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI", "ORACLE", "DB2", "MAXDB", "MSSQL", "POSTGRESQL"}
)
ASK_FACTS = (
    "SHOW VARIABLES WHERE Variable_name IN ('version', 'version_comment', 'max_allowed_packet',"
    " 'innodb_snapshot_isolation', 'lower_case_table_names', 'transaction_isolation', 'tx_isolation')"
)
ASSUMED = {"mariadb": (10, 5), "mysql": (8, 0)}
DEFAULT_PACKET_BYTES = 16 * 2**20
STOP_SECONDS = 5
"""How long the second connection may take that stops a statement of the first."""
MOST_VALUES = 65_535
"""No limit of the servers, whose statements have only a length; a plan of more values is no longer a small thing."""

TAKE_NAME = "SELECT GET_LOCK("
"""How the command begins that takes a lock by name; its value is the answer, "1" where it was had."""
GIVE_NAMES_BACK = b"DO RELEASE_ALL_LOCKS()"

_FOUND_ROWS = 2  # CLIENT_FOUND_ROWS
_OPTIONS = frozenset(
    {
        "unix_socket",
        "connect_timeout",
        "read_timeout",
        "write_timeout",
        "charset",
        "sql_mode",
        "ssl_ca",
        "ssl_capath",
        "ssl_cert",
        "ssl_key",
        "ssl_cipher",
        "ssl_check_hostname",
        "ssl",
        "program_name",
        "init_command",
        *keepalives.DEFAULTS,
    }
)
_KEEPALIVES = frozenset(keepalives.DEFAULTS)
_DIALECT_OPTIONS = ("json_serializer", "json_deserializer")


class Family:
    """One database of MariaDB or MySQL: its dialect, its facts, and how its connections are set up."""

    def __init__(self, url: URL, options: Mapping[str, Any], *, driver: str) -> None:
        _check_options(url)
        settings = {name: value for name, value in options.items() if name in _DIALECT_OPTIONS}
        self.wants_mariadb = url.get_backend_name() == "mariadb"
        full = url.set(
            drivername=f"{url.get_backend_name()}+pymysql"
        )  # asyncmy's own only adapts its cursors
        make: Any = full.get_dialect()
        self.dialect: Any = make(paramstyle="qmark", **settings)
        self.dialect.type_compiler_instance = _TypeCompiler(self.dialect)
        self.dialect.colspecs = {**self.dialect.colspecs, sqltypes.Time: _Time}
        server = "mariadb" if self.wants_mariadb else "mysql"
        learn(self.dialect, ASSUMED[server], mariadb=self.wants_mariadb, facts={})
        self.capabilities = capabilities(server, ASSUMED[server], driver, {})
        self.arguments: dict[str, Any] = dict(self.dialect.create_connect_args(url)[1])
        self.arguments |= {name: value for name, value in options.items() if name not in settings}
        if isinstance(self.arguments.get("ssl"), str):
            self.arguments["ssl"] = _read_ssl(self.arguments["ssl"])
        self.arguments.setdefault("autocommit", True)  # else the drivers would turn it off, with a round trip
        # An UPDATE counts the rows it finds, also those that had the values already.
        self.arguments["client_flag"] = self.arguments.get("client_flag", 0) | _FOUND_ROWS
        self.keepalives = {
            name: _read_number(name, self.arguments.pop(name)) for name in _KEEPALIVES & self.arguments.keys()
        }
        self.sql_mode = _judge_mode(self.arguments.pop("sql_mode", None))
        self.first_words = self.arguments.pop("init_command", None)
        if self.arguments.pop("charset", "utf8mb4") != "utf8mb4":
            raise BadUrl(
                reason="the charset of a connection is utf8mb4",
                mend="Leave `charset` out; tables may have any.",
            )
        if isinstance(self.arguments.get("password"), str):
            # Left to the drivers it would be Latin-1, and the server compares bytes.
            self.arguments["password"] = self.arguments["password"].encode()
        self.target = describe_target(url)
        self.password = url.password
        self.facts: Mapping[str, str] | None = None
        self.on_learn: Callable[[Capabilities], None] | None = None

    def setting_up(self) -> str:
        """What a new connection is told, once the facts are known."""
        assert self.facts is not None
        mode = self.sql_mode or SQL_MODE + (SIMULTANEOUS if self.capabilities.server == "mariadb" else "")
        words = [f"sql_mode = '{mode}'", "time_zone = '+00:00'", "autocommit = 1"]
        if "innodb_snapshot_isolation" in self.facts:
            words.append("innodb_snapshot_isolation = ON")
        return "SET " + ", ".join(words)

    def take_facts(self, rows: Any) -> None:
        """Learn from a first connection what the server is.

        Raises:
            ConnectionFailed: where the URL says MariaDB and the server is another.
        """
        facts = dict(rows)
        mariadb, version = read_version(facts["version"])
        if self.wants_mariadb and not mariadb:
            raise ConnectionFailed(
                server=f"MariaDB at {self.target}",
                reason=f"the server is MySQL {facts['version']}",
                mend="Write `mysql://` instead of `mariadb://`.",
            )
        learn(self.dialect, version, mariadb=mariadb, facts=facts)
        self.capabilities = capabilities(
            "mariadb" if mariadb else "mysql", version, self.capabilities.driver, facts
        )
        self.facts = facts
        if self.on_learn is not None:
            self.on_learn(self.capabilities)

    def connection_failed(
        self, error: BaseException, *, reached: bool
    ) -> ConnectionFailed | errors.ConnectionLost:
        """Say why no connection could be opened; a server's text names only the user, host and database.

        One that was open, ``reached``, and then was lost while it was made ready is a lost one.
        """
        number, sqlstate, _ = read_error(error)
        if reached and kind_of(number or 2013, sqlstate) is errors.ConnectionLost:
            return errors.ConnectionLost(
                f"A new connection to {self.target} was lost before it was ready",
                orig=error,
                sqlstate=sqlstate,
            )
        reason = describe(number, sqlstate) if number else type(error).__name__
        name = "MariaDB" if self.wants_mariadb else "MySQL"
        return ConnectionFailed(
            server=f"{name} at {self.target}",
            reason=reason + (_say_certificate(error) or _WORDS.get(number or 0, "")),
            orig=error,
            sqlstate=sqlstate,
            target=self.target,
        )


class FamilyDriver:
    """What both drivers tell the rest of Holdfast."""

    name: ClassVar[str]
    threaded = False
    single = False
    shares = False

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        self._family = Family(url, options, driver=self.name)
        self.dialect = self._family.dialect
        self.target = self._family.target

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target})"

    @property
    def capabilities(self) -> Capabilities:
        return self._family.capabilities

    def on_learn(self, hear: Callable[[Capabilities], None]) -> None:
        """Tell the facts anew when the first connection has told them."""
        self._family.on_learn = hear


_WORDS = {
    1040: ", it has too many connections",
    1044: ", the user may not use this database",
    1045: ", the user or the password is wrong",
    1049: ", it has no such database",
    2002: ", nothing listens there",
    2003: ", nothing listens there",
    2005: ", the host is unknown",
    2026: ", TLS could not be agreed on",
}


def _say_certificate(error: BaseException) -> str:
    """Both drivers call a refused certificate 2003, as if nobody had answered; what they met lies beneath."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLCertVerificationError):
            return ", TLS could not be agreed on: the server's certificate is not trusted, or is for another name"
        below = below.__cause__ or below.__context__
    return ""


def has_greeted(raw: Any) -> bool:
    """Whether a server has said what it is: drivers keep that of a connection they could not finish, too."""
    return getattr(raw, "server_version", None) is not None


class TooLongError(Exception):
    """A statement that the server would not take, and would hang up on."""


def translate(error: BaseException, sql: str, params: Sequence[Any], *, known: bool) -> BaseException:
    """Give the typed error for a driver's, which is one of its own where it is ``known``."""
    if isinstance(error, TooLongError):
        return errors.ValueTooLong(
            "The statement with its values is longer than the server takes (max_allowed_packet)",
            mend="Save fewer or smaller values at once, or raise `max_allowed_packet` on the server.",
            statement=sql,
            orig=error,
        )
    if known:
        number, sqlstate, text = read_error(error)
        if number is not None:
            return build(error, number, sqlstate, text, sql=sql, params=params)
        outcome = outcome_of(errors.ConnectionLost, sql)
        return errors.ConnectionLost(statement=sql, orig=error, outcome=outcome)
    if isinstance(error, UnicodeEncodeError | OverflowError | TypeError | ValueError) and params:
        kind, position = blame(params)
        if kind is errors.WrongType and isinstance(error, OverflowError):
            kind = errors.ValueOutOfRange
        return kind(statement=sql, orig=error, position=position)
    return error


def read_error(error: BaseException) -> tuple[int | None, str | None, str]:
    """Read (number, SQLSTATE, text); a client's own error has no SQLSTATE, and no number or 0 for a closed wire."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    text = str(error.args[1]) if len(error.args) > 1 else ""
    return number or None, getattr(error, "sqlstate", None), text


def read_version(text: str) -> tuple[bool, tuple[int, ...]]:
    """Read (whether it is MariaDB, the version) from what the server calls itself."""
    mariadb = "mariadb" in text.lower()
    if mariadb:
        text = text.removeprefix("5.5.5-")  # said by 10.x to clients that know of no two digits
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return mariadb, tuple(int(part) for part in found.groups() if part) if found else ASSUMED["mysql"]


def capabilities(
    server: str, version: tuple[int, ...], driver: str, facts: Mapping[str, str]
) -> Capabilities:
    """State the facts of a server by its name and version.

    Without ``facts`` the version is assumed: no lock is refused then, for the server itself would.
    """
    mariadb = server == "mariadb"
    modern = not facts or version >= ((10, 6) if mariadb else (8, 0, 1))
    returning = mariadb and version >= (10, 5)
    return Capabilities(
        server=server,
        server_version=version,
        driver=driver,
        max_bound_values=MOST_VALUES,
        max_statement_bytes=int(facts.get("max_allowed_packet", DEFAULT_PACKET_BYTES)),
        returning=returning,
        update_returning=False,
        delete_returning=returning,
        empty_rows=True,
        values_table=_VALUES_TABLES[server] if version >= ((10, 3, 3) if mariadb else (8, 0, 19)) else None,
        ddl_transactional=False,
        advisory_locks=True,
        named_locks=True,
        ask_read_only="SELECT @@read_only",
        locks=Locks(for_update=True, for_share=True, nowait=mariadb or modern, skip_locked=modern),
    )


_VALUES_TABLES = {
    # MariaDB's takes names only from a WITH
    "mariadb": ValuesTable("(WITH r({names}) AS (VALUES {rows}) SELECT * FROM r) AS r", "({values})"),
    "mysql": ValuesTable("(VALUES {rows}) AS r({names})", "ROW({values})"),
}


def learn(
    dialect: MySQLDialect, version: tuple[int, ...], *, mariadb: bool, facts: Mapping[str, str]
) -> None:
    """Set what ``MySQLDialect.initialize`` would, from what the server told."""
    dialect.server_version_info = version
    dialect._set_mariadb(mariadb, version)
    dialect._connection_charset = "utf8mb4"
    dialect.default_schema_name = None
    level = facts.get("transaction_isolation") or facts.get("tx_isolation") or "REPEATABLE-READ"
    dialect.default_isolation_level = level.replace("-", " ").upper()  # type: ignore[assignment]
    dialect._server_ansiquotes = False
    dialect._backslash_escapes = True
    dialect._casing = int(facts.get("lower_case_table_names", 0))
    dialect.use_mysql_for_share = not mariadb and version >= (8, 0, 1)
    dialect.supports_for_update_of = not mariadb and version >= (8,)
    dialect._requires_alias_for_on_duplicate_key = not mariadb and version >= (8, 0, 20)
    dialect._support_default_function = version >= (10, 2, 1) if mariadb else version >= (8, 0, 13)
    dialect._support_float_cast = version >= ((10, 4, 5) if mariadb else (8, 0, 17))
    dialect.supports_sequences = dialect.sequences_optional = mariadb and version >= (10, 3)
    dialect.insert_returning = mariadb and version >= (10, 5)
    dialect.delete_returning = mariadb and version >= (10, 0, 5)


def describe_target(url: URL) -> str:
    """Say where a URL points, without user and password."""
    where = url.query.get("unix_socket") or url.host or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"{where}{port}/{url.database or ''}"


def _check_options(url: URL) -> None:
    for name in url.query:
        if name not in _OPTIONS:
            raise BadUrl(
                reason=f"MariaDB and MySQL have no option {name!r}",
                mend="Known options: " + ", ".join(sorted(_OPTIONS)) + ".",
            )


def _read_number(name: str, value: Any) -> int:
    if str(value).isdecimal():
        return int(value)
    raise BadUrl(reason=f"the option {name!r} is no number", mend=f"Write `?{name}=10`.")


def _read_ssl(word: str) -> dict[str, Any]:
    """Read ``?ssl=true``: encrypt, whoever answers; the other options say whom to trust."""
    if word.lower() in ("true", "1"):
        return {"check_hostname": False, "verify_mode": "none"}
    raise BadUrl(
        reason=f"ssl={word} is not known",
        mend="Write `?ssl=true`, or `?ssl_ca=/path/ca.pem` to check the server's certificate, too.",
    )


def _judge_mode(mode: str | None) -> str | None:
    if mode is None:
        return None
    named = {word.strip().upper() for word in mode.split(",")}
    if not named & _BREAKS_LITERALS and re.fullmatch(r"[\w, ]*", mode):
        return mode
    raise BadUrl(
        reason="its sql_mode would change how texts are quoted",
        mend="Leave ANSI_QUOTES and NO_BACKSLASH_ESCAPES out, or leave `sql_mode` to Holdfast.",
    )


class _TypeCompiler(MySQLTypeCompiler):
    """The general types hold what they hold on other servers; types that are MySQL's own stay as they are.

    Left alone, `Text` and `LargeBinary` would end at 64 KB, `Float` after seven digits, and times at the second, and
    `Numeric` would have no fraction.
    """

    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:  # noqa: N802 - SQLAlchemy finds it by this name
        return _timed("DATETIME", type_)

    def visit_TIME(self, type_: Any, **kw: Any) -> str:  # noqa: N802 - SQLAlchemy finds it by this name
        return _timed("TIME", type_)

    def visit_TIMESTAMP(self, type_: Any, **kw: Any) -> str:  # noqa: N802 - SQLAlchemy finds it by this name
        return _timed("TIMESTAMP", type_)

    def visit_text(self, type_: Any, **kw: Any) -> str:
        return (
            self._extend_string(type_, {}, "LONGTEXT")
            if type_.length is None
            else super().visit_text(type_, **kw)
        )

    def visit_string(self, type_: Any, **kw: Any) -> str:
        if type_.length is None:
            return self._extend_string(type_, {}, "LONGTEXT")
        return super().visit_string(type_, **kw)

    def visit_large_binary(self, type_: Any, **kw: Any) -> str:
        return "LONGBLOB" if type_.length is None else super().visit_large_binary(type_, **kw)

    def visit_float(self, type_: Any, **kw: Any) -> str:
        return "DOUBLE" if type_.precision is None else super().visit_float(type_, **kw)

    def visit_numeric(self, type_: Any, **kw: Any) -> str:
        return "NUMERIC(65, 30)" if type_.precision is None else super().visit_numeric(type_, **kw)


def _timed(name: str, type_: Any) -> str:
    """MySQL's own types say how many digits of a second they keep; any other type keeps six."""
    digits = getattr(type_, "fsp", 6)
    return f"{name}({digits})" if digits else name


class _Time(TIME):
    """Stands for the general `Time` inside a type of one's own."""

    def __init__(self, timezone: bool = False, fsp: int | None = 6) -> None:
        super().__init__(timezone, fsp)


__all__ = ["ASK_FACTS", "Family", "capabilities", "read_version"]
