"""A PostgreSQL that belongs to one test: it may be stopped, started, and turned into a standby."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from tools.servers import POSTGRESQL, Place, find_programs, prepared, running


class OwnServer:
    """A private server; ``url`` stays the same over restarts."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = POSTGRESQL.url(place)
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(running(POSTGRESQL, self.place))

    def stop(self) -> None:
        self._running.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def demote(self) -> None:
        """Start again as a standby that waits for a primary."""
        self.stop()
        signal = self.place.data / "standby.signal"
        signal.touch()
        if self.place.user:
            shutil.chown(signal, self.place.user)
        self.start()

    def ask(self, sql: str, *params: Any) -> list[Any]:
        """Ask over a connection of the test's own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, params)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def own_server() -> Iterator[OwnServer]:
    programs = find_programs(POSTGRESQL)
    if programs is None:
        pytest.skip("no PostgreSQL programs here to run a server of the test's own")
    with prepared(POSTGRESQL, programs) as place:
        server = OwnServer(place)
        server.start()
        try:
            yield server
        finally:
            server.stop()
