"""The async doors: `AsyncDatabase` and `AsyncSession`.

The blocking doors are written from this file by ``./dev twins``.  A door thinks nothing of its own: it gives the
core's operations to the session's runner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar, TypeVarTuple, overload
from warnings import warn

from sqlalchemy import URL
from sqlalchemy.engine.result import Result, ScalarResult
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import TypedReturnsRows

from holdfast.errors import (
    CommitInUnit,
    CommitOutcomeUnknown,
    ConnectionLost,
    HoldfastError,
    InvalidRequestError,
    NoResultFound,
    OperationalError,
    Outcome,
    SessionInUse,
)
from holdfast.hydrate import row_function
from holdfast.model import mapper_of
from holdfast.plan import Plan, build_plan
from holdfast.pool import AsyncPool, PoolSettings
from holdfast.session import ChangeResult, Frame, SessionCore, create_all, drop_all
from holdfast.steps import Operation
from holdfast.tx import Policy, Scope, ask_outcome, describe_scope

from .asynchronous_units import AsyncTransactional, make_unit, run_hooks, run_unit
from .opening import Opened, lose, metadata_of

# twins: blocking only
# from .opening import refuse_coroutines  # isort: skip
# twins: end

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
P = ParamSpec("P")
ASK_AGAIN_SECONDS = 0.05
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


class AsyncDatabase:
    """A database: its driver, its pool, its plans.  Make one per URL and keep it.

    ``url`` has SQLAlchemy's forms: ``sqlite:///app.db``, ``sqlite://`` (in memory),
    ``postgresql://user:password@host/name``.  Nothing is connected before the first statement.
    ``echo`` logs each statement to the logger ``holdfast.sql``.
    The pool's options have SQLAlchemy's names and meanings; times are in seconds.  Besides,
    ``pool_max_idle`` is how long a connection beyond ``pool_size`` may be idle (0: closed when it comes
    back; -1: kept), and ``pool_max_connecting`` how many may be opened at once (-1: no limit).
    ``warn_side_effects`` warns with `SideEffectReplayed` of what an attempt did outside the database that runs again;
    None does so in Python's development mode, ``python -X dev``.
    ``pooler`` is the mode of PgBouncer or its like before PostgreSQL: "transaction" or "session";
    None finds out whether there is one, and warns with `PoolerDetected`.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        echo: bool | str = False,
        pool_size: int = 5,
        max_overflow: int = 10,
        pool_timeout: float = 30,
        pool_recycle: float = -1,
        pool_pre_ping: bool = False,
        pool_max_idle: float = 60,
        pool_max_connecting: int = 3,
        connect_args: Mapping[str, Any] | None = None,
        autoflush: bool = True,
        plan_cache_size: int = 1000,
        pooler: Literal["transaction", "session"] | None = None,
        warn_side_effects: bool | None = None,
    ) -> None:
        # twins: async only
        on_loop = True
        # twins: end
        # twins: blocking only
        # on_loop = False
        # twins: end
        self._opened = Opened(
            url,
            on_loop=on_loop,
            settings=PoolSettings(
                pool_size,
                max_overflow,
                pool_timeout,
                pool_recycle,
                pool_pre_ping,
                pool_max_idle,
                pool_max_connecting,
            ),
            echo=echo,
            options=connect_args or {},
            plan_cache_size=plan_cache_size,
            pooler=pooler,
            warn_side_effects=warn_side_effects,
        )
        self._autoflush = autoflush

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.dialect_name}, {self.pool!r}>"

    @property
    def dialect_name(self) -> str:
        """The server's name, as SQLAlchemy says it: ``sqlite``, ``postgresql``."""
        return str(self._opened.backend.dialect.name)

    @property
    def pool(self) -> AsyncPool:
        """The pool: ``db.pool.stats()`` says how it does, ``db.pool.advice()`` what its size should be."""
        return self._opened.pool  # type: ignore[no-any-return]

    @property
    def observers(self) -> Any:
        """Who hears of statements: ``remove = db.observers.add(function)``."""
        return self._opened.observers

    def session(self, *, autoflush: bool | None = None) -> AsyncSession:
        """Open a session; you commit.  Leaving its block rolls back what was not committed."""
        return AsyncSession(self, autoflush=self._autoflush if autoflush is None else autoflush)

    def begin(
        self,
        *,
        isolation: str | None = None,
        read_only: bool = False,
        deferrable: bool = False,
        resolve: bool = False,
    ) -> AsyncBegin:
        """Open a session in a transaction: commits at the end of the block, rolls back on an error.

        ``resolve`` costs a round trip and lets `outcome` find out what became of a commit that was cut off.
        """
        session = self.session()
        session._core.begin(Scope(isolation, read_only, deferrable, resolve))
        return AsyncBegin(session, owns=True)

    async def run(
        self,
        work: Callable[[AsyncSession], Awaitable[T]],
        *,
        isolation: str | None = None,
        read_only: bool = False,
        deferrable: bool = False,
        retries: int = 5,
        deadline: float | None = None,
        resolve: bool = True,
    ) -> T:
        """Run a unit of work in a transaction of its own; after a conflict the whole of it runs again.

        ``work`` gets a new session at each attempt, and what it returns is the answer once its transaction lasts.
        At most ``retries`` more attempts are made, and none that would begin after ``deadline`` seconds; the last error
        says how often it was tried.  ``resolve`` lets a commit that was cut off be looked up on the server, which costs a
        transaction that wrote one round trip; see `outcome`.

        Raises:
            NestedTransaction: inside another unit of work of this database.
            CommitInUnit: when ``work`` commits or rolls back itself.
            CommitOutcomeUnknown: when nobody can tell whether the work lasted.
        """
        # twins: blocking only
        # refuse_coroutines(work)
        # twins: end
        scope = Scope(isolation, read_only, deferrable, resolve)
        return await run_unit(self, work, Policy(scope, retries, deadline))

    @overload
    def transaction(
        self, work: Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, T]], /
    ) -> AsyncTransactional[P, T]: ...
    @overload
    def transaction(
        self,
        *,
        isolation: str | None = None,
        read_only: bool = False,
        deferrable: bool = False,
        retries: int = 5,
        deadline: float | None = None,
        resolve: bool = True,
    ) -> Callable[
        [Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, T]]], AsyncTransactional[P, T]
    ]: ...
    def transaction(
        self,
        work: Any = None,
        *,
        isolation: str | None = None,
        read_only: bool = False,
        deferrable: bool = False,
        retries: int = 5,
        deadline: float | None = None,
        resolve: bool = True,
    ) -> Any:
        """Make a function a unit of work: ``@db.transaction(retries=5)``; see `run`.

        The function takes a session first; callers leave it out.  ``function.within(session, ...)`` joins a transaction
        that is open.
        """
        policy = Policy(Scope(isolation, read_only, deferrable, resolve), retries, deadline)

        def decorate(function: Any) -> Any:
            return make_unit(self, function, policy)

        return decorate if work is None else decorate(work)

    async def outcome(self, error: HoldfastError, *, within_seconds: float = 5.0) -> Outcome:
        """Find out what became of the work that failed; a commit that was cut off is looked up on the server.

        Answers `Outcome.UNKNOWN` where the server cannot tell in time: it has forgotten, it is not there or is another
        one by now, or the transaction's number was not asked for (``db.run``, ``db.begin(resolve=True)``).
        """
        number = getattr(error, "transaction", None)
        if error.outcome is not Outcome.UNKNOWN or number is None:
            return error.outcome
        end = monotonic() + within_seconds
        while True:
            try:
                outcome = await self._apart(ask_outcome(number, self._opened.backend.identities))
            except OperationalError:
                outcome = None
            if outcome is not None:
                return outcome
            if monotonic() + ASK_AGAIN_SECONDS > end:
                return Outcome.UNKNOWN
            await self._opened.sleep(ASK_AGAIN_SECONDS)

    async def create_all(self, base: Any) -> None:
        """Create the tables, types and indexes of a declarative base that are not there yet."""
        await self._apart(create_all(self._opened.backend, metadata_of(base)))

    async def drop_all(self, base: Any) -> None:
        """Drop the tables and types of a declarative base."""
        await self._apart(drop_all(self._opened.backend, metadata_of(base)))

    async def _apart(self, operation: Operation[T]) -> T:
        runner = self._opened.runner()
        try:
            return await runner(operation)  # type: ignore[no-any-return]
        finally:
            await runner.close()

    def plan(self, statement: Any) -> Plan:
        """Show what a statement becomes: ``plan.sql`` and ``plan.source``, the row function."""
        backend = self._opened.backend
        key = statement._generate_cache_key()
        plan = build_plan(statement, backend.dialect, key.bindparams if key is not None else ())
        if plan.slots:
            row_function(plan)
        return plan

    async def close(self) -> None:
        """Close the pool's connections."""
        await self._opened.pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncSession:
    """A unit of work: an identity map, changes to save, and at most one transaction.

    One session is for one task at a time; a second one gets `SessionInUse`.
    A session that only reads opens no transaction and holds no connection between statements.
    """

    def __init__(self, database: AsyncDatabase, *, autoflush: bool = True) -> None:
        opened = database._opened
        self._database = database
        self._runner = opened.runner()
        self._sealed = False  # while the work of a unit runs, which does not end its transaction itself
        self._hooks_wait = False  # until it is known which attempt of a unit is the last
        # twins: async only
        self._core = SessionCore(opened.backend, autoflush=autoflush, awaiter=self._await_value)
        # twins: end
        # twins: blocking only
        # self._core = SessionCore(opened.backend, autoflush=autoflush, touch=self._run)
        # twins: end

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core!r}>"

    async def _run(self, operation: Operation[T]) -> T:
        core = self._core
        if core.closed or core.busy:
            core.refuse()
        core.busy = True  # no call from here into the block: Ctrl-C may strike after one
        try:
            return await self._runner(operation)  # type: ignore[no-any-return]
        except BaseException as error:
            core.operation_failed(error, let_go=self._runner.connection is None)
            raise
        finally:
            core.busy = False
            if core.leaving:  # its block ended while this was under way
                await self.close()

    # twins: async only
    async def _await_value(self, operation: Operation[None], instance: Any, name: str) -> Any:
        if name not in instance.__dict__:
            await self._run(operation)
        return getattr(instance, name)

    # twins: end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._core.busy:
            self._core.leaving = True
        else:
            await self.close()

    def __del__(self) -> None:
        runner = getattr(self, "_runner", None)
        if runner is not None and runner.connection is not None:
            warn(
                f"A session was lost with a transaction open{lose(runner)}; its connection was thrown away. "
                "Write: async with db.session() as session: ...",
                ResourceWarning,
                stacklevel=2,
            )

    def __contains__(self, instance: Any) -> bool:
        return self._core.holds(instance)

    def __iter__(self) -> Iterator[Any]:
        return self._core.known()

    # ------------------------------------------------------------ asking

    @overload
    async def execute(
        self,
        statement: TypedReturnsRows[*Ts],
        params: Parameters = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Result[*Ts]: ...
    @overload
    async def execute(
        self,
        statement: UpdateBase,
        params: Parameters = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> ChangeResult: ...
    @overload
    async def execute(
        self,
        statement: Executable,
        params: Parameters = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Result[*tuple[Any, ...]]: ...
    async def execute(
        self, statement: Any, params: Parameters = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a statement; changes are flushed first.

        A list of parameter mappings runs an INSERT, UPDATE or DELETE for each of them.
        """
        return await self._run(self._core.execute(statement, params, execution_options))

    @overload
    async def scalars(
        self,
        statement: TypedReturnsRows[T, *tuple[Any, ...]],
        params: Parameters = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> ScalarResult[T]: ...
    @overload
    async def scalars(
        self,
        statement: Executable,
        params: Parameters = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> ScalarResult[Any]: ...
    async def scalars(
        self, statement: Any, params: Parameters = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a statement and take the first column: objects, where it selects a class."""
        result = await self._run(self._core.execute(statement, params, execution_options))
        return result.scalars()

    @overload
    async def scalar(
        self,
        statement: TypedReturnsRows[T],
        params: Parameters = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> T | None: ...
    @overload
    async def scalar(
        self,
        statement: Executable,
        params: Parameters = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Any: ...
    async def scalar(
        self, statement: Any, params: Parameters = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a statement and take the first column of its first row; None where there is no row."""
        result = await self._run(self._core.execute(statement, params, execution_options))
        return result.scalar()

    async def get(
        self,
        entity: type[T],
        ident: Any,
        *,
        options: Sequence[Any] = (),
        populate_existing: bool = False,
        with_for_update: Any = None,
    ) -> T | None:
        """Find an object by its key: a value, a tuple for several columns, or a dict by name.

        What this transaction has loaded costs no statement.  None where there is no row.
        """
        found: T | None = await self._run(
            self._core.get(entity, ident, options, populate_existing, with_for_update)
        )
        return found

    async def get_one(
        self,
        entity: type[T],
        ident: Any,
        *,
        options: Sequence[Any] = (),
        populate_existing: bool = False,
        with_for_update: Any = None,
    ) -> T:
        """Find an object by its key as `get` does; raises `NoResultFound` where there is no row."""
        found: T | None = await self._run(
            self._core.get(entity, ident, options, populate_existing, with_for_update)
        )
        if found is None:
            raise NoResultFound(
                f"There is no {mapper_of(entity).name} with this key",
                mend="Use session.get(...), which answers None, where there may be none.",
            )
        return found

    async def load(self, objects: Any, *path: Any) -> None:
        """Load a path of relations for objects, one statement per step: ``load(users, User.posts, Post.tags)``."""
        await self._run(self._core.load(objects, path))

    async def refresh(
        self, instance: Any, attribute_names: Iterable[str] | None = None, with_for_update: Any = None
    ) -> None:
        """Read an object's row again; with names, only these attributes."""
        await self._run(self._core.refresh(instance, attribute_names, with_for_update))

    # ------------------------------------------------------------ changing

    def add(self, instance: Any) -> None:
        """Add an object, and all it reaches; the next flush inserts it."""
        self._core.add(instance)

    def add_all(self, instances: Iterable[Any]) -> None:
        """Add objects."""
        self._core.add_all(instances)

    async def delete(self, instance: Any) -> None:
        """Mark an object; the next flush deletes its row and follows its cascades."""
        self._core.delete(instance)

    async def merge(self, instance: T, *, load: bool = True) -> T:
        """Copy an object's values onto the session's object of the same key; answers that object."""
        merged: T = await self._run(self._core.merge(instance, load))
        return merged

    def expunge(self, instance: Any) -> None:
        """Let an object go; it stays readable and is saved no more."""
        self._core.expunge(instance)

    def expunge_all(self) -> None:
        """Let all objects go."""
        self._core.expunge_all()

    async def flush(self) -> None:
        """Write what changed, inside the transaction."""
        await self._run(self._core.flush())

    async def commit(self) -> None:
        """Flush, and make it last.  Objects stay readable."""
        if self._sealed:
            raise CommitInUnit
        try:
            await self._run(self._core.commit())
        except CommitOutcomeUnknown as error:
            await self._resolve(error)
        finally:  # a cancellation during COMMIT is delivered when the work has lasted
            if self._core.due:
                await self._run_hooks()

    async def rollback(self) -> None:
        """Undo what was not committed.  Objects go back to what they were, without a query."""
        if self._sealed:
            raise CommitInUnit
        try:
            await self._run(self._core.rollback())
        finally:
            if self._core.due:
                await self._run_hooks()

    async def _resolve(self, error: CommitOutcomeUnknown) -> None:
        """Find out what became of a commit that was cut off, as far as its number was asked for."""
        outcome = await self._database.outcome(error)
        if outcome is Outcome.UNKNOWN:
            raise error
        if outcome is Outcome.NOT_DONE:
            lost = ConnectionLost(statement=error.statement, orig=error.orig)
            self._core.not_committed(lost)
            raise lost from None
        self._core.committed()

    async def _run_hooks(self) -> None:
        if not self._hooks_wait:
            await run_hooks(self._core.take_due())

    def on_commit(self, hook: Callable[[], Any]) -> None:
        """Run a function once the transaction has lasted: after COMMIT was answered, in the order of the calls.

        What is undone, by a savepoint too, takes its hooks with it, and so does an attempt that runs again.
        An error of a hook is logged to ``holdfast`` and undoes nothing; the other hooks still run.
        """
        # twins: blocking only
        # refuse_coroutines(hook)
        # twins: end
        self._core.on_end(hook, committed=True)

    def on_rollback(self, hook: Callable[[], Any]) -> None:
        """Run a function once the transaction, or the savepoint it is in, was undone; not for an attempt that runs again.

        Where nobody knows whether the transaction lasted (`CommitOutcomeUnknown`), neither kind of hook runs.
        """
        # twins: blocking only
        # refuse_coroutines(hook)
        # twins: end
        self._core.on_end(hook, committed=False)

    async def advisory_lock(self, name: str | int, *, wait: bool = True) -> bool:
        """Hold a lock by name until the transaction ends; tell whether it was had.

        With ``wait=False`` False is answered where somebody else holds it.  Only those who ask for the name are kept out.
        """
        return await self._run(self._core.lock(name, wait=wait))

    async def close(self) -> None:
        """Roll back what is open; the session is at its end, its objects stay readable."""
        core = self._core
        if core.busy:
            raise SessionInUse
        if core.in_transaction or self._runner.connection is not None:
            try:
                await self._run(core.close())
            finally:
                await self._runner.close()
        elif not core.closed:
            core.finish()
        if core.due:
            await self._run_hooks()

    # ------------------------------------------------------------ transactions

    def begin(
        self,
        *,
        isolation: str | None = None,
        read_only: bool = False,
        deferrable: bool = False,
        resolve: bool = False,
    ) -> AsyncBegin:
        """Begin a transaction: ``async with session.begin(): ...`` commits at the end of the block."""
        self._core.begin(Scope(isolation, read_only, deferrable, resolve))
        return AsyncBegin(self, owns=False)

    def begin_nested(self) -> AsyncSavepoint:
        """Open a savepoint: ``async with session.begin_nested(): ...``; an error undoes the block only."""
        return AsyncSavepoint(self)

    def in_transaction(self) -> bool:
        """Whether a transaction is open on the server."""
        return self._core.in_transaction

    # ------------------------------------------------------------ what it holds

    @property
    def new(self) -> list[Any]:
        """Objects that the next flush inserts."""
        return list(self._core.new.values())

    @property
    def dirty(self) -> list[Any]:
        """Objects that were changed since the last flush."""
        return [change.instance for change in self._core.dirty.values()]

    @property
    def deleted(self) -> list[Any]:
        """Objects whose rows the next flush deletes."""
        return list(self._core.deleted.values())

    @property
    def no_autoflush(self) -> Any:
        """A block in which queries do not flush first: ``with session.no_autoflush: ...``."""
        return self._without_autoflush()

    @contextmanager
    def _without_autoflush(self) -> Iterator[None]:
        before, self._core.autoflush = self._core.autoflush, False
        try:
            yield
        finally:
            self._core.autoflush = before


class AsyncBegin:
    """The block of a transaction."""

    __slots__ = ("_owns", "_session")

    def __init__(self, session: AsyncSession, *, owns: bool) -> None:
        self._session = session
        self._owns = owns

    def __repr__(self) -> str:
        core = self._session._core
        return f"<{type(self).__name__} {describe_scope(core.backend.capabilities, core.scope or Scope())}>"

    async def __aenter__(self) -> AsyncSession:
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._session
        try:
            if error is None:
                try:
                    await session.commit()
                except BaseException:
                    await session.rollback()
                    raise
            elif not session._core.closed:
                await session.rollback()
        finally:
            if self._owns:
                await session.close()


class AsyncSavepoint:
    """The block of a savepoint; ``rollback`` undoes it early."""

    __slots__ = ("_frame", "_session")

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._frame: Frame | None = None

    async def __aenter__(self) -> Self:
        self._frame = await self._session._run(self._session._core.savepoint())
        return self

    async def rollback(self) -> None:
        """Undo what was done since the savepoint."""
        frame, self._frame = self._open(), None
        session = self._session
        try:
            await session._run(session._core.rollback_to(frame))
        finally:
            if session._core.due:
                await session._run_hooks()

    async def commit(self) -> None:
        """Keep what was done since the savepoint."""
        await self._session._run(self._session._core.release(self._open()))
        self._frame = None

    def _open(self) -> Frame:
        if self._frame is None or not self._session._core.has_savepoint(self._frame):
            raise InvalidRequestError(
                "The savepoint is not open",
                mend="Open one: async with session.begin_nested() as savepoint: ...",
            )
        return self._frame

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._frame is None or not self._session._core.has_savepoint(self._frame):
            return  # undone already, by itself or with the whole transaction
        if error is not None:
            await self.rollback()
            return
        try:
            await self.commit()
        except BaseException:
            if self._session._core.has_savepoint(self._frame):  # a cancelled RELEASE may have been done
                await self.rollback()
            raise
