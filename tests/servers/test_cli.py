"""The demo on PostgreSQL and MariaDB: the same steps, in a place of its own that is gone afterwards."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from tests.conftest import ask, mariadb

PROGRAM = [sys.executable, "-c", "import holdfast.cli; holdfast.cli.main()"]
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'holdfast_demo%'"


@pytest.fixture
def theirs(postgresql_url: str) -> str:
    """A database in which somebody has a table of the same name."""
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE packages (id int)")
        connection.execute("INSERT INTO packages VALUES (7)")
    return postgresql_url


def left_behind(url: str) -> tuple[list[tuple[str]], list[tuple[int]]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(SCHEMAS).fetchall(), connection.execute(
            "SELECT id FROM packages"
        ).fetchall()


def test_the_demo_runs_and_touches_nothing_else(theirs: str) -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--fast", "--json", "--url", theirs],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    saved = document["steps"][0]
    inserts = [s for s in saved["statements"] if s["sql"].startswith("INSERT")]
    assert all(s["times"] == 1 for s in inserts)  # one statement per table
    assert sum(s["rows"] for s in inserts) == document["catalogue"]["rows"]
    assert left_behind(theirs) == ([], [(7,)])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_demo_that_is_ended_leaves_nothing(number: int, code: int, theirs: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "demo", "--url", theirs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        for line in process.stdout:  # its schema is there as soon as it says where it is
            if "schema holdfast_demo" in line:
                break
        process.send_signal(number)
        process.communicate()
        watchdog.cancel()

    assert process.returncode == code
    assert left_behind(theirs) == ([], [(7,)])


def test_the_demo_runs_on_mariadb_and_leaves_nothing(mariadb_url: str) -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--fast", "--json", "--url", mariadb_url],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["steps"]) == 10
    with mariadb(mariadb_url) as connection:
        assert ask(connection, "SHOW DATABASES LIKE 'holdfast_demo%'") == []
        assert ask(connection, "SHOW TABLES") == []
