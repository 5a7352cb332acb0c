"""The suite that every driver must pass, blocking and async.

Theory: each check is an operation, a generator of steps, so one text serves both sides; it runs on
one open connection and asserts.  A check needs what its ``needs`` say of the driver.

Rule: tables are temporary, so a check leaves nothing, and several may run at once.  MariaDB's and MySQL's temporary
tables have no foreign keys; there the tables are made anew for each check, in a database that is nobody else's.
"""

from __future__ import annotations

import asyncio
import enum
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from holdfast import errors
from holdfast.drivers import AsyncDriver, Driver
from holdfast.errors import HoldfastError, Outcome
from holdfast.runner import AsyncRunner, SyncRunner
from holdfast.steps import Operation, command, execute, execute_many, fetch, run

SECRET = "s3cret-value"


class Colour(enum.Enum):
    red = 1
    green = 2


metadata = sa.MetaData()
TYPES = sa.Table(
    "conformance_types",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("small", sa.SmallInteger),
    sa.Column("normal", sa.Integer),
    sa.Column("big", sa.BigInteger),
    sa.Column("flag", sa.Boolean),
    sa.Column("real", sa.Float),
    sa.Column("money", sa.Numeric(12, 2)),
    sa.Column("text", sa.Text),
    sa.Column("short", sa.String(50)),
    sa.Column("data", sa.LargeBinary),
    sa.Column("day", sa.Date),
    sa.Column("hour", sa.Time),
    sa.Column("moment", sa.DateTime),
    sa.Column("span", sa.Interval),
    sa.Column("document", sa.JSON),
    sa.Column("token", sa.Uuid),
    sa.Column("colour", sa.Enum(Colour, name="conformance_colour")),
)
PARENTS = sa.Table(
    "conformance_parents",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", sa.String(20), nullable=False),
    sa.Column("age", sa.Integer),
    sa.UniqueConstraint("email", name="uq_conformance_parents_email"),
    sa.CheckConstraint("age >= 0", name="ck_conformance_parents_age"),
)
CHILDREN = sa.Table(
    "conformance_children",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.ForeignKey("conformance_parents.id", name="fk_conformance_parent")),
)
LIMITS: dict[str, list[Any]] = {
    "small": [0, -(2**15), 2**15 - 1],
    "normal": [0, -(2**31), 2**31 - 1],
    "big": [0, -(2**63), 2**63 - 1],
    "flag": [True, False],
    "real": [0.0, -1.5, 1.7976931348623157e308, 5e-324, 0.1],
    "money": [Decimal("0.00"), Decimal("9999999999.99"), Decimal("-0.01")],
    "text": ["", "ü漢😀", "'; DROP TABLE x; --", '100% :a $1 ? \\ " \n\t', "x" * 100_000, "\x01\x7f"],
    "short": ["", "'", "$1::INTEGER", "%s %(a)s"],
    "data": [b"", bytes(range(256)), b"\0" * 10],
    "day": [date.min, date.max, date(2024, 2, 29)],
    "hour": [time.min, time.max],
    "moment": [datetime.combine(date.min, time.min), datetime.combine(date.max, time.max)],
    "span": [timedelta(0), timedelta(days=400, microseconds=1), timedelta(days=-1)],
    "document": [{"a": [1, None, "ü'\"\\"], "b": {}}, [], "x", 1.5, True, None],
    "token": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "colour": [Colour.red, Colour.green],
}
_OIDS: dict[type[Any], int] = {sa.Numeric: 1700, sa.Float: 701}


