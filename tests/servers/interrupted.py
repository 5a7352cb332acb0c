"""A program that Ctrl-C stops: ``python -m tests.servers.interrupted URL CASE [SECONDS]``.

It says ``ready`` before the work of its case, waits for a line, says ``begun`` when the work is under way and ``died``
at the `KeyboardInterrupt`, and tells what it is left with.  SECONDS is how long a COMMIT or a clean-up may take after
Ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import String, text

from holdfast import Database, DeclarativeBase, Mapped, Session, mapped_column, select
from holdfast.errors import HoldfastError
from holdfast.observe import StatementStarted
from holdfast.runner import interrupt

ENDLESS = {
    "postgresql": "SELECT pg_sleep(1000)",
    "mariadb": "SELECT SLEEP(1000)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT entered() UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
}


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


def say(word: str) -> None:
    print(word, flush=True)  # noqa: T201 - to whoever strikes


def when(is_so: Callable[[], bool], word: str) -> None:
    """Say a word when something has become so."""

    def watch() -> None:
        while not is_so():
            time.sleep(0.002)
        say(word)

    threading.Thread(target=watch, daemon=True).start()


def say_begun_at(db: Database, sql: str) -> None:
    db.observers.add(
        lambda told: say("begun") if isinstance(told, StatementStarted) and told.sql == sql else None
    )


def statement(db: Database, session: Session) -> None:
    if db.dialect_name == "sqlite":
        entered: list[
            int
        ] = []  # said by another thread: Python code within the statement would get the signal itself
        session._runner.connection.raw.create_function("entered", 0, lambda: entered.append(1) or 1)
        when(lambda: bool(entered), "begun")
    session.execute(text(ENDLESS[db.dialect_name]))


def say_noted(session: Session) -> None:
    """Say when Ctrl-C has come and is put off."""
    when(lambda: bool(getattr(session._runner._shield, "_owes", False)), "noted")


def commit(db: Database, session: Session) -> None:
    say_begun_at(db, "COMMIT")
    say_noted(session)
    session.commit()


def commit_with_signal_from_within(db: Database, session: Session) -> None:
    """A COMMIT of SQLite is too short to be met from outside."""

    def strike(told: Any) -> None:
        if isinstance(told, StatementStarted) and told.sql == "COMMIT":
            stop()
            os.kill(os.getpid(), signal.SIGINT)

    stop = db.observers.add(strike)
    session.commit()


def rollback(db: Database, session: Session) -> None:
    say_begun_at(db, "ROLLBACK")
    say_noted(session)
    session.rollback()


def close(db: Database, session: Session) -> None:
    say_begun_at(db, "ROLLBACK")
    say_noted(session)
    session.close()


def pool(db: Database, session: Session) -> None:
    """Wait for a connection that the session itself holds."""
    when(lambda: db.pool.stats().waiting == 1, "begun")
    with db.session() as other:
        other.execute(text("SELECT 1"))


CASES = {
    "statement": statement,
    "commit": commit,
    "commit from within": commit_with_signal_from_within,
    "rollback": rollback,
    "close": close,
    "pool": pool,
}


def outcomes_under(error: BaseException) -> list[str]:
    """What our errors that the interrupt came over say."""
    found, current = [], error.__context__
    while current is not None:
        if isinstance(current, HoldfastError):
            found.append(str(current.outcome.value))
        current = current.__context__
    return found


def run(url: str, case: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    with Database(url, pool_size=1, max_overflow=0) as db:
        session = db.session()
        session.add(User(name="Ann"))
        session.flush()
        say("ready")
        sys.stdin.readline()
        try:
            CASES[case](db, session)
        except KeyboardInterrupt as error:
            say("died")
            told["outcomes"] = outcomes_under(error)
        told["left"] = [db.pool.stats().in_use, db.pool.stats().waiting]
        told["handler"] = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if case != "close":
            session.rollback()
        with db.begin() as other:
            told["names"] = [*other.scalars(select(User.name))]
            other.add(User(name="Ben"))
    return told


if __name__ == "__main__":
    if len(sys.argv) > 3:
        interrupt.CLEANUP_SECONDS = float(sys.argv[3])
    say(json.dumps(run(sys.argv[1], sys.argv[2])))
