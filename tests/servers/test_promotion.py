"""The outcome of a commit asked of a replica that was promoted without it: the same number is somebody else's there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast import Database
from holdfast.errors import CommitOutcomeUnknown, Outcome
from holdfast.observe import StatementStarted
from tests.servers.own_server import OwnServer, own_server
from tests.servers.wire import DOWN, RESET, Wire


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as started:
        started.ask("CREATE TABLE notes (word TEXT NOT NULL)")
        yield started


def copy_of(server: OwnServer) -> Path:
    """What a replica has that receives nothing more from now on."""
    server.stop()
    copy = server.place.folder / "copy"
    shutil.copytree(server.place.data, copy, copy_function=shutil.copy2)
    for one in (copy, *copy.rglob("*")):
        if server.place.user:
            shutil.chown(one, server.place.user)
    copy.chmod(0o700)
    server.start()
    return copy


def promote(server: OwnServer, copy: Path) -> None:
    """The server is lost, and the replica takes its place."""
    server.stop()
    shutil.rmtree(server.place.data)
    copy.rename(server.place.data)
    server.demote()
    server.ask("SELECT pg_promote()")


def write_until(server: OwnServer, number: int) -> None:
    """Others write until the number of a transaction is one of theirs."""
    while int(server.ask("SELECT txid_current()::text")[0][0]) < number:
        server.ask("INSERT INTO notes VALUES ('somebody else''s')")


def cut_commit(
    server: OwnServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> tuple[Database, CommitOutcomeUnknown]:
    """A commit that the server did, and whose answer was cut off."""
    db = Database(wire.url)

    def hear(event: object) -> None:
        if isinstance(event, StatementStarted) and event.sql == "COMMIT":
            wire.arm(DOWN, 1, RESET)

    db.observers.add(hear)
    session = db.session()
    session.begin(resolve=True)
    session.execute(text("INSERT INTO notes VALUES ('mine')"))
    monkeypatch.setattr(db, "outcome", lambda _error: Outcome.UNKNOWN)  # it is asked later
    with pytest.raises(CommitOutcomeUnknown) as caught:
        session.commit()
    session.close()
    monkeypatch.undo()
    return db, caught.value


def test_a_promoted_replica_does_not_answer_for_the_server_before(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(server)
    with Wire(server.url) as wire:
        db, error = cut_commit(server, wire, monkeypatch)
        with db:
            assert db.outcome(error) is Outcome.DONE
            promote(server, copy)
            number = error.transaction.number
            write_until(server, number)

            assert server.ask("SELECT txid_status(%s)", number) == [("committed",)]  # another's: the trap
            assert server.ask("SELECT count(*) FROM notes WHERE word = 'mine'") == [(0,)]
            assert db.outcome(error) is Outcome.UNKNOWN


def test_the_same_server_answers_after_a_restart(server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(server.url) as wire:
        db, error = cut_commit(server, wire, monkeypatch)
        with db:
            server.restart()

            assert db.outcome(error) is Outcome.DONE