@dataclass
class Bench:
    """What a check works with: the driver, and its connection for the truth it tells."""

    driver: Any
    connection: Any = None

    @property
    def server(self) -> str:
        return str(self.driver.capabilities.server)

    @property
    def postgresql(self) -> bool:
        return self.server == "postgresql"

    @property
    def mysql(self) -> bool:
        """Whether it is MariaDB or MySQL."""
        return self.server in MYSQL

    def mark(self, number: int, cast_to: str = "TEXT") -> str:
        """Write a placeholder as the driver takes it, with its type where the server needs it."""
        return f"${number}::{cast_to}" if self.postgresql else "?"

    def compile(self, statement: Any) -> tuple[str, tuple[Any, ...]]:
        """Compile a statement as plans do: text, and processed positional parameters."""
        compiled = statement.compile(dialect=self.driver.dialect)
        values = compiled.construct_params()
        processors = compiled._bind_processors
        params = tuple(
            processors[name](values[name]) if name in processors else values[name]
            for name in compiled.positiontup or ()
        )
        return str(compiled), params

    def read(self, kind: sa.types.TypeEngine[Any], value: Any) -> Any:
        """Process a result as plans do."""
        implementation = kind.dialect_impl(self.driver.dialect)
        oid = next((oid for base, oid in _OIDS.items() if type(kind) is base), None)
        processor = implementation.result_processor(self.driver.dialect, oid)
        return processor(value) if processor else value


Check = Callable[[Bench], Operation[None]]
MYSQL = ("mariadb", "mysql")
SERVERS = ("sqlite", "postgresql", *MYSQL)
_CHECKS: list[tuple[Check, tuple[str, ...]]] = []


def _check(*servers: str) -> Callable[[Check], Check]:
    """Mark a check; it is for all servers where none is named."""

    def keep(check: Check) -> Check:
        _CHECKS.append((check, servers or SERVERS))
        return check

    return keep


def checks_of(server: str) -> list[str]:
    """Name the checks that a driver of this server must pass."""
    return [check.__name__ for check, servers in _CHECKS if server in servers]


def fails(operation: Operation[Any], kind: type[HoldfastError], **facts: Any) -> Operation[HoldfastError]:
    """Expect an error of exactly this kind, with these facts, and with no value in its text."""
    caught: HoldfastError | None = None
    try:
        yield from operation
    except HoldfastError as error:
        caught = error
    assert caught is not None, f"expected {kind.__name__}: nothing was raised"
    told = "".join(traceback.format_exception(caught))
    assert type(caught) is kind, f"expected {kind.__name__}, got {told} from {caught.orig!r}"
    for name, value in facts.items():
        assert getattr(caught, name) == value, f"{name}: {getattr(caught, name)!r} is not {value!r}"
    assert SECRET not in told, told
    assert SECRET not in repr(caught), told
    assert caught.orig is not None
    assert caught.statement is not None
    return caught


@_check()
def values_of_every_type_come_back(bench: Bench) -> Operation[None]:
    for name, values in LIMITS.items():
        column = TYPES.c[name]
        for value in [*values, None]:
            yield from execute(*bench.compile(sa.delete(TYPES)))
            sql, params = bench.compile(sa.insert(TYPES).values({"id": 1, name: value}))
            assert (yield from execute(sql, params)) == 1
            sql, params = bench.compile(sa.select(column))
            # an enum's binary form is only known to the server that has the enum
            for binary in (False, name != "colour"):
                rows = yield from fetch(sql, params, binary=binary)
                found = bench.read(column.type, rows[0][0])
                assert found == value, (name, value, found)
                assert isinstance(found, type(value)), (name, value, found)
    yield from execute(*bench.compile(sa.delete(TYPES)))


@_check()
def rowcounts_are_true(bench: Bench) -> Operation[None]:
    one, two = bench.mark(1, "INTEGER"), bench.mark(2, "TEXT")
    insert = f"INSERT INTO conformance_parents (id, email) VALUES ({one}, {two})"
    assert (yield from execute(insert, (1, "a"))) == 1
    many = yield from execute_many(insert, [(2, "b"), (3, "c")])
    assert many in (2, -1)
    assert (yield from execute("UPDATE conformance_parents SET age = 1 WHERE id > 1")) == 2
    assert (yield from execute(f"DELETE FROM conformance_parents WHERE id = {one}", (99,))) == 0
    assert (yield from execute("DELETE FROM conformance_parents")) == 3


