"""Ctrl-C at every place where it can strike on the way of a connection to its borrower and back.

CPython looks for signals after a call, at the start of a function and at the end of a loop's turn.  Here a tracer calls
the handler of SIGINT at the n-th such place within the doors, the runner and the pool, for n = 1, 2, 3 ... until there
is none; after each the pool must serve the next who asks.
"""

from __future__ import annotations

import dis
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Table, Text, text

import holdfast
from holdfast import Database
from holdfast.errors import PoolTimeout
from holdfast.pool import shared

HOME = Path(holdfast.__file__).parent
ROOMS = tuple(str(HOME / room) for room in ("doors", "runner", "pool"))
LOOKS = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"})
MOST = 2000


@cache
def places(code: CodeType) -> dict[int, int]:
    """Where a signal that came during an instruction is raised a little late, and yet in the same handler."""
    instructions = list(dis.get_instructions(code))
    handlers = dis._parse_exception_table(code)  # type: ignore[attr-defined]

    def handler(offset: int) -> Any:
        return next((entry.target for entry in handlers if entry.start <= offset < entry.end), None)

    return {
        after.offset: before.offset
        for before, after in pairwise(instructions)
        if before.opname in LOOKS and handler(before.offset) == handler(after.offset)
    }


class Striker:
    """Does what Ctrl-C does, at the n-th place; ``struck`` says whether there was one."""

    def __init__(self, place: int) -> None:
        self._left = place
        self._before: dict[int, int] = {}
        self.struck = False

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOMS) or frame.f_code.co_name == "__del__":
            return None  # Python lets no error out of a finalizer
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self._before.pop(id(frame), None)
        elif event == "opcode":
            before = self._before.get(id(frame))
            self._before[id(frame)] = frame.f_lasti
            if before is not None and places(frame.f_code).get(frame.f_lasti) == before:
                self._left -= 1
                if self._left == 0:
                    self.struck = True
                    handle: Any = signal.getsignal(signal.SIGINT)
                    handle(signal.SIGINT, frame)
        return self.trace


def strike(work: Callable[[], object], place: int) -> bool:
    """Do the work with a Ctrl-C at the n-th place; tell whether it has so many."""
    striker, before = Striker(place), sys.gettrace()
    sys.settrace(striker.trace)
    try:
        work()
    except KeyboardInterrupt:
        assert striker.struck
    finally:
        sys.settrace(before)
    return striker.struck


NOTES = MetaData()
Table("notes", NOTES, Column("word", Text))


@pytest.fixture
def db(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(shared, "UNHELD_SECONDS", 0.0)
    with Database(database_url, pool_size=1, max_overflow=0, pool_timeout=0) as db:
        db.create_all(NOTES)
        yield db


def read(db: Database) -> None:
    with db.session() as session:
        session.scalar(text("SELECT 1"))


def write(db: Database) -> None:
    with db.begin() as session:
        session.execute(text("INSERT INTO notes VALUES ('word')"))


@pytest.mark.parametrize("work", [read, write])
@pytest.mark.filterwarnings("ignore:A session was lost:ResourceWarning")
def test_whenever_it_strikes_the_next_gets_a_connection(
    db: Database, work: Callable[[Database], None]
) -> None:
    struck = 0
    for place in range(1, MOST):
        if not strike(lambda: work(db), place):
            break
        struck += 1
        assert not [
            one for one in threading.enumerate() if type(one) is threading.Timer and not one.finished.is_set()
        ]
        write(db)
        assert (db.pool.stats().in_use, db.pool.stats().size) == (0, 1)

    assert 20 < struck < MOST - 1


def test_what_somebody_holds_is_not_taken_away(db: Database) -> None:
    held = db.pool.acquire()

    with pytest.raises(PoolTimeout):
        read(db)

    assert held.usable
    db.pool.release(held)
    read(db)
