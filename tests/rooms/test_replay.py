"""What is run again, how long is waited, and which hooks run; no server."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import AsyncDatabase, Database, DeclarativeBase, Mapped, mapped_column
from holdfast.errors import (
    CommitOutcomeUnknown,
    ConnectionFailed,
    ConnectionLost,
    DatabaseBusy,
    DeadlockDetected,
    HoldfastError,
    InvalidRequestError,
    LockTimeout,
    NotSupported,
    Outcome,
    PoolTimeout,
    SerializationFailure,
    SessionClosed,
    UniqueViolation,
)
from holdfast.tx import Attempts, Policy, is_conflict, lock_number
from holdfast.tx.replay import LONGEST_PAUSE_SECONDS


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def db() -> Database:
    database = Database("sqlite://")
    database.create_all(Base)
    return database


REPLAYED = [SerializationFailure(), DeadlockDetected(), DatabaseBusy(), ConnectionLost()]
NOT_REPLAYED = [
    ConnectionLost(outcome=Outcome.UNKNOWN),
    CommitOutcomeUnknown(),
    LockTimeout(),
    ConnectionFailed(server="x", reason="y"),
    PoolTimeout(seconds=1.0, in_use=1, waiting=0),
    UniqueViolation(),
    ValueError(),
]


@pytest.mark.parametrize("error", REPLAYED, ids=repr)
def test_a_conflict_is_replayed(error: HoldfastError) -> None:
    assert is_conflict(error)


@pytest.mark.parametrize("error", NOT_REPLAYED, ids=repr)
def test_nothing_else_is(error: Exception) -> None:
    assert not is_conflict(error)
    assert Attempts(Policy(), 0.0).pause_after(error, 0.0, 0.5) is None


@given(
    st.integers(0, 12),
    st.none() | st.floats(0.001, 20),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1, exclude_max=True)), min_size=15, max_size=15),
)
def test_attempts_end_by_number_and_by_deadline(
    retries: int, deadline: float | None, turns: list[tuple[float, float]]
) -> None:
    attempts, now = Attempts(Policy(retries, deadline), 0.0), 0.0
    begun, pauses = [0.0], []
    for work_seconds, chance in turns:
        now += work_seconds
        pause = attempts.pause_after(SerializationFailure(), now, chance)
        if pause is None:
            break
        now += pause
        pauses.append(pause)
        begun.append(now)

    assert attempts.count == len(begun) <= retries + 1
    assert all(0 <= pause <= min(LONGEST_PAUSE_SECONDS, 0.01 * 2**n) for n, pause in enumerate(pauses))
    assert deadline is None or all(moment < deadline for moment in begun[1:])
    assert attempts.waited_seconds == pytest.approx(sum(pauses))


@pytest.mark.parametrize("options", [{"retries": -1}, {"deadline": 0}, {"isolation": "SOMETIMES"}])
def test_options_that_mean_nothing_are_refused(db: Database, options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        db.run(lambda session: None, **options)  # type: ignore[arg-type]


def test_the_whole_work_runs_again_in_a_new_session_and_commits_once(db: Database) -> None:
    sessions, notes = [], []

    def work(session: object) -> int:
        sessions.append(session)
        note = Note(text=f"attempt {len(sessions)}")
        session.add(note)  # type: ignore[attr-defined]
        session.flush()  # type: ignore[attr-defined]
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
        sessions[0].add(Note(text="late"))  # type: ignore[attr-defined]


def test_the_last_error_says_how_often_and_how_long(db: Database) -> None:
    tried = []

    def work(session: object) -> None:
        tried.append(session)
        raise DeadlockDetected

    with pytest.raises(DeadlockDetected, match=r"tried 4 times in \d+\.\d\d s") as caught:
        db.run(work, retries=3)

    assert (len(tried), caught.value.attempts) == (4, 4)
    assert caught.value.waited_seconds > 0


def test_an_error_that_is_no_conflict_is_raised_at_once(db: Database) -> None:
    tried = []

    def work(session: object) -> None:
        tried.append(session)
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        db.run(work)

    assert len(tried) == 1


def test_a_decorated_function_takes_what_its_callers_give_and_joins_an_open_transaction(db: Database) -> None:
    @db.transaction(retries=1)
    def write(session: object, text: str, *, twice: bool = False) -> int:
        """Write a note."""
        session.add_all([Note(text=text) for _ in range(1 + twice)])  # type: ignore[attr-defined]
        return 1 + twice

    @db.transaction
    def count(session: object) -> int:
        return len(session.scalars(Note.__table__.select()).all())  # type: ignore[attr-defined]

    assert (write("a"), write("b", twice=True), write.__name__, write.__doc__) == (
        1,
        2,
        "write",
        "Write a note.",
    )
    with pytest.raises(ValueError, match="undo"), db.begin() as session:
        write.within(session, "c")
        raise ValueError("undo")
    assert count() == 3


def test_functions_of_the_wrong_colour_are_refused(db: Database) -> None:
    async def work(session: object) -> None: ...

    for give in (db.run, db.transaction, db.session().on_commit):
        with pytest.raises(InvalidRequestError, match="def work"):
            give(work)  # type: ignore[arg-type,operator]


async def test_a_plain_function_is_refused_on_an_event_loop() -> None:
    async with AsyncDatabase("sqlite://") as db:
        with pytest.raises(InvalidRequestError, match="async def work"):

            def work(session: object) -> int:
                return 1

            await db.run(work)  # type: ignore[arg-type]


# ---------------------------------------------------------------- hooks


def test_hooks_run_once_for_the_attempt_that_lasts(db: Database) -> None:
    said: list[str] = []
    attempts = []

    def work(session: object) -> None:
        attempts.append(1)
        number = len(attempts)
        session.on_commit(lambda: said.append(f"committed {number}"))  # type: ignore[attr-defined]
        session.on_rollback(lambda: said.append(f"undone {number}"))  # type: ignore[attr-defined]
        session.add(Note(text="x"))  # type: ignore[attr-defined]
        if number < 3:
            raise DatabaseBusy

    db.run(work)

    assert said == ["committed 3"]


def test_hooks_of_a_rollback_run_when_no_attempt_is_left(db: Database) -> None:
    said: list[int] = []
    attempts: list[int] = []

    def work(session: object) -> None:
        attempts.append(1)
        number = len(attempts)
        session.on_rollback(lambda: said.append(number))  # type: ignore[attr-defined]
        raise DatabaseBusy

    with pytest.raises(DatabaseBusy):
        db.run(work, retries=2)

    assert said == [3]


def test_a_savepoint_that_is_undone_takes_its_hooks_with_it(db: Database) -> None:
    said: list[str] = []

    with db.begin() as session:
        session.on_commit(lambda: said.append("first"))
        with pytest.raises(ValueError, match="inner"), session.begin_nested():
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


def test_what_a_lock_is_called_does_not_change() -> None:
    assert lock_number("nightly-report") == lock_number("nightly-report") != lock_number("nightly-repor")
    assert (lock_number(7), lock_number("a")) == (7, 4681665781835383343)


def test_sqlite_says_what_takes_the_place_of_an_advisory_lock(db: Database) -> None:
    with db.session() as session, pytest.raises(NotSupported, match="db.begin"):
        session.advisory_lock("x")
