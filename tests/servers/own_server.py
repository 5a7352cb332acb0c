"""A server that belongs to one test: it may be stopped, started, and turned into one that takes no writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from tests.conftest import ask, mariadb
from tools.servers import POSTGRESQL, Kind, Place, find_programs, prepared, running


class OwnServer:
    """A private server; ``url`` stays the same over restarts."""

    def __init__(self, kind: Kind, place: Place) -> None:
        self.kind = kind
        self.place = place
        self.url = kind.url(place)
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(running(self.kind, self.place))

    def stop(self) -> None:
        self._running.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def demote(self) -> None:
        """Start PostgreSQL again as a standby that waits for a primary."""
        self.stop()
        signal = self.place.data / "standby.signal"
        signal.touch()
        if self.place.user:
            shutil.chown(signal, self.place.user)
        self.start()

    def ask(self, sql: str, *params: Any) -> list[Any]:
        """Ask over a connection of the test's own."""
        if self.kind.name == "mariadb":
            with mariadb(self.url) as asked:
                return ask(asked, sql)
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, params)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def own_server(kind: Kind = POSTGRESQL) -> Iterator[OwnServer]:
    programs = find_programs(kind)
    if programs is None:
        pytest.skip(f"no {kind.program} here to run a server of the test's own")
    with prepared(kind, programs) as place:
        server = OwnServer(kind, place)
        server.start()
        try:
            yield server
        finally:
            server.stop()
