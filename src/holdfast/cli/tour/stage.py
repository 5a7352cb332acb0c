"""Runs the steps, and writes down what they did: code, answer, statements, time.

Rule: every figure is counted or measured here, as the step runs; nothing is known beforehand.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from sqlalchemy import MetaData

from holdfast import AsyncDatabase, Database
from holdfast.observe import Event, StatementEnded, StatementFailed

from . import steps
from .models import Base, Package
from .place import Place
from .reading import Catalogue, find_distributions, read_catalogue

STEPS = 10
TIMES = 3
"""How often each side of a comparison runs; the best time is told."""

Leaned = dict[str, int]


@dataclass(slots=True)
class Sent:
    """Statements of one text.  ``rows`` is None where the server counts none."""

    sql: str
    times: int = 0
    rows: int | None = None
    seconds: float = 0.0

    def add(self, event: StatementEnded | StatementFailed) -> None:
        self.times += 1
        self.seconds += event.duration_seconds
        rows = getattr(event, "rowcount", -1)
        if rows >= 0:
            self.rows = (self.rows or 0) + rows


@dataclass(slots=True)
class Outcome:
    """What a step showed and did.  ``sides`` compares, where a step ran on both sides."""

    name: str
    title: str
    text: str
    code: str
    answer: Any = None
    sent: list[Sent] = field(default_factory=list)
    seconds: float = 0.0
    sides: list[dict[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(one.times for one in self.sent)


class Recorder:
    """Hears a database's events; statements that differ only in their number of rows are one entry."""

    def __init__(self, moved: Callable[[int], None] | None = None) -> None:
        self.sent: list[Sent] = []
        self._moved = moved

    def __call__(self, event: Event) -> None:
        if not isinstance(event, (StatementEnded, StatementFailed)):
            return
        sql = event.sql
        key = sql.partition(" VALUES ")[0] if sql.startswith("INSERT") else sql
        for known in self.sent:
            if known.sql.partition(" VALUES ")[0] == key:
                known.add(event)
                break
        else:
            self.sent.append(Sent(sql))
            self.sent[-1].add(event)
        if self._moved is not None and isinstance(event, StatementEnded) and event.rowcount > 0:
            self._moved(event.rowcount)


class Stage:
    """The demo on one place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.db = Database(place.url)

    def read(self, *, most_files: int, told: Callable[[str, int], None]) -> Catalogue:
        return read_catalogue(find_distributions(), most_files=most_files, told=told)

    def save(self, catalogue: Catalogue, moved: Callable[[int], None]) -> Outcome:
        """Make the tables, then run the first step."""
        self._create_tables()
        outcome = describe(steps.save)
        with self._watched(self.db, outcome, moved):
            steps.save(self.db, catalogue.packages)
        return outcome

    def _create_tables(self) -> None:
        if self.place.schema is None:
            self.db.create_all(Base)
            return
        inside = MetaData()  # named with their schema, so that nobody else's table can be meant
        for table in Base.metadata.sorted_tables:
            table.to_metadata(inside, schema=self.place.schema)
        self.db.create_all(inside)

    def remaining(self) -> Iterator[Outcome]:
        """The steps after the first, each run when it is asked for."""
        for step in (steps.find, steps.ask):
            yield self._run(step)
        yield self._compare()
        for step in (steps.walk, steps.share, steps.take_back, steps.err, steps.show):
            yield self._run(step)
        yield asyncio.run(self._run_async())

    def close(self) -> None:
        self.db.close()

    def _run(self, step: Callable[[Database], Any]) -> Outcome:
        outcome = describe(step)
        with self._watched(self.db, outcome):
            outcome.answer = step(self.db)
        return outcome

    async def _run_async(self) -> Outcome:
        outcome = describe(steps.wait)
        async with AsyncDatabase(self.place.url) as db:
            with self._watched(db, outcome):
                outcome.answer = await steps.wait(db)
        return outcome

    def _compare(self) -> Outcome:
        outcome = describe(steps.lean_on)
        theirs, count, seconds = self._their_side()
        ours, own_seconds = self._our_side(outcome)
        if ours != theirs:
            raise AssertionError("the two sides gave different answers")
        timed = f"ms, best of {TIMES}"
        outcome.seconds = own_seconds
        outcome.sides = [
            {"with": "SQLAlchemy's ORM", "statements": count, timed: seconds * 1000},
            {"with": "Holdfast", "statements": outcome.count, timed: own_seconds * 1000},
        ]
        most = sorted(ours.items(), key=lambda item: (-item[1], item[0]))
        outcome.answer = [{"author": name, "leaned on": times} for name, times in most[:3]]
        return outcome

    def _their_side(self) -> tuple[Leaned, int, float]:
        """Their answer, the number of statements of one run, and the best time."""
        from . import orm

        answer: Leaned = {}
        heard: list[str] = []
        times = []
        with orm.open_engine(self.place.orm_url, heard.append) as engine:
            for _ in range(TIMES):
                with orm.Session(engine) as session:
                    session.connection()  # connecting is not what is measured
                    heard.clear()
                    begun = perf_counter()
                    answer = steps.lean_on(session, orm.Package)
                    times.append(perf_counter() - begun)
        return answer, len(heard), min(times)

    def _our_side(self, outcome: Outcome) -> tuple[Leaned, float]:
        answer: Leaned = {}
        times = []
        for _ in range(TIMES):
            outcome.sent.clear()
            with self._watched(self.db, outcome), self.db.session() as session:
                answer = steps.lean_on(session, Package)
            times.append(outcome.seconds)
        return answer, min(times)

    @contextmanager
    def _watched(
        self, db: Database | AsyncDatabase, outcome: Outcome, moved: Callable[[int], None] | None = None
    ) -> Iterator[None]:
        recorder = Recorder(moved)
        remove = db.observers.add(recorder)
        begun = perf_counter()
        try:
            yield
        finally:
            outcome.seconds = perf_counter() - begun
            outcome.sent.extend(recorder.sent)
            remove()


def describe(step: Callable[..., Any]) -> Outcome:
    """The step as a reader sees it: title and text from its docstring, and its very code without it."""
    title, _, text = inspect.cleandoc(step.__doc__ or "").partition("\n")
    return Outcome(step.__name__, title, " ".join(text.split()), _code_of(step))


def _code_of(step: Callable[..., Any]) -> str:
    source = textwrap.dedent(inspect.getsource(step))
    function = ast.parse(source).body[0]
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    lines = source.splitlines()
    docstring = function.body[0]
    del lines[docstring.lineno - 1 : docstring.end_lineno]
    return "\n".join(line.partition("  # noqa")[0] for line in lines)


def totals(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the tour came to."""
    return {
        "steps": len(outcomes),
        "statements": sum(outcome.count for outcome in outcomes),
        "seconds": sum(outcome.seconds for outcome in outcomes),
    }
