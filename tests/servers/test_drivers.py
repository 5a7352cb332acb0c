"""Every driver passes the suite of `holdfast.testing`, on a real server.

Rule: the server's URL comes from the environment; without it the test is skipped, and under CI it
fails.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from holdfast.drivers import open_driver
from holdfast.testing import conformance
from holdfast.testing.conformance import CHECKS, exercise, exercise_async


def postgresql_url(driver: str = "") -> str:
    url = os.environ.get("HOLDFAST_TEST_POSTGRESQL_URL")
    if not url and os.environ.get("CI"):
        pytest.fail("HOLDFAST_TEST_POSTGRESQL_URL is not set, and under CI nothing is skipped")
    if not url:
        pytest.skip("HOLDFAST_TEST_POSTGRESQL_URL is not set")
    return url.replace("postgresql://", f"postgresql{driver}://")


def needs(name: str, server: str) -> bool:
    """Tell whether a check is for this server."""
    bench = type("Server", (), {"postgresql": server == "postgresql"})()
    capabilities = type("Facts", (), {"server": server, "array_parameters": server == "postgresql"})
    bench.driver = type("Driver", (), {"capabilities": capabilities})
    return any(check.__name__ == name and fits(bench) for check, fits in conformance._CHECKS)


ON_SQLITE = [name for name in CHECKS if needs(name, "sqlite")]
ON_POSTGRESQL = [name for name in CHECKS if needs(name, "postgresql")]


@pytest.mark.parametrize("name", ON_SQLITE)
@pytest.mark.parametrize("place", ["memory", "file"])
def test_sqlite_conforms(name: str, place: str, tmp_path: Any) -> None:
    url = "sqlite://" if place == "memory" else f"sqlite:///{tmp_path}/a.db"

    assert exercise(open_driver(url, asynchronous=False), only=name) == [name]


@pytest.mark.parametrize("name", ON_POSTGRESQL)
def test_psycopg_conforms(name: str) -> None:
    driver = open_driver(postgresql_url(), asynchronous=False)

    assert exercise(driver, only=name) == [name]


@pytest.mark.parametrize("name", ON_POSTGRESQL)
@pytest.mark.parametrize("library", ["+asyncpg", "+psycopg"])
def test_async_drivers_conform(name: str, library: str) -> None:
    driver: Any = open_driver(postgresql_url(library), asynchronous=True)

    assert asyncio.run(exercise_async(driver, only=name)) == [name]
