"""What is run again, how long is waited, and which hooks run; no server."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from holdfast import (
    AsyncDatabase,
    AsyncSession,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    Versioned,
    mapped_column,
    select,
)
from holdfast.errors import (
    CommitInUnit,
    CommitOutcomeUnknown,
    ConnectionFailed,
    ConnectionLost,
    DatabaseBusy,
    DeadlockDetected,
    HoldfastError,
    InvalidRequestError,
    LockTimeout,
    NestedTransaction,
    ObjectInOtherSession,
    Outcome,
    PermissionDenied,
    PoolTimeout,
    ReadOnly,
    SerializationFailure,
    SessionClosed,
    SideEffectReplayed,
    StaleDataError,
    TransactionFailed,
    UniqueViolation,
)
from holdfast.observe import StatementEnded
from holdfast.runner import replay
from holdfast.steps import Operation
from holdfast.tx import (
    Attempts,
    Ended,
    Policy,
    Scope,
    TransactionNumber,
    ask_outcome,
    is_conflict,
    lock_number,
    take_number,
)
from holdfast.tx.outcomes import IDENTITY, NUMBER, STATUS
from holdfast.tx.replay import FIRST_PAUSE_LOST_SECONDS, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS

T = TypeVar("T")


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Page(Versioned, Base):
    __tablename__ = "pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def db() -> Iterator[Database]:
    with Database("sqlite://") as database:
        database.create_all(Base)
        yield database


def use(opened: socket.socket, act: Callable[[socket.socket], object]) -> None:
    with opened:
        act(opened)


EFFECTS_BEGIN = sys._getframe().f_lineno
EFFECTS: dict[str, Callable[[Path], object]] = {
    "connect": lambda _: use(socket.socket(), lambda opened: opened.connect_ex(("127.0.0.1", 9))),
    "send": lambda _: use(
        socket.socket(type=socket.SOCK_DGRAM), lambda opened: opened.sendto(b"x", ("127.0.0.1", 9))
    ),
    "append": lambda folder: (folder / "log").open("a").close(),
    "os.open": lambda folder: os.close(os.open(folder / "x", os.O_CREAT | os.O_WRONLY)),
    "process": lambda _: subprocess.run([sys.executable, "--version"], check=True, capture_output=True),
    "mkdir": lambda folder: (folder / "y").mkdir(),
    "rmtree": lambda folder: shutil.rmtree(folder),
}
EFFECTS_END = sys._getframe().f_lineno


REPLAYED = [SerializationFailure(), DeadlockDetected(), DatabaseBusy(), ConnectionLost(), StaleDataError()]
NOT_REPLAYED = [
    ConnectionLost(outcome=Outcome.UNKNOWN),
    CommitOutcomeUnknown(),
    LockTimeout(),
    ConnectionFailed(server="x", reason="y"),
    PoolTimeout(seconds=1.0, in_use=1, waiting=0),
    UniqueViolation(),
    StaleDataError(may_pass=False),
    ValueError(),
]


@pytest.mark.parametrize("error", REPLAYED, ids=repr)
def test_a_conflict_is_replayed(error: HoldfastError) -> None:
    assert Attempts(Policy(), 0.0).pause_after(Ended(error), 0.0, 0.5) is not None


@pytest.mark.parametrize("error", NOT_REPLAYED, ids=repr)
def test_nothing_else_is(error: Exception) -> None:
    assert not is_conflict(error)
    assert Attempts(Policy(), 0.0).pause_after(Ended(error), 0.0, 0.5) is None


def test_what_the_work_made_of_a_conflict_does_not_matter() -> None:
    ended = Ended(ValueError("wrapped"), SerializationFailure())

    attempts = Attempts(Policy(retries=1), 0.0)

    assert attempts.pause_after(ended, 0.0, 0.5) is not None
    assert attempts.pause_after(ended, 0.0, 0.5) is None
    assert attempts.give_up(ended, 0.25) is ended.error  # the work's own error is what its caller waits for
    assert ended.error.__notes__ == [
        "The unit of work was tried 2 times in 0.25 s, waited 0.01 s, met SerializationFailure × 2."
    ]


def test_what_a_swallowed_conflict_leaves_behind_is_told_as_the_conflict() -> None:
    ended = Ended(TransactionFailed(), DeadlockDetected())

    assert Attempts(Policy(retries=0), 0.0).give_up(ended, 0.0) is ended.conflict


def test_a_server_that_was_lost_is_waited_for() -> None:
    refused = Ended(ConnectionFailed(server="x", reason="y"))
    attempts = Attempts(Policy(), 0.0)

    assert attempts.pause_after(Ended(ConnectionLost()), 0.0, 0.5) == FIRST_PAUSE_LOST_SECONDS / 2
    assert attempts.pause_after(refused, 0.0, 0.5) == FIRST_PAUSE_LOST_SECONDS


@given(
    st.integers(0, 12),
    st.none() | st.floats(0.001, 20),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1, exclude_max=True)), min_size=15, max_size=15),
)
def test_attempts_end_by_number_and_by_deadline(
    retries: int, deadline: float | None, turns: list[tuple[float, float]]
) -> None:
    attempts, now = Attempts(Policy(Scope(), retries, deadline), 0.0), 0.0
    begun, pauses = [0.0], []
    for work_seconds, chance in turns:
        now += work_seconds
        pause = attempts.pause_after(Ended(SerializationFailure()), now, chance)
        if pause is None:
            break
        now += pause
        pauses.append(pause)
        begun.append(now)

    assert attempts.count == len(begun) <= retries + 1
    assert all(
        0 <= pause <= min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**n) for n, pause in enumerate(pauses)
    )
    assert deadline is None or all(moment < deadline for moment in begun[1:])
    assert attempts.waited_seconds == pytest.approx(sum(pauses))


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"deadline": 0},
        {"isolation": "SOMETIMES"},
        {"isolation": "AUTOCOMMIT"},
        {"isolation": 3},
        {"deferrable": True},
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused_before_anything_runs(
    db: Database, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError):
        db.run(lambda session: pytest.fail("it ran"), **options)
    with pytest.raises(InvalidRequestError):
        db.transaction(**options)


@pytest.mark.parametrize("name", ["repeatable read", "REPEATABLE_READ", "Repeatable Read"])
def test_a_level_may_be_written_as_sqlalchemy_takes_it(name: str) -> None:
    assert Scope(name) == Scope("REPEATABLE READ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "BEGIN IMMEDIATE: SERIALIZABLE, one writer at a time"),
        ({"isolation": "read_committed"}, "BEGIN IMMEDIATE: SERIALIZABLE, one writer at a time"),
        ({"read_only": True}, "BEGIN; PRAGMA query_only=ON: SERIALIZABLE"),
    ],
    ids=str,
)
def test_sqlite_says_what_a_level_becomes(db: Database, options: dict[str, Any], expected: str) -> None:
    begin, sent = db.begin(**options), []
    assert repr(begin) == f"<Begin {expected}>"
    db.observers.add(lambda event: sent.append(event.sql) if isinstance(event, StatementEnded) else None)

    with begin as session:
        session.scalars(select(Note)).all()

    assert "; ".join(sent).startswith(expected.split(":", maxsplit=1)[0] + "; SELECT")


def test_what_only_reads_cannot_write_and_the_next_can(db: Database) -> None:
    insert = text("INSERT INTO notes (text) VALUES ('x')")
    for end in (None, "ROLLBACK", ValueError):
        with suppress(ValueError, TransactionFailed), db.begin(read_only=True) as session:
            with pytest.raises(ReadOnly):
                session.execute(insert)
            if end is ValueError:
                raise ValueError
            if end is not None:
                session.execute(text("ROLLBACK"))
        with db.begin() as session:
            session.execute(insert)

    assert db.run(lambda session: len(session.scalars(select(Note)).all()), read_only=True) == 3


def test_the_whole_work_runs_again_in_a_new_session_and_commits_once(db: Database) -> None:
    sessions, notes = [], []

    def work(session: Session) -> int:
        sessions.append(session)
        note = Note(text=f"attempt {len(sessions)}")
        session.add(note)
        session.flush()
        notes.append(note)
        if len(sessions) < 3:
            raise SerializationFailure
        return note.id

    key = db.run(work)

    with db.session() as session:
        assert [(note.id, note.text) for note in session] == []
        assert session.get_one(Note, key).text == "attempt 3"
    assert len({id(one) for one in sessions}) == 3
    assert [note.id is None for note in notes] == [True, True, False]  # what was undone is as it was made
    with pytest.raises(SessionClosed):
        sessions[0].add(Note(text="late"))


def test_the_last_error_says_how_often_and_how_long(db: Database) -> None:
    tried = []

    def work(session: Session) -> None:
        tried.append(session)
        raise DeadlockDetected

    with pytest.raises(DeadlockDetected, match=r"tried 4 times in .* met DeadlockDetected × 4") as caught:
        db.run(work, retries=3)

    assert (len(tried), caught.value.attempts) == (4, 4)
    assert caught.value.waited_seconds > 0


def test_an_error_that_is_no_conflict_is_raised_at_once(db: Database) -> None:
    tried = []

    def work(session: Session) -> None:
        tried.append(session)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        db.run(work)

    assert len(tried) == 1


def test_a_conflict_that_harmed_nothing_is_no_reason_for_another_error(db: Database) -> None:
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.scalars(select(Note)).all()
        session._core.operation_failed(DatabaseBusy(), let_go=False)  # SQLite's transaction goes on after one
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        db.run(work)

    assert len(attempts) == 1


def test_a_commit_in_doubt_has_no_conflict_to_run_again_for(db: Database) -> None:
    core = db.session()._core
    core.begin(Scope())
    replay(core.ensure_transaction(), [None])
    core.operation_failed(DatabaseBusy(), let_go=False)

    with pytest.raises(CommitOutcomeUnknown):
        replay(core.commit(), [CommitOutcomeUnknown()])

    assert core.doom() is None


def test_a_busy_sqlite_is_tried_again(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/app.db?timeout=0") as db:
        db.create_all(Base)
        attempts = []

        with db.session() as other:
            other.add(Note(text="other"))
            other.flush()

            def work(session: Session) -> None:
                attempts.append(1)
                if len(attempts) == 3:
                    other.commit()
                try:
                    session.add(Note(text="mine"))
                    session.flush()
                except DatabaseBusy as error:
                    raise LookupError("what a repository makes of it") from error

            db.run(work)

        assert len(attempts) == 3
        assert len(db.run(lambda session: session.scalars(select(Note)).all())) == 2


def test_a_decorated_function_takes_what_its_callers_give_and_joins_an_open_transaction(db: Database) -> None:
    @db.transaction(retries=1)
    def write(session: Session, text: str, *, twice: bool = False) -> int:
        """Write a note."""
        session.add_all([Note(text=text) for _ in range(1 + twice)])
        return 1 + twice

    @db.transaction
    def count(session: Session) -> int:
        return len(session.scalars(Note.__table__.select()).all())

    assert (write("a"), write("b", twice=True), write.__name__, write.__doc__) == (
        1,
        2,
        "write",
        "Write a note.",
    )
    with pytest.raises(ValueError, match="undo"), db.begin() as session:  # noqa: PT012 - the whole block must raise
        write.within(session, "c")
        raise ValueError("undo")
    assert count() == 3


def test_the_signature_of_a_unit_is_that_of_its_callers(db: Database) -> None:
    @db.transaction
    def write(session: Session, text: str, *, twice: bool = False) -> int:
        return 1

    @db.transaction
    def anything(*given: Any, **named: Any) -> None: ...

    assert str(inspect.signature(write)) == "(text: 'str', *, twice: 'bool' = False) -> 'int'"
    assert str(inspect.signature(anything)) == "(*given: 'Any', **named: 'Any') -> 'None'"
    for lacks in (lambda: None, lambda *, session: None):
        with pytest.raises(InvalidRequestError, match="session, \\.\\.\\."):
            db.transaction(lacks)  # type: ignore[arg-type]


def test_functions_of_the_wrong_colour_are_refused(db: Database) -> None:
    async def work(session: Session) -> None: ...

    for give in (db.run, db.transaction, db.session().on_commit):
        with pytest.raises(InvalidRequestError, match="def work"):
            give(work)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="AsyncDatabase"):
        db.run(lambda session: work(session))


async def test_a_plain_function_is_refused_on_an_event_loop() -> None:
    def work(session: Session) -> int:
        return 1

    async with AsyncDatabase("sqlite://") as db:
        with pytest.raises(InvalidRequestError, match="async def work"):
            await db.run(work)  # type: ignore[arg-type]


def test_an_object_of_an_attempt_that_was_undone_stays_out_of_the_next(db: Database) -> None:
    with db.begin() as session:
        session.add(Note(id=1, text="first"))
    kept: list[Note] = []

    def work(session: Session) -> None:
        if not kept:
            kept.append(session.get_one(Note, 1))
            raise SerializationFailure
        for take in (session.add, session.merge, lambda note: session.add_all([note])):
            with pytest.raises(ObjectInOtherSession, match=r"session.get_one\(Note, key\)"):
                take(kept[0])
        assert session.get_one(Note, 1) is not kept[0]

    db.run(work)

    assert kept[0].text == "first"  # readable as it was read


def test_a_new_object_may_be_added_by_each_attempt(db: Database) -> None:
    note, attempts = Note(text="made outside"), []

    def work(session: Session) -> None:
        session.add(note)
        session.flush()
        attempts.append(note.id)
        if len(attempts) < 3:
            raise DatabaseBusy

    db.run(work)

    assert attempts == [1, 1, 1]


def test_a_unit_does_not_end_its_transaction_itself(db: Database) -> None:
    def commits(session: Session) -> None:
        session.add(Note(text="half"))
        session.commit()

    for work in (commits, lambda session: session.rollback()):
        with pytest.raises(CommitInUnit, match="begin_nested"):
            db.run(work)

    assert db.run(lambda session: session.scalars(select(Note)).all()) == []


def test_a_unit_inside_another_is_refused_and_within_joins(db: Database) -> None:
    @db.transaction
    def inner(session: Session, text: str) -> None:
        session.add(Note(text=text))

    def outer(session: Session, join: bool) -> None:
        session.add(Note(text="outer"))
        if join:
            inner.within(session, "inner")
        else:
            inner("inner")

    with pytest.raises(NestedTransaction, match="within"):
        db.run(lambda session: outer(session, False))
    db.run(lambda session: outer(session, True))

    assert [note.text for note in db.run(lambda session: session.scalars(select(Note)).all())] == [
        "outer",
        "inner",
    ]


def test_a_unit_of_another_database_and_one_in_a_hook_are_not_inside(db: Database) -> None:
    said = []
    with Database("sqlite://") as other:

        def work(session: Session) -> None:
            session.on_commit(lambda: db.run(lambda _: said.append("hook")))
            other.run(lambda _: said.append("other"))

        db.run(work)

    assert said == ["other", "hook"]


async def test_a_task_that_a_unit_starts_may_have_its_own() -> None:
    async with AsyncDatabase("sqlite://") as db:
        started: list[asyncio.Task[int]] = []

        async def one(session: AsyncSession) -> int:
            return 1

        async def work(session: AsyncSession) -> None:
            with pytest.raises(NestedTransaction):
                await db.run(one)
            started.append(asyncio.create_task(db.run(one)))
            assert await started[0] == 1

        await db.run(work)


def test_a_version_that_was_changed_meanwhile_is_read_again(db: Database) -> None:
    with db.begin() as session:
        session.add(Page(id=1, text="a"))
    attempts = []

    def work(session: Session) -> None:
        page = session.get_one(Page, 1)
        attempts.append(page.text)
        if len(attempts) == 1:
            session.execute(
                text("UPDATE pages SET text = 'b', version = version + 1")
            )  # as somebody else does
        page.text += "!"

    db.run(work)

    assert attempts == ["a", "a"]  # SQLite has one writer, so even somebody else was undone with the attempt
    with db.session() as session:
        assert session.get_one(Page, 1).text == "a!"


def test_a_version_that_the_work_brought_is_not(db: Database) -> None:
    with db.begin() as session:
        session.add(Page(id=1, text="a"))
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.merge(Page(id=1, text="b", version=7))

    with pytest.raises(StaleDataError):
        db.run(work)

    assert len(attempts) == 1


# ---------------------------------------------------------------- side effects


def test_a_side_effect_of_an_attempt_that_runs_again_is_told_with_its_line(tmp_path: Path) -> None:
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            (tmp_path / "mail").write_text("sent")
            raise DatabaseBusy

    with Database("sqlite://", warn_side_effects=True) as db, pytest.warns(SideEffectReplayed) as told:
        db.run(work)

    line = work.__code__.co_firstlineno + 3
    assert [(Path(one.filename).name, one.lineno) for one in told] == [(Path(__file__).name, line)] * 2
    message = told[0].message
    assert isinstance(message, SideEffectReplayed)
    assert (message.line, message.event) == (line, "open")
    assert "session.on_commit" in str(message)


@pytest.mark.parametrize(("filter_", "times"), [("default", 1), ("always", 2), ("ignore", 0)])
def test_a_filter_says_of_which_modules_and_how_often(tmp_path: Path, filter_: Any, times: int) -> None:
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            (tmp_path / filter_).write_text("sent")
            raise DatabaseBusy

    with Database("sqlite://", warn_side_effects=True) as db, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("error")
        warnings.filterwarnings(filter_, category=SideEffectReplayed, module=__name__.replace(".", r"\."))
        db.run(work)

    assert len(told) == times


@pytest.mark.parametrize("effect", EFFECTS)
def test_what_counts_as_a_side_effect(effect: str, tmp_path: Path) -> None:
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            EFFECTS[effect](tmp_path)
            raise DatabaseBusy

    with Database("sqlite://", warn_side_effects=True) as db, pytest.warns(SideEffectReplayed) as told:
        db.run(work)

    assert {one.lineno for one in told} <= set(range(EFFECTS_BEGIN, EFFECTS_END))


def test_what_is_no_side_effect_of_a_replay(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "read").write_text("x")
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        (tmp_path / "read").read_text()  # reading
        session.add(Note(text="x"))  # what Holdfast does, connecting too
        session.on_commit(lambda: (tmp_path / "once").write_text("x"))
        session.flush()
        if len(attempts) < 2:
            raise DatabaseBusy
        (tmp_path / "lasts").write_text("x")  # in the attempt that lasts

    with Database(f"sqlite:///{tmp_path}/app.db", warn_side_effects=True) as db:
        db.create_all(Base)
        db.run(work)
    (tmp_path / "outside").write_text("x")

    assert [one for one in recwarn if one.category is SideEffectReplayed] == []


async def test_side_effects_are_found_in_tasks_and_threads(tmp_path: Path) -> None:
    attempts = []

    async def work(session: AsyncSession) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            await asyncio.to_thread((tmp_path / "thread").mkdir)
            await asyncio.create_task(write())
            raise DatabaseBusy

    async def write() -> None:
        (tmp_path / "task").touch()

    async with AsyncDatabase("sqlite://", warn_side_effects=True) as db:
        with pytest.warns(SideEffectReplayed) as told:
            await db.run(work)

    assert [one.lineno for one in told] == [write.__code__.co_firstlineno + 1]


def test_nothing_listens_unless_it_is_asked_for() -> None:
    program = (
        "import sys; heard = []; sys.addaudithook(lambda event, args: event == 'sys.addaudithook' and heard.append(1))\n"
        "from holdfast import Database\n"
        "with Database('sqlite://') as db: db.run(lambda session: None)\n"
        "print(len(heard))"
    )

    found = [subprocess.check_output([sys.executable, *dev, "-c", program]) for dev in ([], ["-X", "dev"])]

    assert [int(one) for one in found] == [0, 1]


# ---------------------------------------------------------------- hooks


def test_hooks_run_once_for_the_attempt_that_lasts(db: Database) -> None:
    said: list[str] = []
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        number = len(attempts)
        session.on_commit(lambda: said.append(f"committed {number}"))
        session.on_rollback(lambda: said.append(f"undone {number}"))
        session.add(Note(text="x"))
        if number < 3:
            raise DatabaseBusy

    db.run(work)

    assert said == ["committed 3"]


def test_hooks_of_a_rollback_run_when_no_attempt_is_left(db: Database) -> None:
    said: list[int] = []
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        number = len(attempts)
        session.on_rollback(lambda: said.append(number))
        raise DatabaseBusy

    with pytest.raises(DatabaseBusy):
        db.run(work, retries=2)

    assert said == [3]


def test_a_savepoint_that_is_undone_takes_its_hooks_with_it(db: Database) -> None:
    said: list[str] = []

    with db.begin() as session:
        session.on_commit(lambda: said.append("first"))
        with pytest.raises(ValueError, match="inner"), session.begin_nested():  # noqa: PT012 - the whole block must raise
            session.on_commit(lambda: said.append("lost"))
            session.on_rollback(lambda: said.append("inner undone"))
            raise ValueError("inner")
        with session.begin_nested():
            session.on_commit(lambda: said.append("kept"))
        assert said == ["inner undone"]

    assert said == ["inner undone", "first", "kept"]


def test_an_error_in_a_hook_is_told_and_undoes_nothing(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def fail() -> None:
        raise ValueError("the mail server is down")

    with caplog.at_level(logging.ERROR, "holdfast"), db.begin() as session:
        session.add(Note(text="kept"))
        session.on_commit(fail)
        session.on_commit(lambda: said.append("still"))

    assert said == ["still"]
    assert "mail server" in caplog.text
    with db.session() as session:
        assert session.scalar(Note.__table__.select()) is not None


def test_hooks_of_a_session_run_at_each_of_its_commits_and_once(db: Database) -> None:
    said: list[int] = []

    with db.session() as session:
        session.on_commit(lambda: said.append(1))
        session.commit()
        session.commit()
        session.on_commit(lambda: said.append(2))
        session.rollback()
        session.commit()

    assert said == [1]


async def test_hooks_on_an_event_loop_may_be_coroutines_and_open_sessions() -> None:
    async with AsyncDatabase("sqlite://") as db:
        await db.create_all(Base)
        said: list[object] = []

        async def tell() -> None:
            async with db.session() as another:
                said.append(await another.scalar(Note.__table__.select()))

        async with db.begin() as session:
            session.add(Note(text="x"))
            session.on_commit(tell)
            session.on_commit(lambda: said.append("plain"))

        assert said == [1, "plain"]


def test_a_hook_of_a_savepoint_that_was_undone_waits_for_the_attempt_that_lasts(db: Database) -> None:
    said: list[str] = []
    attempts = []

    def work(session: Session) -> None:
        attempts.append(1)
        number = len(attempts)
        with suppress(ValueError), session.begin_nested():
            session.on_rollback(lambda: said.append(f"savepoint {number}"))
            raise ValueError
        assert said == []
        if number == 1:
            raise DatabaseBusy

    db.run(work)

    assert said == ["savepoint 2"]


def test_closing_without_a_commit_is_a_rollback_to_hooks(db: Database) -> None:
    said: list[str] = []

    for change in (False, True):
        with db.session() as session:
            session.on_rollback(lambda: said.append("undone"))
            session.on_commit(lambda: said.append("committed"))
            if change:
                session.add(Note(text="x"))
                session.flush()

    assert said == ["undone", "undone"]


async def test_hooks_run_when_a_task_is_cancelled_and_each_once() -> None:
    async with AsyncDatabase("sqlite://") as db:
        await db.create_all(Base)
        said: list[str] = []
        reached = asyncio.Event()

        async def wait_for_ever() -> None:
            reached.set()
            await asyncio.Event().wait()

        async def undone(session: AsyncSession) -> None:
            session.on_rollback(lambda: said.append("undone"))
            await wait_for_ever()

        async def done(session: AsyncSession) -> None:
            session.on_commit(wait_for_ever)
            session.on_commit(lambda: said.append("the rest"))

        for work in (undone, done):
            reached.clear()
            task = asyncio.create_task(db.run(work))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        assert said == ["undone", "the rest"]


# ---------------------------------------------------------------- the outcome of a commit


def play(operation: Operation[T], answers: list[Any]) -> tuple[list[str], T]:
    """What an operation says on these answers, and what it returns."""
    value, steps = replay(operation, answers)
    return [step.sql for step in steps], value


def test_a_transaction_that_wrote_nothing_has_no_number() -> None:
    assert play(take_number({}), [[(None, "1.5")]]) == ([NUMBER], None)


def test_the_server_is_taken_down_once_for_each_of_its_starts() -> None:
    known: dict[str, tuple[str, str] | None] = {}
    begun, released = "SAVEPOINT holdfast_identity", "RELEASE SAVEPOINT holdfast_identity"

    first = play(take_number(known), [[("7", "1.5")], None, [("system", "timeline")], None])
    second = play(take_number(known), [[("8", "1.5")]])

    assert first == ([NUMBER, begun, IDENTITY, released], TransactionNumber(7, "1.5"))
    assert second == ([NUMBER], TransactionNumber(8, "1.5"))
    assert known == {"1.5": ("system", "timeline")}


def test_a_server_that_does_not_say_who_it_is_harms_nothing() -> None:
    known: dict[str, tuple[str, str] | None] = {}

    sent, number = play(take_number(known), [[("7", "1.5")], None, PermissionDenied(), None, None])

    assert sent[-2:] == ["ROLLBACK TO SAVEPOINT holdfast_identity", "RELEASE SAVEPOINT holdfast_identity"]
    assert (number, known) == (TransactionNumber(7, "1.5"), {"1.5": None})


@pytest.mark.parametrize(
    ("answers", "known", "expected"),
    [
        ([[("committed", "1.5")]], None, Outcome.DONE),
        ([[("aborted", "1.5")]], None, Outcome.NOT_DONE),
        ([[("in progress", "1.5")]], None, None),
        ([[(None, "1.5")]], None, Outcome.UNKNOWN),
        ([[("committed", "2.5")], [("system", "1")]], ("system", "1"), Outcome.DONE),  # it was started again
        (
            [[("committed", "2.5")], [("system", "2")]],
            ("system", "1"),
            Outcome.UNKNOWN,
        ),  # a replica took its place
        ([[("committed", "2.5")]], None, Outcome.UNKNOWN),
        ([[("in progress", "2.5")]], None, Outcome.UNKNOWN),
    ],
)
def test_the_answer_of_another_server_is_none(
    answers: list[Any], known: tuple[str, str] | None, expected: Outcome | None
) -> None:
    sent, outcome = play(ask_outcome(TransactionNumber(7, "1.5"), {"1.5": known}), answers)

    assert sent[0] == STATUS.format(number=7)
    assert outcome is expected


# ---------------------------------------------------------------- advisory locks


def test_what_a_lock_is_called_does_not_change() -> None:
    assert lock_number("nightly-report") == lock_number("nightly-report") != lock_number("nightly-repor")
    assert (lock_number(7), lock_number("a")) == (7, 4681665781835383343)


@given(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1))
def test_a_lock_is_a_number_of_64_bits(name: str, number: int) -> None:
    assert -(2**63) <= lock_number(name) < 2**63
    assert lock_number(number) == number


def test_a_number_that_is_no_lock_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="Give a name"):
        lock_number(2**63)


def test_on_sqlite_the_write_transaction_is_the_lock(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/app.db?timeout=0.05") as db:
        with db.begin() as one, db.begin() as two, db.begin(read_only=True) as reader:
            assert one.advisory_lock("report") is True
            assert one.advisory_lock("another", wait=False) is True
            assert two.advisory_lock("report", wait=False) is False
            with pytest.raises(DatabaseBusy):
                two.advisory_lock("report")
            with pytest.raises(ReadOnly):
                reader.advisory_lock("report")
        with db.begin() as two:
            assert two.advisory_lock("report", wait=False) is True
            assert two.scalar(text("PRAGMA busy_timeout")) == 50
