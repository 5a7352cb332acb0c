"""A wire to a server that can go silent: what a machine without power, or a forgetful firewall, looks like.

Both ends stay connected to the wire, so neither learns anything; what they send lies there.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Wire:
    """Listens on loopback and carries bytes to the server, connection by connection."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._frozen: set[int] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def freeze_all(self) -> None:
        """Let every connection that is open now go silent; later ones live."""
        self._frozen.update(range(len(self._pairs)))

    def close(self) -> None:
        self._ended.set()
        self._listener.close()
        self._thread.join(10)
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):
                if select.select([self._listener], [], [], 0.05)[0]:
                    client, _ = self._listener.accept()
                    self._pairs.append((client, socket.create_connection(self._target)))
                    number = len(self._pairs) - 1
                    threading.Thread(target=self._carry, args=(number,), daemon=True).start()

    def _carry(self, number: int) -> None:
        client, server = self._pairs[number]
        with suppress(OSError, ValueError):
            while not self._ended.is_set() and number not in self._frozen:
                for end in select.select([client, server], [], [], 0.05)[0]:
                    if number in self._frozen:
                        return
                    data = end.recv(65536)
                    if not data:
                        client.close()
                        server.close()
                        return
                    (server if end is client else client).sendall(data)


@contextmanager
def wire_to(url: str) -> Iterator[tuple[Wire, str]]:
    """Open a wire to a URL's server; gives the wire, and the URL that goes through it."""
    parts = urlsplit(url)
    wire = Wire(parts.hostname or "127.0.0.1", parts.port or 5432)
    place = parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{wire.port}"
    try:
        yield wire, urlunsplit(parts._replace(netloc=place))
    finally:
        wire.close()
