"""The program `holdfast`: its commands, and what it says when one fails."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from holdfast import __version__
from holdfast.errors import HoldfastError

from . import demo, explain, show
from .exits import DONE, INTERRUPTED, Usage, exit_code, words_for

EPILOG = """
\b
Examples:
  holdfast demo                            a tour on the packages of this machine
  holdfast show app.models:statement       SQL and row function of a statement
  holdfast explain relation-not-loaded     what an error means, how to mend it

\b
Exit codes:
  0    done
  1    the database refused, or the work failed
  2    asked wrongly: an unknown option, name, code or URL
  3    the database does not answer, or its driver is missing
  130  interrupted
"""

app = typer.Typer(
    name="holdfast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def run(words: Sequence[str]) -> int:
    """Run a command; answers the exit code."""
    try:
        app(args=list(words), prog_name="holdfast")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    return DONE


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Tell errors that people can mend without a traceback, and end with the code that means them."""

    @functools.wraps(command)
    def inner(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("\nholdfast: interrupted", file=sys.stderr)
            code = INTERRUPTED
        except BrokenPipeError:  # `holdfast … | head`: its reader has left, and that is no failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = DONE
        except (HoldfastError, Usage) as error:
            print(f"holdfast: {words_for(error)}", file=sys.stderr)
            code = exit_code(error)
        else:
            return
        raise typer.Exit(code)

    return inner


def _say_version(asked: bool) -> None:
    if asked:
        print(f"holdfast {__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def holdfast(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version, and end."),
    ] = False,
) -> None:
    """The data layer of a Python backend."""


for module, command in ((demo, demo.demo), (show, show.show), (explain, explain.explain)):
    app.command(epilog=module.EPILOG, short_help=module.SUMMARY)(guarded(command))
