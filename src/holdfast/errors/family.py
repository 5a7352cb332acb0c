"""Every error of Holdfast, as a table: code, what happened, how to mend.

Rule: one class for each thing a caller may want to catch; each code has a page docs/errors/CODE.md.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy.exc

from holdfast.errors.base import HoldfastError, Outcome

# --- what the database refused -------------------------------------------------------------


class DatabaseError(HoldfastError):
    code = "database-error"
    kind = "database"
    happened = "The database refused the statement"
    mend = "Read `error.orig` for the driver's own words, and call `session.rollback()`."


class IntegrityError(DatabaseError):
    code = "integrity-violation"
    kind = "integrity"
    happened = "A rule of the table refused the row"
    mend = "Call `session.rollback()`, mend the object, and save again."


class UniqueViolation(IntegrityError):
    code = "unique-violation"
    happened = "A row with the same unique value exists"
    mend = (
        "Call `session.rollback()` and save another value, or change the row that exists:"
        " `session.scalars(select(Model).where(...)).one()`."
    )


class ForeignKeyViolation(IntegrityError):
    code = "foreign-key-violation"
    happened = "A foreign key points to a row that does not exist, or that row is still in use"
    mend = "Call `session.rollback()`, then save the parent first or delete its children first."


class NotNullViolation(IntegrityError):
    code = "not-null-violation"
    happened = "A column that must have a value got None"
    mend = "Call `session.rollback()`, and set the attribute or give its column a default."


class CheckViolation(IntegrityError):
    code = "check-violation"
    happened = "A CHECK constraint refused the row"
    mend = "Call `session.rollback()`, and give values that the constraint allows."


class ExclusionViolation(IntegrityError):
    code = "exclusion-violation"
    happened = "An EXCLUDE constraint found a row that overlaps"
    mend = "Call `session.rollback()`, and give a value that does not overlap."


class DataError(DatabaseError):
    code = "data-error"
    kind = "data"
    happened = "A value does not fit where it was sent"
    mend = "Call `session.rollback()`, and give a value that the column can hold."


class WrongType(DataError):
    code = "wrong-type"
    happened = "A value has a type that its column does not take"
    mend = "Call `session.rollback()`, and convert the value to the column's Python type."


class ValueTooLong(DataError):
    code = "value-too-long"
    happened = "A value is longer than its column"
    mend = "Call `session.rollback()`, and shorten the value or widen `mapped_column(String(...))`."


class ValueOutOfRange(DataError):
    code = "value-out-of-range"
    happened = "A value is beyond what its column can hold"
    mend = "Call `session.rollback()`, and use a wider type: `mapped_column(BigInteger)`."


class BadText(DataError):
    code = "bad-text"
    happened = "A text holds a NUL character or a lone surrogate, which the database cannot store"
    mend = "Clean the text: `value.replace('\\0', '').encode(errors='replace').decode()`."


class NaiveDatetime(DataError):
    code = "naive-datetime"
    happened = "A datetime without a time zone was given where one is needed"
    mend = "Write `datetime.now(UTC)` or `value.replace(tzinfo=UTC)`."


class OperationalError(DatabaseError):
    code = "operational-error"
    kind = "operational"
    happened = "The database could not carry out the statement"
    mend = "Read `error.orig` for the driver's own words, and call `session.rollback()`."


class ConnectionFailed(OperationalError):
    code = "connection-failed"
    happened = "No connection to {server} could be opened: {reason}"
    mend = "Check that the server runs, and host, port, user and database in the URL."


class StartupParameterRefused(ConnectionFailed):
    code = "startup-parameter-refused"
    happened = "A pooler before {server} does not let the parameter {name} pass"
    mend = (
        "Leave it out of the URL and set it for the role, `ALTER ROLE app SET ...`, or let PgBouncer ignore it:"
        " `ignore_startup_parameters = {name}` in pgbouncer.ini."
    )


class ConnectionLost(OperationalError):
    code = "connection-lost"
    happened = "The connection to the database was lost"
    mend = "Call `session.rollback()` and do the work again; `pool_pre_ping=True` finds dead connections."


class CommitOutcomeUnknown(ConnectionLost):
    """``transaction`` is the number and server of the transaction, where they were asked for before the commit."""

    code = "commit-outcome-unknown"
    outcome = Outcome.UNKNOWN
    happened = "The connection was lost during COMMIT, so the work may have lasted or not"
    mend = "Ask the server, `db.outcome(error)`, or look for what was written; never repeat the work blindly."
    transaction: Any = None


class SerializationFailure(OperationalError):
    code = "serialization-failure"
    happened = "Another transaction changed what this one had read"
    mend = "Let the whole transaction be done again: `db.run(work)`, or `@db.transaction` on its function."


class DeadlockDetected(OperationalError):
    code = "deadlock-detected"
    happened = "Two transactions waited for each other, and this one was chosen to give way"
    mend = "Let the whole transaction be done again, `db.run(work)`, and lock rows in one order: `.order_by(Model.id).with_for_update()`."


class LockTimeout(OperationalError):
    code = "lock-timeout"
    happened = "A lock was not free in time"
    mend = "Call `session.rollback()` and try again, or write `.with_for_update(skip_locked=True)`."
    may_pass: bool = False
    """Whether `db.run` does the work again; not where somebody asked to be told so soon."""


class DatabaseBusy(OperationalError):
    code = "database-busy"
    happened = "Another connection is writing to the SQLite database"
    mend = "Keep write transactions short, or wait longer: `Database('sqlite:///app.db?timeout=30')`."


class StatementTimeout(OperationalError):
    code = "statement-timeout"
    happened = "The statement was cancelled or took longer than it may"
    mend = "Call `session.rollback()`, and give it an index or a longer `statement_timeout`."


class ReadOnly(OperationalError):
    code = "read-only"
    happened = "A write was tried where only reading is allowed"
    mend = "Use a writable database and a transaction that is not `read_only=True`."


class TransactionFailed(OperationalError):
    code = "transaction-failed"
    happened = "An earlier statement failed, so the transaction takes no more"
    mend = "Call `session.rollback()`; use `session.begin_nested()` around what may fail."


class PreparedStatementLost(OperationalError):
    code = "prepared-statement-lost"
    happened = "A prepared statement was not where it had been left, as behind a pooler in transaction mode"
    mend = 'Write `Database(url, pooler="transaction")`.'


class PoolTimeout(OperationalError):
    code = "pool-timeout"
    kind = "pool"
    happened = "No connection was free within {seconds:g} s: {in_use} in use, {waiting} waiting"
    mend = "Close sessions with `with db.session() as session:`, or raise `pool_size` and `max_overflow`."


class PoolClosed(OperationalError):
    code = "pool-closed"
    kind = "pool"
    happened = "The database was closed"
    mend = "Make a new one: `db = Database(url)`."


class ProgrammingError(DatabaseError):
    code = "programming-error"
    kind = "programming"
    happened = "The database does not understand the statement"
    mend = "Read `error.statement`, and mend it."


class UnknownTable(ProgrammingError):
    code = "unknown-table"
    happened = "The database has no such table"
    mend = "Create it: `db.create_all(Base)`, or run your migrations."


class UnknownColumn(ProgrammingError):
    code = "unknown-column"
    happened = "A table of the database has no such column"
    mend = "Run your migrations, or mend the name in the statement."


class SqlSyntaxError(ProgrammingError):
    code = "sql-syntax-error"
    happened = "The statement is not well-formed SQL"
    mend = "Read `error.statement`, and mend it."


class PermissionDenied(ProgrammingError):
    code = "permission-denied"
    happened = "The database user may not do this"
    mend = "Grant the right, or connect as a user who has it."


# --- what is told, and nothing failed -------------------------------------------------------


class PoolerDetected(HoldfastError, UserWarning):
    """A warning, with the code, page and mend of an error; ``mode`` is "transaction" or "unknown"."""

    code = "pooler-detected"
    kind = "warning"
    mode: str | None = None
    happened = "A pooler in transaction mode stands between this database and PostgreSQL, so no prepared statements are used"
    mend = (
        'Write `Database(url, pooler="transaction")`: the same, without the question at the first connection.'
    )


class SideEffectReplayed(HoldfastError, UserWarning):
    """A warning, with the code, page and mend of an error; ``filename`` and ``line`` say where, ``event`` what."""

    code = "side-effect-replayed"
    kind = "warning"
    filename: str = ""
    line: int = 0
    event: str = ""
    happened = "{filename}:{line} had an effect outside the database ({event}) in an attempt that was undone and runs again"
    mend = "Let it happen once: `session.on_commit(lambda: ...)`."


# --- what the program asked wrongly ---------------------------------------------------------


class InvalidRequestError(HoldfastError):
    code = "invalid-request"
    kind = "usage"
    happened = "This cannot be asked"


class DriverMissing(InvalidRequestError):
    code = "driver-missing"
    happened = "The library {library} is not installed"
    mend = "Run `pip install 'holdfast[{extra}]'`."


class BadUrl(InvalidRequestError):
    code = "bad-url"
    happened = "The database URL cannot be used: {reason}"
    mend = "Write `sqlite:///app.db`, `postgresql://user:password@host:5432/database` or `mariadb://...`."


class ModelError(InvalidRequestError):
    code = "model-error"
    kind = "model"
    happened = "A model cannot be configured"
    mend = "Mend the declaration."


class UnknownAttribute(InvalidRequestError):
    code = "unknown-attribute"
    happened = "{model} has no attribute {name}"
    mend = "Use one of the attributes that {model} declares."


class RelationNotLoaded(InvalidRequestError):
    code = "relation-not-loaded"
    happened = "The relation {model}.{name} is not loaded"
    mend = "Write `await session.load(objects, {model}.{name})`."


class AttributeNotLoaded(InvalidRequestError):
    code = "attribute-not-loaded"
    happened = "The attribute {model}.{name} is not loaded"
    mend = "Write `await session.refresh(object, ['{name}'])`."


class DetachedInstanceError(InvalidRequestError):
    code = "detached-instance"
    happened = "{model} belongs to no open session, so {name} cannot be loaded"
    mend = "Load it while the session is open: `.options(selectinload({model}.{name}))`."


class SessionInUse(InvalidRequestError):
    code = "session-in-use"
    happened = "The session is at work in another task or thread"
    mend = "Give each task its own: `with db.session() as session:`."


class SessionClosed(InvalidRequestError):
    code = "session-closed"
    happened = "The session is closed"
    mend = "Open a new one: `with db.session() as session:`."


class ObjectInOtherSession(InvalidRequestError):
    code = "object-in-other-session"
    happened = "The {model} belongs to another session"
    mend = "Take it out first with `other.expunge(object)`, or write `session.merge(object)`."


class NestedBegin(InvalidRequestError):
    code = "nested-begin"
    happened = "The session has begun a transaction already"
    mend = "Write `session.begin_nested()` for a savepoint."


class NestedTransaction(InvalidRequestError):
    code = "nested-transaction"
    happened = (
        "A unit of work of this database is under way here, and a second one would not be undone with it"
    )
    mend = "Pass its session on: `transfer.within(session, ...)`, or call the function with the session yourself."


class CommitInUnit(InvalidRequestError):
    code = "commit-in-unit"
    happened = (
        "A unit of work wanted to end its transaction itself, and could not be run again as a whole any more"
    )
    mend = "Leave COMMIT to `db.run`; to undo, raise an error, or write `with session.begin_nested():`."


class MissingKey(InvalidRequestError):
    code = "missing-key"
    happened = "The {model} has no primary key value"
    mend = "Set {name} before saving, or give its column a default."


class CircularDependencyError(InvalidRequestError):
    code = "circular-dependency"
    happened = "The rows depend on one another in a circle"
    mend = "Write `relationship(..., post_update=True)` on one side of the circle."


class NotSupported(InvalidRequestError):
    code = "not-supported"
    happened = "{feature} comes in a later release"
    mend = "Leave it out for now."


class LockNotSupported(InvalidRequestError):
    code = "lock-not-supported"
    happened = "{server} has no row lock with {feature}"
    mend = "Leave {feature} out: a plain `.with_for_update()` waits for its turn."


class ReturningNotSupported(InvalidRequestError):
    code = "returning-not-supported"
    happened = "{server} has no {feature}"
    mend = "Select the rows beforehand with `.with_for_update()`, or afterwards, in the same transaction."


class ImplicitCommit(InvalidRequestError):
    code = "implicit-commit"
    happened = "{server} would commit the open transaction before this statement, and could not roll it back"
    mend = "Run it outside a transaction, in a session that has written nothing: `with db.session() as session: session.execute(...)`."


class StaleDataError(OperationalError):
    code = "stale-data"
    kind = "stale"
    happened = "A row was changed or deleted by somebody else since it was loaded"
    mend = "Call `session.rollback()`, then `session.refresh(object)`, and do the work again; `db.run(work)` does."
    may_pass: bool = True
    """Whether the same work may pass when it is done again; not where it brought the version itself."""


class NoResultFound(InvalidRequestError, sqlalchemy.exc.NoResultFound):  # pyright: ignore[reportIncompatibleVariableOverride]
    code = "no-result-found"
    kind = "result"
    happened = "No row was found where one was required"
    mend = "Use `.one_or_none()` or `session.get(...)` where there may be none."


class MultipleResultsFound(InvalidRequestError, sqlalchemy.exc.MultipleResultsFound):  # pyright: ignore[reportIncompatibleVariableOverride]
    code = "multiple-results-found"
    kind = "result"
    happened = "More than one row was found where one was required"
    mend = "Use `.first()` or `.all()`, or narrow the statement."
