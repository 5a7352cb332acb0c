"""The contracts hold, and those of our own see what they are meant to see."""

import subprocess
import sys
from pathlib import Path

import pytest
from grimp import ImportGraph

from tools.contracts import find_rings, find_side_entries, find_strayed_guests

ROOT = Path(__file__).resolve().parents[2]


def graph_of(*imports: tuple[str, str]) -> ImportGraph:
    graph = ImportGraph()
    for importer, imported in imports:
        for name in (importer, imported):
            if name not in graph.modules:
                graph.add_module(name)
        graph.add_import(importer=importer, imported=imported, line_number=3, line_contents="")
    return graph


def test_the_contracts_hold() -> None:
    command = [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("holdfast", "holdfast.doors", True),
        ("holdfast.session.flush", "holdfast.model", True),
        ("holdfast.session.flush", "holdfast.steps", True),
        ("holdfast.session.flush", "holdfast.session.identity", True),
        ("holdfast.session.flush", "holdfast.model.mapper", False),
        ("holdfast", "holdfast.model.mapper", False),
        ("holdfast.session.flush", "holdfast", False),
        ("holdfast.testing.sandbox", "holdfast", True),
    ],
)
def test_a_room_is_entered_by_its_init(importer: str, imported: str, allowed: bool) -> None:
    broken = find_side_entries(
        graph_of((importer, imported)), package="holdfast", may_import_the_package={"testing"}
    )

    assert broken == [] if allowed else importer in broken[0]


@pytest.mark.parametrize(
    ("importer", "allowed"),
    [
        ("holdfast.drivers.psycopg", True),
        ("holdfast.drivers.psycopg_async", True),
        ("holdfast.drivers", False),
        ("holdfast.session.flush", False),
    ],
)
def test_a_guest_library_stays_in_its_place(importer: str, allowed: bool) -> None:
    guests = {"psycopg": ["holdfast.drivers.psycopg*"]}

    broken = find_strayed_guests(graph_of((importer, "psycopg")), package="holdfast", guests=guests)

    assert broken == ([] if allowed else [f"{importer} imports psycopg (line 3)"])


def test_rings_are_found_inside_a_room() -> None:
    ring = graph_of(("holdfast.model.a", "holdfast.model.b"), ("holdfast.model.b", "holdfast.model.a"))
    for parent in ("holdfast", "holdfast.model"):
        ring.add_module(parent)
    chain = graph_of(("holdfast.model.a", "holdfast.model.b"), ("holdfast.model.b", "holdfast.model.c"))
    for parent in ("holdfast", "holdfast.model"):
        chain.add_module(parent)

    assert len(find_rings(ring, package="holdfast")) == 1
    assert find_rings(chain, package="holdfast") == []
