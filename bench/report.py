"""The figures as tables, for eyes, and as JSON, for machines."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.harness import Entry, Figure, Samples
from bench.systems import BARE
from bench.workloads import WORKLOADS

PACKAGES = (
    "holdfast",
    "sqlalchemy",
    "psycopg",
    "psycopg-binary",
    "psycopg-pool",
    "asyncpg",
    "pymysql",
    "asyncmy",
    "aiosqlite",
    "greenlet",
)


def figure_of(samples: Samples, server: str, door: str, workload: str, system: str) -> Figure | None:
    mine = samples.get((server, door, workload, system))
    bare = samples.get((server, door, workload, BARE))
    return Figure.of(mine, bare) if mine else None


def print_tables(samples: Samples, entries: list[Entry]) -> None:
    """Print one table for each server and door: workloads down, systems across."""
    for server, door in dict.fromkeys(entry.group for entry in entries):
        group = [entry for entry in entries if entry.group == (server, door)]
        names = [entry.system.name for entry in group]
        rows = []
        for workload in WORKLOADS:
            if any((server, door, workload.name, name) in samples for name in names):
                figures = (figure_of(samples, server, door, workload.name, name) for name in names)
                rows.append([workload.title, *map(_write, figures)])
        if rows:
            print_table(
                f"{server}, {door}: median µs per operation (ratio to the bare driver)",
                ["work", *names],
                rows,
            )
        for entry in group:
            for workload_name, reason in entry.failures.items():
                print(f"  {entry.system.name} could not {workload_name}: {reason}")


def _write(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    digits = 1 if figure.median_us < 100 else 0
    ratio = f" ({figure.ratio:.2f} ×)" if figure.ratio is not None else ""
    return f"{figure.median_us:,.{digits}f}{ratio}"


def print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plain(title, head, rows)
        return
    table = Table(title=title, title_justify="left")
    for position, name in enumerate(head):
        table.add_column(name, justify="right" if position else "left", no_wrap=bool(position))
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Through a pipe rich would squeeze the figures into 80 columns.
    (console if console.is_terminal else Console(width=140)).print(table)


def _print_plain(title: str, head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[position]) for row in [head, *rows]) for position in range(len(head))]
    print(f"\n{title}")
    for row in [head, *rows]:
        print(
            "  ".join(
                cell.rjust(w) if i else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )


def find_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: Path, samples: Samples, entries: list[Entry], settings: dict[str, Any]) -> None:
    """Write every sample, and with it all that is needed to run the same again."""
    results = []
    for (server, door, workload, system), mine in samples.items():
        figure = figure_of(samples, server, door, workload, system)
        assert figure is not None
        results.append({
            "server": server, "door": door, "workload": workload, "system": system,
            "median_us": round(figure.median_us, 2), "least_us": round(figure.least_us, 2),
            "ratio": round(figure.ratio, 3) if figure.ratio is not None else None,
            "samples_us": [round(one, 2) for one in mine],
        })  # fmt: skip
    failures = {
        f"{entry.admin.place.server} {entry.system.door} {entry.system.name}": entry.failures
        for entry in entries
    }
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, "-m", "bench", *sys.argv[1:]]),
        "versions": find_versions(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        **settings,
        "failures": {name: found for name, found in failures.items() if found},
        "results": results,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
