"""``import holdfast`` brings no library that a URL or a command has not asked for."""

import subprocess
import sys

GUESTS = (
    "aiosqlite", "alembic", "asyncmy", "asyncpg", "fastapi", "MySQLdb", "opentelemetry", "psycopg", "pydantic", "pymongo", "pymysql",
    "redis", "rich", "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "starlette", "typer",
)  # fmt: skip


def test_import_holdfast_imports_no_guest() -> None:
    program = f"import sys, holdfast; print(*[name for name in {GUESTS!r} if name in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_importing_every_room_needs_no_server_and_prints_nothing() -> None:
    program = "import pkgutil, holdfast; [__import__('holdfast.' + found.name) for found in pkgutil.iter_modules(holdfast.__path__)]"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
