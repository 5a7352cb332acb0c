"""A hook for mkdocs, so that a new guide, decision, error page or public name needs no line elsewhere.

A section of the navigation that names a folder holds that folder's pages, ``index.md`` first.
``<!-- every public name -->`` in a page becomes the reference of all that ``holdfast.__all__`` names.
A block that does not run yet (``<!-- run: skip WHY -->``) says so to the reader.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

EVERY_NAME = "<!-- every public name -->"
NOT_YET = re.compile(r"^<!-- run: skip (.+?) -->$", re.MULTILINE)


def on_config(config: Any) -> Any:
    docs = Path(config["docs_dir"])
    config["nav"] = [_fill(entry, docs) for entry in config["nav"]]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    markdown = NOT_YET.sub(r"*Not yet: \1.*\n", markdown)
    return markdown.replace(EVERY_NAME, _reference()) if EVERY_NAME in markdown else markdown


def _fill(entry: dict[str, str], docs: Path) -> dict[str, Any]:
    ((title, target),) = entry.items()
    if not target.endswith("/"):
        return entry
    pages = sorted((docs / target).glob("*.md"), key=lambda path: (path.stem != "index", path.name))
    return {title: [page.relative_to(docs).as_posix() for page in pages]}


def _reference() -> str:
    """Write the reference, by the room each name lives in; names that are SQLAlchemy's are only listed."""
    package = importlib.import_module("holdfast")
    rooms: dict[str, list[str]] = {}
    for name in getattr(package, "__all__", ()):
        rooms.setdefault(_room(getattr(package, name)), []).append(name)
    taken = rooms.pop("", [])
    chapters = [_chapter(room, names) for room, names in rooms.items()]
    if taken:
        chapters.append(f"## Taken from SQLAlchemy\n\n{', '.join(f'`{name}`' for name in taken)}\n")
    return "\n".join(chapters)


def _room(value: object) -> str:
    package, _, rest = str(getattr(value, "__module__", "")).partition(".")
    return rest.split(".")[0] if package == "holdfast" else ""


def _chapter(room: str, names: list[str]) -> str:
    return f"## {room.capitalize()}\n\n" + "\n".join(f"::: {_path(name)}\n" for name in names)


def _path(name: str) -> str:
    """Where a name is found; by its own module where that has the same name and would be found instead."""
    module = str(getattr(getattr(importlib.import_module("holdfast"), name), "__module__", ""))
    return f"{module}.{name}" if module.rpartition(".")[2] == name else f"holdfast.{name}"