@_check()
def text_statements_tell_their_shape(bench: Bench) -> Operation[None]:
    answer = yield from run(f"SELECT {bench.mark(1)} AS a, 2 AS b", ("x",))
    assert answer.keys == ("a", "b"), answer
    assert tuple(answer.rows[0]) == ("x", 2), answer
    answer = yield from run("SELECT id, email FROM conformance_parents WHERE id = -1")
    assert answer.keys == ("id", "email")
    assert len(answer.rows) == 0
    sql = f"INSERT INTO conformance_parents (id, email) VALUES (1, {bench.mark(1)})"
    answer = yield from run(sql, ("x",))
    assert answer.keys is None, answer
    assert answer.rowcount == 1, answer
    if bench.driver.capabilities.delete_returning:
        answer = yield from run("DELETE FROM conformance_parents RETURNING id")
        assert answer.keys == ("id",), answer
        assert answer.rowcount == 1, answer
    answer = yield from run("CREATE TEMPORARY TABLE conformance_temporary (a INTEGER)")
    assert answer.keys is None
    yield from run("DROP TABLE conformance_temporary")
    answer = yield from run("SELECT '100%', ':x'")
    assert tuple(answer.rows[0]) == ("100%", ":x")


@_check()
def in_transaction_is_the_servers_truth(bench: Bench) -> Operation[None]:
    assert not bench.connection.in_transaction
    assert bench.connection.usable
    yield from command("BEGIN")
    assert bench.connection.in_transaction
    yield from execute("INSERT INTO conformance_parents (id, email) VALUES (1, 'a')")
    yield from command("SAVEPOINT one")
    yield from execute("INSERT INTO conformance_parents (id, email) VALUES (2, 'b')")
    yield from command("ROLLBACK TO SAVEPOINT one")
    yield from command("RELEASE SAVEPOINT one")
    assert len((yield from fetch("SELECT id FROM conformance_parents"))) == 1
    yield from command("ROLLBACK")
    assert not bench.connection.in_transaction
    assert len((yield from fetch("SELECT id FROM conformance_parents"))) == 0
    yield from command("BEGIN")
    yield from command("COMMIT")
    assert not bench.connection.in_transaction


@_check()
def broken_rules_name_what_they_broke(bench: Bench) -> Operation[None]:
    one, two = bench.mark(1, "TEXT"), bench.mark(2, "INTEGER")
    insert = f"INSERT INTO conformance_parents (id, email, age) VALUES (1, {one}, {two})"
    yield from execute(insert, (SECRET, 1))
    named: dict[str, Any] = {"table": "conformance_parents"}
    facts: dict[str, Any] = {"constraint": "uq_conformance_parents_email"}
    if bench.postgresql:
        facts |= named
    elif bench.server == "sqlite":
        facts = {**named, "columns": ("email",)}
    second = insert.replace("(1,", "(2,")
    yield from fails(execute(second, (SECRET, 1)), errors.UniqueViolation, **facts)
    facts = {"column": "email"} if bench.mysql else {**named, "column": "email"}
    yield from fails(execute(second, (None, 1)), errors.NotNullViolation, **facts)
    facts = {"constraint": "ck_conformance_parents_age"}
    yield from fails(execute(second, (SECRET + "2", -1)), errors.CheckViolation, **facts)
    orphan = "INSERT INTO conformance_children (id, parent_id) VALUES (1, 99)"
    caught = yield from fails(execute(orphan), errors.ForeignKeyViolation)
    assert bench.server == "sqlite" or caught.constraint == "fk_conformance_parent"
    assert caught.outcome is Outcome.NOT_DONE
    yield from execute("DELETE FROM conformance_parents")


