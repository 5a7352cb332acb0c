"""`holdfast explain`: the page of an error's code."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from holdfast import errors
from holdfast.errors import HoldfastError

from .exits import Usage

EPILOG = """
\b
Examples:
  holdfast explain                         every code, in one line each
  holdfast explain unique-violation
  holdfast explain UniqueViolation         the class's name will do
  holdfast explain naive-datetime --json
"""
SUMMARY = "What an error means, and how to mend it."

PAGES = (
    Path(__file__).parent / "pages",  # in an installed package
    Path(__file__).parents[3] / "docs" / "errors",  # in a checkout
)


def explain(
    code: Annotated[
        str | None,
        typer.Argument(metavar="CODE", help="The code at the end of an error's text, or the class's name."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document, for programs.")] = False,
) -> None:
    """Say what an error means, and how to mend it."""
    known = error_classes()
    if code is None:
        _print_all(known, as_json)
        return
    error = known.get(code) or next((one for one in known.values() if one.__name__ == code), None)
    if error is None:
        raise Usage(_unknown(code, known))
    text = page_of(error.code)
    if as_json:
        _write([error], text)
    else:
        _print_page(text or _page_from(error))


def error_classes() -> dict[str, type[HoldfastError]]:
    """Every error by its code."""
    family = [value for name, value in vars(errors).items() if name in errors.__all__]
    return {one.code: one for one in family if isinstance(one, type) and issubclass(one, HoldfastError)}


def page_of(code: str) -> str | None:
    """The page of a code; None where no page came with the package."""
    for folder in PAGES:
        page = folder / f"{code}.md"
        if page.is_file():
            return page.read_text(encoding="utf-8")
    return None


def _page_from(error: type[HoldfastError]) -> str:
    return f"# {error.code}\n\n{error.happened}.\n\n{error.mend}\n"


def _unknown(code: str, known: dict[str, type[HoldfastError]]) -> str:
    names = [*known, *(one.__name__ for one in known.values())]
    close = difflib.get_close_matches(code, names, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(close)}?" if close else "`holdfast explain` lists them"
    return f"there is no error {code!r}; {advice}"


def _write(found: list[type[HoldfastError]], text: str | None) -> None:
    from .paper import write_json

    documents = [
        {
            "code": one.code,
            "class": one.__name__,
            "kind": one.kind,
            "happened": one.happened,
            "mend": one.mend,
        }
        for one in found
    ]
    write_json({**documents[0], "page": text} if text is not None else documents)


def _print_all(known: dict[str, type[HoldfastError]], as_json: bool) -> None:
    from .paper import facts_table, open_console

    if as_json:
        _write(list(known.values()), None)
        return
    open_console().print(facts_table({code: known[code].happened for code in sorted(known)}))


def _print_page(text: str) -> None:
    import re

    from rich.markdown import Markdown

    from .paper import THEME, open_console

    console = open_console()
    readable = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    if console.is_terminal:
        console.print(Markdown(readable, code_theme=THEME))
    else:
        print(readable.rstrip())
