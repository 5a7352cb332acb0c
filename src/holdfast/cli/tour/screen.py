"""How the tour looks at a terminal: each step its code, its answer, and the statements it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import sleep
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from holdfast.cli.paper import (
    counted,
    facts_table,
    milliseconds,
    python_text,
    rows_table,
    shorten_sql,
    sql_text,
)
from holdfast.errors import HoldfastError

from .place import Place
from .reading import Catalogue
from .stage import STEPS, Outcome, Sent

PAUSE_SECONDS = 0.9
MOST_STATEMENTS = 9
LINES_PER_STATEMENT = 2
_INDENT = (0, 0, 0, 2)


@dataclass(slots=True)
class Screen:
    """Where the tour is shown.  ``pauses`` gives a reader time after each step."""

    console: Console
    pauses: bool = False
    shown: int = 0

    def welcome(self, name: str) -> None:
        self.console.print()
        self.console.print(Text("Holdfast", style="bold"), "on the Python packages of this machine")
        self.console.print(Text(name, style="dim"))
        self.console.print()

    @contextmanager
    def progress(self, label: str, unit: str, total: int | None) -> Iterator[Bar]:
        """A bar that counts; without a terminal one line at the end."""
        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=max(10, min(40, self.console.width - 50))),
            TextColumn(
                "{task.completed:,}" + (" of {task.total:,}" if total is not None else "") + f" {unit}"
            ),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            bar = Bar(progress, progress.add_task(label, total=total))
            yield bar
            progress.update(bar.task, total=bar.count, completed=bar.count)
        if not self.console.is_terminal:
            self.console.print(f"{label:<8} {bar.count:,} {unit}")

    def catalogued(self, catalogue: Catalogue) -> None:
        """Say what was left out, if anything was."""
        if catalogue.unreadable:
            self._note(f"Left out, for broken metadata: {counted(catalogue.unreadable, 'package')}.")
        if catalogue.left_out:
            self._note(f"Left out, to keep the demo short: {counted(catalogue.left_out, 'package')}.")

    def show(self, outcome: Outcome) -> None:
        """Show one step."""
        self.shown += 1
        console = self.console
        console.print()
        title = Text.assemble((f"{self.shown}/{STEPS} ", "dim"), (outcome.title, "bold"))
        console.print(Rule(title, align="left", style="dim"))
        console.print(outcome.text)
        console.print()
        console.print(Padding(python_text(outcome.code), _INDENT))
        console.print()
        for part in answer_parts(outcome):
            console.print(Padding(part, _INDENT))
            console.print()
        self._statements(outcome)
        if self.pauses:
            sleep(PAUSE_SECONDS)

    def goodbye(self, totals: Mapping[str, Any], place: Place) -> None:
        console = self.console
        console.print()
        console.print(Rule(style="dim"))
        console.print(
            f"{totals['steps']} steps, {totals['statements']:,} statements, {totals['seconds']:.1f} s in Holdfast."
        )
        if place.schema is not None:
            console.print("The schema with its tables is gone again.")
        elif place.kept is None:
            console.print("The database is gone again; --keep FILE keeps it.")
        else:
            console.print(Text(f"The database is kept in {place.kept}."))
        console.print()
        console.print(
            facts_table(_NEXT if place.schema is None else {"holdfast demo": "the same on SQLite", **_LATER})
        )

    def _note(self, text: str) -> None:
        self.console.print(Text(text, style="dim"))

    def _statements(self, outcome: Outcome) -> None:
        if not outcome.sent:
            self._note("No statement.")
            return
        self.console.print(Text(summary_of(outcome), style="bold green"))
        narrow = self.console.width < 64
        table = Table(box=None, show_header=False, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        table.add_column(justify="right", style="dim", no_wrap=True)
        if not narrow:
            table.add_column(justify="right", style="dim", no_wrap=True)
        times = max(one.times for one in outcome.sent)
        room = self.console.width - 2 - (len(f"{times}×") + 1) - (12 if narrow else 22)
        for one in outcome.sent[:MOST_STATEMENTS]:
            cells = _statement_cells(one, room)
            table.add_row(*(cells[:3] if narrow else cells))
        self.console.print(Padding(table, _INDENT))
        left = len(outcome.sent) - MOST_STATEMENTS
        if left > 0:
            self._note(f"  and {left} more")


@dataclass(slots=True)
class Bar:
    """A progress bar that is moved by what has happened."""

    progress: Progress
    task: TaskID
    count: int = 0

    def move(self, steps: int) -> None:
        self.count += steps
        self.progress.update(self.task, advance=steps)


def summary_of(outcome: Outcome) -> str:
    """How many statements, rows and milliseconds a step took."""
    rows = sum(one.rows or 0 for one in outcome.sent)
    parts = (counted(outcome.count, "statement"), counted(rows, "row"), milliseconds(outcome.seconds))
    return " · ".join(parts)


def answer_parts(outcome: Outcome) -> Iterator[Any]:
    """What a step answered, as tables and code."""
    if outcome.sides:
        yield rows_table(outcome.sides)
    answer = outcome.answer
    if isinstance(answer, Mapping):
        yield facts_table(answer)
    elif isinstance(answer, str):
        yield python_text(answer.rstrip())
    elif isinstance(answer, Sequence) and answer:
        if isinstance(answer[0], HoldfastError):
            yield _errors_table(answer)
        else:
            yield rows_table(plain_rows(answer))


def plain_rows(answer: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows and dicts alike as dicts."""
    return [dict(row) if isinstance(row, Mapping) else row._asdict() for row in answer]


def _errors_table(errors: Sequence[HoldfastError]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="red")
    table.add_column(overflow="fold")
    for error in errors:
        table.add_row(type(error).__name__, str(error).partition(" [")[0])
    return table


def _statement_cells(one: Sent, room: int) -> tuple[Any, ...]:
    text = sql_text(_cut(shorten_sql(one.sql), room * LINES_PER_STATEMENT))
    rows = "" if one.rows is None else counted(one.rows, "row")
    return f"{one.times}×", text, rows, milliseconds(one.seconds)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: max(1, longest - 1)].rstrip() + "…"


_LATER = {
    "holdfast show app.models:statement": "what your own statement becomes",
    "holdfast explain unique-violation": "an error's page: how to mend it",
}
_NEXT = {"holdfast demo --url postgresql://…": "the same on PostgreSQL", **_LATER}
