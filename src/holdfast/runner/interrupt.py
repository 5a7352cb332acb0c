"""Putting Ctrl-C off while a COMMIT or a clean-up is under way in blocking code.

Theory: Python runs the handler of a signal in the main thread between two bytecodes, and the usual one raises
`KeyboardInterrupt` there.  Raised between a COMMIT and the line that notes it, it would leave a session that
believes the opposite of what the database holds; psycopg would moreover cancel the COMMIT.  So another handler
stands in until the operation has ended, and then the signal is delivered again, to the handler that was there.
https://docs.python.org/3/library/signal.html#note-on-signal-handlers-and-exceptions

A second Ctrl-C is delivered at once.  If none comes, the connection is cut when the time is over, since somebody who
pressed Ctrl-C wants an end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib import import_module
from threading import Timer, current_thread, main_thread
from typing import Any

CLEANUP_SECONDS = 5.0
"""How long a COMMIT or a clean-up may take after the first Ctrl-C."""
_SIGINT = int(signal.SIGINT)
_SIGNAL: Any = import_module("_signal")
"""What ``signal`` wraps: its own two functions look for an enum's member each time, 9 µs for each COMMIT."""


class Shield:
    """Stands in for the handler of Ctrl-C; only the main thread needs one."""

    __slots__ = ("_cut", "_handler", "_owes", "_timer")

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut
        self._handler: Any = None
        self._timer: Timer | None = None
        self._owes = False

    def raise_up(self) -> None:
        """Put Ctrl-C off from now on."""
        if self._handler is not None or current_thread() is not main_thread():
            return
        handler = _SIGNAL.getsignal(_SIGINT)
        if callable(handler):
            self._handler = handler
            try:
                _SIGNAL.signal(_SIGINT, self._note)
            except (
                ValueError
            ):  # an interpreter that is embedded, as in mod_wsgi: its main thread hears no signals
                self._handler = None

    def spare(self) -> None:
        """Cut no more: what was to be ended has ended, and the connection may soon be another's."""
        if self._timer is not None:
            self._timer.cancel()

    def put_down(self) -> None:
        """Let Ctrl-C through again, and deliver the one that came meanwhile."""
        handler = self._handler
        if handler is None:
            return
        try:
            _SIGNAL.signal(_SIGINT, handler)
        finally:  # one that came just before has begun the time anew, and the connection may be another's by now
            self.spare()
            self._handler = None
            owes, self._owes = self._owes, False
        if owes:
            _SIGNAL.raise_signal(_SIGINT)

    def _note(self, number: int, frame: Any) -> None:
        if self._owes:
            self._owes = False
            self._handler(number, frame)
            return
        self._owes = True
        self._timer = Timer(CLEANUP_SECONDS, self._cut)
        self._timer.daemon = True
        self._timer.start()
