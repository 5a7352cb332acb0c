"""How the commands write: one console, code with colours, SQL in short.

Rule: nothing here knows a command.  Without a terminal there are neither colours nor pauses.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

THEME = "ansi_dark"  # the terminal's own colours, so that light backgrounds stay readable
WIDEST = 120

_SELECTED = re.compile(r"^(SELECT (?:DISTINCT )?)(.+?)( FROM )", re.DOTALL)
_INSERTED = re.compile(r"^(INSERT INTO \S+ )\(([^()]*)\)")
_ROWS = re.compile(r"VALUES \([^()]*\)((?:, \([^()]*\))*)")
_ARRAYS = re.compile(r"SELECT [^()]+ FROM unnest\(.*?\) WITH ORDINALITY AS \w+\([^()]*\)")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let whoever runs the command hear of it, and clean up."""
        raise BrokenPipeError


def open_console(*, to_stderr: bool = False) -> Console:
    """A console no wider than lines can be read; what its encoding lacks becomes `?`."""
    stream = sys.stderr if to_stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    console = _Console(stderr=to_stderr, highlight=False)
    console.width = min(console.width, WIDEST)
    return console


def write_json(value: Any) -> None:
    """Write for programs: one JSON document on standard output."""
    print(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return str(value)


def python_text(code: str) -> Text:
    """Python with its colours."""
    return _coloured(code, "python")


def sql_text(sql: str) -> Text:
    """One statement with its colours."""
    return _coloured(sql, "sql")


def _coloured(code: str, language: str) -> Text:
    text = Syntax("", language, theme=THEME, background_color="default").highlight(code)
    text.rstrip()
    text.no_wrap = False
    return text


def shorten_sql(sql: str) -> str:
    """A statement in one line: lists of columns and repeated rows are cut, and each cut is marked."""
    line = " ".join(sql.split())
    line = _ARRAYS.sub("SELECT … FROM unnest(…)", line)
    line = _ROWS.sub(lambda found: "VALUES (…), …" if found[1] else "VALUES (…)", line)
    line = _INSERTED.sub(lambda found: f"{found[1]}({_shorten_list(found[2])})", line)
    return _SELECTED.sub(lambda found: found[1] + _shorten_list(found[2]) + found[3], line)


def _shorten_list(text: str) -> str:
    parts = _split(text)
    return text if len(parts) <= 3 else f"{parts[0]}, … {len(parts) - 1} more"


def _split(text: str) -> list[str]:
    """Split at the commas outside of parentheses."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows under the names of their values; numbers stand to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in rows[0]:
        numbers = all(isinstance(row[name], (int, float, Decimal)) for row in rows)
        right = numbers and not any(isinstance(row[name], bool) for row in rows)
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(say(value)) for value in row.values()))
    return table


def facts_table(facts: Mapping[str, Any]) -> Table:
    """Facts, one below the other."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(say(value)))
    return table


def say(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, (int, Decimal)):
        return f"{value:,}"
    return "" if value is None else str(value)


def milliseconds(seconds: float) -> str:
    """A time with as many digits as it is worth."""
    value = seconds * 1000
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
