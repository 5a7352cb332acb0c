"""Ctrl-C in blocking code: a real signal to a real process, in the middle of a statement, a COMMIT, a clean-up, a wait.

A statement and a wait end at once; a COMMIT and a clean-up end first, unless nobody answers or a second Ctrl-C comes.
Afterwards no connection is left behind, and the program may go on.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import psycopg
import pytest

from holdfast import Database
from tests.conftest import ask, mariadb
from tests.servers.interrupted import Base
from tests.servers.waiting import poll
from tests.servers.wire import SILENCE, UP, Wire

PATIENCE_SECONDS = 60
"""After so long something is wrong."""
NEVER = 1000
SLOW_COMMIT = """
    CREATE FUNCTION wait_for_lock() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_for_lock()
"""


class Child:
    """The program under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def expect(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def told(self) -> dict[str, Any]:
        """What it says at its end, whatever it said before."""
        out, err = self._process.communicate(timeout=PATIENCE_SECONDS)
        assert self._process.returncode == 0, err
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        assert told.pop("handler"), "Ctrl-C has its own handler again"
        return told


@contextmanager
def child(url: str, case: str, *, seconds: float = NEVER) -> Iterator[Child]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers.interrupted", url, case, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        opened = Child(process)
        watchdog = Timer(PATIENCE_SECONDS, process.kill)  # whoever reads from it reads its end then
        watchdog.start()
        try:
            opened.expect("ready")
            yield opened
        finally:
            watchdog.cancel()
            process.kill()


@pytest.fixture(params=["sqlite_url", "postgresql_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found = str(request.getfixturevalue(request.param))
    with Database(found) as db:
        db.create_all(Base)
    return found


@pytest.fixture
def wire(wired_url: str) -> Iterator[Wire]:
    with Database(wired_url) as db:
        db.create_all(Base)
    with Wire(wired_url) as opened:
        yield opened


def test_a_statement_ends_and_with_it_the_transaction(url: str) -> None:
    with child(url, "statement") as program:
        program.go_on()
        if url.startswith("sqlite"):
            program.expect("begun")
        elif url.startswith("mariadb"):
            sleeping = "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'"
            with mariadb(url) as other:
                poll(lambda: bool(ask(other, sleeping)), "the statement is under way")
        else:
            with psycopg.connect(url, autocommit=True) as watcher:
                poll(lambda: sleeps(watcher), "the statement is under way")
        program.interrupt()

        assert program.told() == {"outcomes": [], "left": [0, 0], "names": []}


def test_a_second_ctrl_c_ends_a_statement_that_nobody_answers(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
    with Wire(postgresql_url) as wire, child(wire.url, "statement") as program:
        program.go_on()
        with psycopg.connect(postgresql_url, autocommit=True) as watcher:
            poll(lambda: sleeps(watcher), "the statement is under way")
            wire.arm(UP, 0, SILENCE)
            before = wire.opened
            program.interrupt()
            poll(lambda: wire.opened > before, "the server is asked to stop it")
            program.interrupt()
            program.expect("died")
            wire.measure()

            assert program.told() == {"outcomes": [], "left": [0, 0], "names": []}


def sleeps(watcher: psycopg.Connection) -> bool:
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    row = watcher.execute(asked).fetchone()
    return row is not None and bool(row[0])


def test_a_wait_for_the_pool_ends(url: str) -> None:
    with child(url, "pool") as program:
        program.go_on()
        program.expect("begun")
        program.interrupt()

        assert program.told() == {"outcomes": [], "left": [1, 0], "names": []}


def test_a_short_commit_is_done_before_it_is_told(url: str) -> None:
    with child(url, "commit from within") as program:
        program.go_on()

        assert program.told() == {"outcomes": [], "left": [0, 0], "names": ["Ann"]}


@pytest.mark.parametrize(("case", "names"), [("commit", ["Ann"]), ("rollback", []), ("close", [])])
def test_the_end_of_a_transaction_is_waited_for(case: str, names: list[str], wire: Wire) -> None:
    with child(wire.url, case) as program:
        wire.arm(UP, 0, SILENCE)
        program.go_on()
        program.expect("begun")
        program.interrupt()
        program.expect("noted")
        wire.measure()

        assert program.told() == {"outcomes": [], "left": [0, 0], "names": names}


@pytest.mark.parametrize("case", ["commit", "rollback", "close"])
def test_the_end_of_a_transaction_is_not_waited_for_forever(case: str, wire: Wire) -> None:
    with child(wire.url, case, seconds=0.1) as program:
        wire.arm(UP, 0, SILENCE)
        program.go_on()
        program.expect("begun")
        program.interrupt()
        program.expect("noted")
        program.expect("died")
        wire.measure()
        told = program.told()

    assert told.pop("names") in ([], ["Ann"] if case == "commit" else [])
    assert told == {"outcomes": ["unknown"] if case == "commit" else [], "left": [0, 0]}


def test_a_second_ctrl_c_ends_a_commit(postgresql_url: str) -> None:
    with Database(postgresql_url) as db:
        db.create_all(Base)
    with psycopg.connect(postgresql_url, autocommit=True) as holder:
        holder.execute(SLOW_COMMIT)
        holder.execute("SELECT pg_advisory_lock(77)")
        with child(postgresql_url, "commit") as program:
            program.go_on()
            program.expect("begun")
            poll(lambda: waiters(holder) == 1, "the commit waits")
            program.interrupt()
            program.expect("noted")
            program.interrupt()
            poll(lambda: waiters(holder) == 0, "nobody waits to commit")
            holder.execute("SELECT pg_advisory_unlock(77)")

            assert program.told() == {"outcomes": [], "left": [0, 0], "names": []}


def waiters(watcher: psycopg.Connection) -> int:
    asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    row = watcher.execute(asked).fetchone()
    assert row is not None
    return int(row[0])
