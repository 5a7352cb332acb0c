"""`holdfast show`: what a statement becomes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast import Database, select
from holdfast.plan import Plan

from .exits import Usage

EPILOG = """
\b
Examples:
  holdfast show app.models:statement
  holdfast show app.models:User            the same as select(User)
  holdfast show app.queries:feed --url postgresql://
  holdfast show app.models:statement --json

Nothing is connected to: the URL only says for which database. MODULE is imported from
the current folder or from what is installed; a function is called without arguments.
"""
SUMMARY = "The SQL of a statement, and the function that makes objects of its rows."


def show(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME", help="A statement, a mapped class, or a function that answers one."
        ),
    ],
    url: Annotated[str, typer.Option(help="The database to write it for.")] = "sqlite://",
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document, for programs.")] = False,
) -> None:
    """Show the SQL of a statement, and the function that makes objects of its rows.

    MODULE:NAME is a statement, a mapped class, or a function that answers one of them.
    """
    statement = find_statement(target)
    db = Database(url)
    plan = db.plan(statement)
    sql, values = final_sql(statement, plan)
    if as_json:
        from .paper import write_json

        write_json(
            {"dialect": db.dialect_name, "sql": sql, "values": len(values), "columns": list(plan.keys),
             "row_function": plan.source or None}
        )  # fmt: skip
    else:
        _print(db.dialect_name, sql, len(values), plan)


def find_statement(target: str) -> Any:
    """Import what MODULE:NAME says, and make a statement of it."""
    module_name, colon, path = target.partition(":")
    if not colon or not path:
        raise Usage(f"{target!r} has no colon; write MODULE:NAME, as in app.models:statement")
    found = _import(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise Usage(
                f"{module_name} has no {path}; there are: {', '.join(_candidates(found)) or 'no statements'}"
            )
        found = getattr(found, name)
    return _statement_of(found, target)


def _import(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not (name == missing.name or name.startswith(missing.name + ".")):
            raise
        raise Usage(
            f"there is no module {missing.name}; run this where `import {name}` works, or set PYTHONPATH"
        ) from None


def _statement_of(found: Any, target: str) -> Any:
    if is_mapped(found):
        return select(found)
    if callable(found) and not is_statement(found):
        found = found()
    if not is_statement(found):
        raise Usage(
            f"{target} is {type(found).__name__}, neither a statement nor a mapped class nor a function of one"
        )
    return found


def is_statement(value: Any) -> bool:
    return hasattr(value, "_generate_cache_key") and hasattr(value, "compile") and not isinstance(value, type)


def is_mapped(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "__table__")


def _candidates(module: Any) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (is_statement(value) or is_mapped(value))
    )[:20]


def final_sql(statement: Any, plan: Plan) -> tuple[str, Any]:
    """The text as it is sent, IN lists written out, and the values beside it; the plan's where some are missing."""
    key = statement._generate_cache_key()
    try:
        return plan.bind(key.bindparams if key is not None else (), None)
    except Exception:  # a value that execute() is to be given
        return plan.sql, ()


def _print(dialect: str, sql: str, values: int, plan: Plan) -> None:
    from rich.rule import Rule

    from .paper import counted, open_console, python_text, sql_text

    console = open_console()
    whole_lines = not console.is_terminal
    console.print(Rule(f"SQL for {dialect}", align="left", style="dim"))
    console.print(
        sql_text("\n".join(line.strip() for line in sql.strip().splitlines())), soft_wrap=whole_lines
    )
    console.print(f"\n{counted(values, 'bound value')}\n", style="dim")
    console.print(Rule("Row function", align="left", style="dim"))
    if plan.source:
        console.print(python_text(plan.source.rstrip()), soft_wrap=whole_lines)
    else:
        console.print("None: the rows hold no objects, and are given as tuples.", style="dim")
