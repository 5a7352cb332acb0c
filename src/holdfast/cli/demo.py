"""`holdfast demo`: a guided tour on the Python packages of this machine."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .tour import Outcome, Screen, Stage

MOST_FILES = 40_000
MOST_FILES_FAST = 6_000

EPILOG = """
\b
Examples:
  holdfast demo                            in a temporary SQLite file
  holdfast demo --keep packages.db         keep the file, to look into it
  holdfast demo --url postgresql://me@localhost/scratch
  holdfast demo --json | jq '.steps[] | {name, count}'

On PostgreSQL the tables stand in a schema of their own, on MariaDB in a database, which is dropped at the end,
however it ends.
"""
SUMMARY = "A tour of Holdfast on the Python packages of this machine."


def demo(
    url: Annotated[
        str | None,
        typer.Option(help="Where to run: sqlite:///file.db, postgresql://user@host/database or mariadb://…."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the SQLite database in this file.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer files, and no pauses for reading.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document, for programs.")] = False,
) -> None:
    """Catalogue the Python packages of this machine, and show what Holdfast does with them.

    Every step shows its code, its answer and the statements it took; every figure is counted as it runs.
    """
    from .tour import Stage, open_place

    signal.signal(signal.SIGTERM, _end)  # so that what was made is taken away
    with open_place(url, keep) as place:
        stage = Stage(place)
        try:
            if as_json:
                _write_json(stage, fast)
            else:
                _show(stage, fast)
        finally:
            stage.close()


def _show(stage: Stage, fast: bool) -> None:
    from .paper import open_console
    from .tour import Screen, totals

    console = open_console()
    screen = Screen(console, pauses=console.is_terminal and not fast)
    screen.welcome(stage.place.name)
    outcomes = [_load(stage, screen, fast)]
    screen.show(outcomes[0])
    for outcome in stage.remaining():
        screen.show(outcome)
        outcomes.append(outcome)
    screen.goodbye(totals(outcomes), stage.place)


def _load(stage: Stage, screen: Screen, fast: bool) -> Outcome:
    with screen.progress("Reading", "files", None) as bar:
        catalogue = stage.read(most_files=_most_files(fast), told=lambda _name, files: bar.move(files))
    screen.catalogued(catalogue)
    with screen.progress("Saving", "rows", catalogue.rows) as bar:
        return stage.save(catalogue, bar.move)


def _write_json(stage: Stage, fast: bool) -> None:
    from .paper import write_json
    from .tour import totals

    catalogue = stage.read(most_files=_most_files(fast), told=lambda _name, _files: None)
    found = {
        "packages": len(catalogue.packages),
        "rows": catalogue.rows,
        "left_out": catalogue.left_out,
        "unreadable": catalogue.unreadable,
    }
    outcomes = [stage.save(catalogue, lambda _rows: None), *stage.remaining()]
    write_json(
        {
            "database": stage.place.name,
            "catalogue": found,
            "steps": [as_document(outcome) for outcome in outcomes],
            "totals": totals(outcomes),
        }
    )


def as_document(outcome: Outcome) -> dict[str, Any]:
    """A step for programs."""
    from .tour.screen import plain_rows

    answer = outcome.answer
    if isinstance(answer, list) and answer and isinstance(answer[0], Exception):
        answer = [{"code": error.code, "text": str(error)} for error in answer]
    elif isinstance(answer, (list, tuple)):
        answer = plain_rows(answer)
    return {
        "name": outcome.name,
        "title": outcome.title,
        "code": outcome.code,
        "answer": answer,
        "sides": outcome.sides,
        "count": outcome.count,
        "seconds": outcome.seconds,
        "statements": [
            {"sql": one.sql, "times": one.times, "rows": one.rows, "seconds": one.seconds}
            for one in outcome.sent
        ],
    }


def _most_files(fast: bool) -> int:
    return MOST_FILES_FAST if fast else MOST_FILES


def _end(number: int, _frame: Any) -> None:
    sys.exit(128 + number)
