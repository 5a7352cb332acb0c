"""Ctrl-C during a long statement of SQLite, which runs in C and lets no signal's handler run.

Theory: SQLite calls a progress handler now and then, and there Python may run the handlers of signals.  But what they
raise inside a callback is thrown away by the ``sqlite3`` module.  A generator that is resumed as the callback catches
it: CPython looks for signals when it resumes a generator, inside the ``try`` that stands around the ``yield``; at the
start of a function it would look outside of any.  SQLite is then told to stop, and the exception is raised where the
statement was called.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

OPERATIONS = 100_000
"""How many operations of SQLite's machine lie between two looks: about 5 ms; the looks cost nothing measurable."""


class SignalWatch:
    """Looks for signals while a statement runs, and keeps what their handlers raised."""

    __slots__ = ("_raised", "look")

    def __init__(self) -> None:
        self._raised: list[BaseException] = []
        watching = _watch(self._raised)
        next(watching)
        self.look: Callable[[], int] = watching.__next__
        """The progress handler: whether SQLite shall stop."""

    def __repr__(self) -> str:
        return f"SignalWatch({self._raised!r})"

    def reraise(self) -> None:
        """Raise what stopped the statement, if it was a signal."""
        if self._raised:
            raise self._raised.pop() from None


def _watch(raised: list[BaseException]) -> Generator[int]:
    stop = 0
    while True:
        try:
            yield stop
            stop = 0
        except GeneratorExit:
            return
        except BaseException as error:
            raised.append(error)
            stop = 1