@_check()
def unknown_names_and_bad_sql_are_told_apart(bench: Bench) -> Operation[None]:
    yield from fails(fetch("SELECT 1 FROM conformance_nothing"), errors.UnknownTable)
    yield from fails(fetch("SELECT missing FROM conformance_parents"), errors.UnknownColumn)
    bad = errors.ProgrammingError if bench.server == "sqlite" else errors.SqlSyntaxError
    yield from fails(fetch(f"SELEKT '{SECRET}'"), bad)


@_check()
def text_that_cannot_be_stored_is_refused(bench: Bench) -> Operation[None]:
    sql = f"SELECT {bench.mark(1)}"
    both = f"SELECT {bench.mark(1)}, {bench.mark(2)}"
    yield from fails(fetch(both, ("a", SECRET + "\ud800")), errors.BadText, position=1)
    if bench.postgresql:
        yield from fails(fetch(sql, (SECRET + "\0",)), errors.BadText, position=0)
        arrays = f"SELECT {bench.mark(1, 'TEXT[]')}"
        yield from fails(fetch(arrays, (["a", SECRET + "\0"],)), errors.BadText, position=0)
    assert len((yield from fetch(sql, ("fine",)))) == 1


@_check()
def numbers_beyond_the_column_are_refused(bench: Bench) -> Operation[None]:
    sql = f"SELECT {bench.mark(1, 'INTEGER')}"
    yield from fails(fetch(sql, (2**70,)), errors.ValueOutOfRange)
    if bench.postgresql:
        yield from fails(fetch(sql, (2**40,)), errors.ValueOutOfRange)


@_check()
def values_of_a_strange_type_are_refused(bench: Bench) -> Operation[None]:
    class Strange:
        def __repr__(self) -> str:
            return SECRET

    sql = f"SELECT {bench.mark(1, 'INTEGER')}"
    yield from fails(fetch(sql, (Strange(),)), errors.WrongType)
    if bench.postgresql:
        yield from fails(fetch(sql, (SECRET,)), errors.WrongType, position=0)
        yield from fails(fetch(f"SELECT {bench.mark(1, 'UUID')}", (SECRET,)), errors.WrongType)
        yield from fails(fetch(f"SELECT {bench.mark(1, 'DATE')}", (SECRET,)), errors.WrongType)


@_check("postgresql", *MYSQL)
def text_longer_than_its_column_is_refused(bench: Bench) -> Operation[None]:
    sql = f"INSERT INTO conformance_parents (id, email) VALUES (1, {bench.mark(1)})"
    facts = {"column": "email"} if bench.mysql else {}
    yield from fails(execute(sql, (SECRET * 3,)), errors.ValueTooLong, **facts)


@_check("postgresql")
def a_failed_transaction_says_so(bench: Bench) -> Operation[None]:
    yield from command("BEGIN")
    yield from fails(fetch("SELECT 1/0"), errors.DataError, sqlstate="22012")
    assert bench.connection.in_transaction
    assert bench.connection.usable
    yield from fails(fetch("SELECT 1"), errors.TransactionFailed)
    yield from command("ROLLBACK", cleanup=True)
    assert not bench.connection.in_transaction
    assert tuple((yield from fetch("SELECT 1"))[0]) == (1,)


@dataclass(frozen=True)
class Ping:
    """A step that asks whether the connection answers."""

    sql: str = "ping"

    def perform(self, port: Any) -> Any:
        return port.ping()


@dataclass(frozen=True)
class Close:
    """A step that closes the connection."""

    sql: str = "close"

    def perform(self, port: Any) -> Any:
        return port.close()


@_check()
def a_ping_answers_in_every_state(bench: Bench) -> Operation[None]:
    ping: Any = Ping()
    yield ping
    yield from command("BEGIN")
    yield ping
    if bench.postgresql:
        yield from fails(fetch("SELECT 1/0"), errors.DataError)
        yield ping
    yield from command("ROLLBACK")
    assert bench.connection.usable


