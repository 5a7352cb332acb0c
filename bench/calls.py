"""How many functions Holdfast calls for each operation, on SQLite: ``python -m bench.calls``.

Calls are exact where times are not, so these a test may compare.  Python functions and built-in ones are counted
apart.  The figures depend on the version of Python and on whether the hot loops are compiled, and are stored for each.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from bench.schema import SqliteAdmin
from bench.workloads import WORKLOADS, Workload
from holdfast.native import COMPILED

STORED = Path(__file__).parent.parent / "tests" / "rooms" / "python_calls.json"
TOLERANCE = 0.10

Counts = dict[str, dict[str, int]]
"""workload → {"python": calls of Python functions, "builtin": calls of built-in ones}, for one operation."""


def count_calls() -> Counts:
    """Run each workload until it is warm, then once more, counting."""
    from bench.systems.holdfast_blocking import HoldfastBlocking

    with tempfile.TemporaryDirectory(prefix="holdfast-calls-") as folder:
        admin = SqliteAdmin(Path(folder), "calls")
        system = HoldfastBlocking()
        admin.seed(system.stamp)
        system.open(admin.place)
        try:
            return {workload.name: _count(system, admin, workload) for workload in WORKLOADS}
        finally:
            system.close()
            admin.close()


def compare(found: Counts, stored: Counts) -> list[str]:
    """Say which workloads call more, or fewer, functions than stored, beyond the tolerance."""
    complaints = []
    for name in stored.keys() | found.keys():
        mine, theirs = sum(found.get(name, {}).values()), sum(stored.get(name, {}).values())
        if abs(mine - theirs) > TOLERANCE * theirs:
            complaints.append(
                f"{name}: {mine} calls, {theirs} stored; if that is meant: python -m bench.calls --write"
            )
    return sorted(complaints)


def read_stored() -> Counts | None:
    """Read the figures stored for this version of Python; None if there are none."""
    if not STORED.exists():
        return None
    found: Counts | None = json.loads(STORED.read_text()).get(_version())
    return found


def write_stored(found: Counts) -> None:
    document = json.loads(STORED.read_text()) if STORED.exists() else {}
    document[_version()] = found
    STORED.write_text(json.dumps(dict(sorted(document.items())), indent=2) + "\n")


def _version() -> str:
    return ".".join(platform.python_version_tuple()[:2]) + ("" if COMPILED else ", pure")


def _count(system: Any, admin: Any, workload: Workload) -> dict[str, int]:
    function: Callable[..., Any] = getattr(system, workload.name)
    for turn in range(4):
        workload.before(admin)
        given = next(iter(workload.arguments(1)))
        if workload.needs_state:
            given = (*given, system.load_members())
        if turn < 3:
            workload.check(system, admin, function(*given), *given)
    with _counting() as counter:
        function(*given)
    # The call of the method itself, and the one that ends the counting, are not Holdfast's.
    return {"python": counter["call"] - 1, "builtin": counter["c_call"] - 1}


@contextmanager
def _counting() -> Any:
    counter: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        counter[event] += 1

    gc.collect()
    gc.disable()  # a collection calls finalizers at its own time
    sys.setprofile(note)
    try:
        yield counter
    finally:
        sys.setprofile(None)
        gc.enable()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.calls", description="Count function calls per operation."
    )
    parser.add_argument("--write", action="store_true", help=f"store the figures in {STORED.name}")
    options = parser.parse_args()
    found, stored = count_calls(), read_stored() or {}
    print(f"{'Python ' + _version():16}{'python':>10}{'built-in':>10}{'sum':>10}{'stored':>10}")
    for name, one in found.items():
        before = sum(stored.get(name, {}).values()) or "–"
        print(f"{name:16}{one['python']:>10}{one['builtin']:>10}{sum(one.values()):>10}{before:>10}")
    if options.write:
        write_stored(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
