"""Programs that must pass, and programs that must fail line by line, under both checkers.

In a ``fail_*.py`` every line marked ``# E:`` must have an error, and no other line may.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = sorted([*HERE.glob("pass_*.py"), *HERE.glob("fail_*.py")])
Found = dict[str, dict[int, list[str]]]


@cache
def mypy() -> Found:
    """Run mypy once over all programs; answer messages by file and line."""
    options = [
        "--strict",
        "--no-error-summary",
        "--show-error-codes",
        "--no-incremental",
        "--explicit-package-bases",
    ]
    command = [sys.executable, "-m", "mypy", *options, "--python-version", "3.11", *map(str, PROGRAMS)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Found = defaultdict(lambda: defaultdict(list))
    for line in done.stdout.splitlines():
        match = re.match(r"(.*?):(\d+): error: (.*)", line)
        if match:
            found[Path(match[1]).name][int(match[2])].append(match[3])
    return found


@cache
def pyright() -> Found:
    """Run pyright once over all programs; answer messages by file and line."""
    settings = {
        "include": [path.name for path in PROGRAMS],
        "extraPaths": [str(ROOT / "src")],
        "pythonVersion": "3.11",
        "typeCheckingMode": "standard",
    }
    place = HERE / f".pyright-{os.getpid()}.json"
    place.write_text(json.dumps(settings))
    try:
        command = [
            sys.executable,
            "-m",
            "pyright",
            "--outputjson",
            "--pythonpath",
            sys.executable,
            "-p",
            str(place),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        place.unlink()
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Found = defaultdict(lambda: defaultdict(list))
    for message in json.loads(done.stdout)["generalDiagnostics"]:
        if message["severity"] == "error":
            line = message["range"]["start"]["line"] + 1
            found[Path(message["file"]).name][line].append(message["message"])
    return found


def environment() -> dict[str, str]:
    return {**os.environ, "MYPYPATH": str(ROOT / "src")}


CHECKERS = {"mypy": mypy, "pyright": pyright}


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("program", [path.name for path in PROGRAMS])
def test_a_program_is_judged_as_it_says(program: str, checker: str) -> None:
    lines = (HERE / program).read_text().splitlines()
    expected = {number for number, line in enumerate(lines, 1) if "# E:" in line}

    found = CHECKERS[checker]()[program]

    unexpected = {number: found[number] for number in sorted(found.keys() - expected)}
    missing = {number: lines[number - 1] for number in sorted(expected - found.keys())}
    assert not unexpected
    assert not missing


def test_there_are_programs_of_both_kinds() -> None:
    kinds = {path.name.split("_")[0] for path in PROGRAMS}

    assert kinds == {"pass", "fail"}