@_check("postgresql", *MYSQL)
def writing_where_only_reading_is_allowed_is_refused(bench: Bench) -> Operation[None]:
    yield from command("START TRANSACTION READ ONLY")
    refused = (
        "INSERT INTO conformance_parents (id, email) VALUES (1, 'a')"  # MySQL's CREATE TABLE would commit
    )
    if bench.postgresql:
        refused = "CREATE TABLE conformance_never (a INTEGER)"  # what is temporary may be written
    yield from fails(command(refused), errors.ReadOnly)
    yield from command("ROLLBACK", cleanup=True)


@_check("postgresql", "mariadb")
def a_statement_that_takes_too_long_is_cut(bench: Bench) -> Operation[None]:
    if bench.postgresql:
        yield from command("SET statement_timeout = '20ms'")
        yield from fails(fetch("SELECT pg_sleep(10)"), errors.StatementTimeout)
        yield from command("SET statement_timeout = 0")
        return
    yield from command("SET max_statement_time = 0.02")
    yield from fails(fetch("SELECT SLEEP(10)"), errors.StatementTimeout)
    yield from command("SET max_statement_time = 0")


@_check("postgresql")
def arrays_pass_as_parameters(bench: Bench) -> Operation[None]:
    zone = timezone(timedelta(hours=5))
    arrays: dict[str, list[Any]] = {
        "INTEGER": [1, 70_000, None, -(2**31)],
        "BIGINT": [1, 2**62, None, 70_000],
        "TEXT": ["a", None, "", "NULL", '{"x",y}', "ü\\"],
        "VARCHAR(20)": ["a", None],
        "TIMESTAMP WITH TIME ZONE": [datetime(2024, 1, 1, tzinfo=UTC), None, datetime(1, 1, 2, tzinfo=zone)],
        "NUMERIC": [Decimal("1.10"), None, Decimal("1e20"), Decimal("NaN")],
        "BOOLEAN": [True, None, False],
        "UUID": [uuid.UUID(int=1), None],
        "BYTEA": [b"\0\xff", None, b""],
        "DOUBLE PRECISION": [1.5, None, float("inf")],
        "DATE": [date(2024, 1, 1), None],
        "conformance_colour": ["red", None, "green"],
    }
    for kind, values in arrays.items():
        for given in (values, values[:1], [None], []):
            sql = f"SELECT * FROM unnest({bench.mark(1, kind + '[]')})"
            for binary in (False, not kind.startswith("conformance")):
                rows = yield from fetch(sql, (given,), binary=binary)
                found = [row[0] for row in rows]
                assert list(map(_same, found)) == list(map(_same, given)), (kind, given, found)


def _same(value: Any) -> Any:
    """Make NaN equal to itself."""
    return "NaN" if isinstance(value, Decimal) and value.is_nan() else value


@_check("postgresql")
def arrays_of_a_column_come_back(bench: Bench) -> Operation[None]:
    bound = sa.bindparam("x", [1, None, 3], type_=pg.ARRAY(sa.Integer))
    rows = yield from fetch(*bench.compile(sa.select(bound)))
    assert list(rows[0][0]) == [1, None, 3]


@_check("postgresql")
def jsonb_passes_both_ways(bench: Bench) -> Operation[None]:
    value = {"a": ["ü", None, 1.5]}
    bound = sa.bindparam("x", value, type_=pg.JSONB)
    rows = yield from fetch(*bench.compile(sa.select(bound)))
    assert bench.read(pg.JSONB(), rows[0][0]) == value


@_check()
def many_repetitions_survive_a_change_of_the_table(bench: Bench) -> Operation[None]:
    yield from command("CREATE TEMPORARY TABLE conformance_changing (a INTEGER)")
    yield from command("INSERT INTO conformance_changing VALUES (1)")
    for _ in range(12):  # more often than psycopg needs to prepare a statement
        yield from fetch("SELECT * FROM conformance_changing")
    yield from command("ALTER TABLE conformance_changing ADD COLUMN b INTEGER")
    rows = yield from fetch("SELECT * FROM conformance_changing")
    assert tuple(rows[0]) == (1, None)
    yield from command("DROP TABLE conformance_changing")


