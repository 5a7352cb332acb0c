"""A wire between a client and a server that can be cut at any byte, cut into crumbs, or go silent.

A small proxy on loopback, in one thread.  It forwards what comes; `arm` says after how many bytes, in which direction
and how the wire breaks, and counting starts there.  The break comes before the next byte moves, so no test waits for it.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from sqlalchemy import make_url

UP, DOWN = "up", "down"
"""To the server, and to the client."""
RESET, CLOSE, SILENCE, VANISH = "reset", "close", "silence", "vanish"
"""The peer's machine refuses (RST), the peer hangs up (FIN), nothing comes any more; nothing comes on the wires that
are open, and new ones pass: what a forgetful firewall does."""
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Plan:
    """How the wire breaks: after ``after`` more bytes in one direction."""

    direction: str
    after: int
    how: str


@dataclass(frozen=True)
class Count:
    """Bytes that passed since the wire was last armed or measured."""

    up: int = 0
    down: int = 0


class Wire:
    """The proxy; ``url`` leads through it.  ``chunk_bytes`` is how much passes at once; ``opened`` counts connections."""

    def __init__(self, target: str, *, chunk_bytes: int = 65536) -> None:
        parsed = make_url(target)
        self._server = (
            parsed.host or "127.0.0.1",
            parsed.port or (3306 if parsed.get_backend_name() == "mariadb" else 5432),
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._waker, self._woken = socket.socketpair()
        self._orders: SimpleQueue[tuple[Callable[[], None], Event]] = SimpleQueue()
        self._links: list[_Link] = []
        self._plan: Plan | None = None
        self._silent = self._ended = False
        self._thread = Thread(target=self._serve, daemon=True)
        self.chunk_bytes = chunk_bytes
        self.count = Count()
        self.opened = 0
        host, port = self._listener.getsockname()
        self.url = parsed.set(host=host, port=port).render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._order(lambda: setattr(self, "_ended", True))
        self._thread.join(PATIENCE_SECONDS)
        for one in (
            self._listener,
            self._waker,
            self._woken,
            *(end for link in self._links for end in link.ends),
        ):
            one.close()

    def through(self, driver: str) -> str:
        """The URL for a driver of the server, by its name."""
        return self.url.replace("://", f"+{driver}://", 1)

    def arm(self, direction: str, after: int, how: str) -> None:
        """Break the wires that are open after so many more bytes; 0 breaks them before this returns."""
        self._order(lambda: self._arm(Plan(direction, after, how)))

    def measure(self) -> None:
        """Begin to count, and break nothing; new connections pass."""
        self._order(lambda: self._arm(None))

    def _arm(self, plan: Plan | None) -> None:
        self.count, self._plan, self._silent = Count(), plan, False
        self._forget_ended()
        self._break_if_due()

    def _forget_ended(self) -> None:
        """Close what an earlier break has left half open, for thousands of breaks would leave as many sockets."""
        for link in self._links:
            if link.ended:
                link.close()
        self._links = [link for link in self._links if not link.ended]

    def _order(self, act: Callable[[], None]) -> None:
        """Let the proxy's thread do it, and wait until it is done."""
        done = Event()
        self._orders.put((act, done))
        self._waker.send(b"!")
        assert done.wait(PATIENCE_SECONDS)

    def _serve(self) -> None:
        while not self._ended:
            ends = [] if self._silent else [end for link in self._links if link.open for end in link.ends]
            for ready in select.select([self._woken, self._listener, *ends], [], [])[0]:
                if ready is self._woken:
                    self._woken.recv(1)
                    act, done = self._orders.get()
                    act()
                    done.set()
                elif ready is self._listener:
                    self.opened += 1
                    self._links.append(_Link(ready.accept()[0], socket.create_connection(self._server)))
                else:
                    self._forward(ready)

    def _forward(self, source: Any) -> None:
        link = next(link for link in self._links if source in link.ends)
        direction = UP if source is link.client else DOWN
        if not link.open or self._silent:
            return  # broken by an earlier one of those that were ready
        data = b""
        with suppress(OSError):
            data = source.recv(min(self.chunk_bytes, self._left(direction)))
            link.other(source).sendall(data)
        if not data:
            link.close()
            return
        self.count = replace(self.count, **{direction: getattr(self.count, direction) + len(data)})
        self._break_if_due()

    def _left(self, direction: str) -> int:
        plan = self._plan
        if plan is None or plan.direction != direction:
            return 65536
        return plan.after - int(getattr(self.count, direction))

    def _break_if_due(self) -> None:
        plan = self._plan
        if plan is None or self._left(plan.direction) > 0:
            return
        self._plan = None
        self._silent = plan.how == SILENCE
        for link in self._links:
            if link.open and not self._silent:
                link.break_off(plan.how)


class _Link:
    """A client's socket and a server's."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = self.ends = client, server
        self.open = True
        self.ended = False
        for end in self.ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def other(self, source: socket.socket) -> socket.socket:
        return self.server if source is self.client else self.client

    def break_off(self, how: str) -> None:
        """The client sees a reset or an end; the server sees an end, and ends the session; or neither sees anything."""
        self.open = False
        if how == VANISH:
            return  # both ends stay as they are, and nobody reads them
        self.ended = True
        self.server.close()
        if how == CLOSE:
            self.client.shutdown(socket.SHUT_WR)  # a socket with unread bytes would reset if it were closed
            return
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()

    def close(self) -> None:
        self.open = False
        self.ended = True
        for end in self.ends:
            end.close()