@_check("postgresql", *MYSQL)
def z_a_dead_connection_is_told(bench: Bench) -> Operation[None]:
    kill = "SELECT pg_terminate_backend(pg_backend_pid())" if bench.postgresql else "KILL CONNECTION_ID()"
    yield from fails(fetch(kill), errors.ConnectionLost, outcome=Outcome.NOT_DONE)
    yield from fails(fetch("SELECT 1"), errors.ConnectionLost)
    yield from fails(command("COMMIT"), errors.ConnectionLost, outcome=Outcome.UNKNOWN)
    assert not bench.connection.usable


@_check("sqlite", *MYSQL)
def z_a_closed_connection_is_told(bench: Bench) -> Operation[None]:
    close: Any = Close()
    yield close
    yield from fails(fetch("SELECT 1"), errors.ConnectionLost)
    assert not bench.connection.usable


CHECKS: dict[str, Check] = {check.__name__: check for check, _ in _CHECKS}


class _OneConnection:
    """A pool of one connection that a check may break."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def acquire(self) -> Any:
        return self.connection

    def release(self, connection: Any, *, discard: bool = False) -> None:
        pass

    def abandon(self, connection: Any) -> None:
        pass


class _OneAsyncConnection:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def acquire(self) -> Any:
        return self.connection

    def take(self) -> Any:
        return self.connection

    async def release(self, connection: Any, *, discard: bool = False) -> None:
        pass

    def put(self, connection: Any) -> bool:
        return True

    def abandon(self, connection: Any) -> None:
        pass


def exercise(driver: Driver, only: str | None = None) -> list[str]:
    """Run the checks that fit a blocking driver; answers their names.

    Raises:
        AssertionError: at the first check that fails.
    """
    passed = []
    driver.connect().close()  # tells what the server is
    for name, check in _fitting(driver, only):
        bench = Bench(driver, driver.connect())
        runner = SyncRunner(_OneConnection(bench.connection), driver.translate)
        runner(_between_tables(bench, check))
        bench.connection.close()
        passed.append(name)
    return passed


async def exercise_async(driver: AsyncDriver, only: str | None = None) -> list[str]:
    """Run the checks that fit an async driver; answers their names."""
    passed = []
    await (await driver.connect()).close()
    for name, check in _fitting(driver, only):
        bench = Bench(driver, await driver.connect())
        runner = AsyncRunner(_OneAsyncConnection(bench.connection), driver.translate)
        await runner(_between_tables(bench, check))
        await asyncio.wait_for(bench.connection.close(), 5)
        passed.append(name)
    return passed


def _fitting(driver: Any, only: str | None) -> Sequence[tuple[str, Check]]:
    bench = Bench(driver)
    return [
        (check.__name__, check)
        for check, servers in _CHECKS
        if bench.server in servers and only in (None, check.__name__)
    ]


def _between_tables(bench: Bench, check: Check) -> Operation[None]:
    """Make tables that only this connection sees, then run a check."""
    if bench.postgresql:
        yield from command("CREATE TYPE pg_temp.conformance_colour AS ENUM ('red', 'green')")
    if bench.mysql:
        names = ", ".join(table.name for table in reversed(metadata.sorted_tables))
        yield from command(f"DROP TABLE IF EXISTS {names}")
    for table in metadata.sorted_tables:
        ddl = str(sa.schema.CreateTable(table).compile(dialect=bench.driver.dialect))
        yield from command(ddl if bench.mysql else ddl.replace("CREATE TABLE", "CREATE TEMPORARY TABLE"))
    yield from check(bench)


__all__ = ["CHECKS", "Bench", "checks_of", "exercise", "exercise_async"]
