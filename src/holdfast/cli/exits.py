"""What the commands say by their exit code.

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | the database refused, or the work failed |
| 2 | asked wrongly: an unknown option, name, code or URL |
| 3 | the database does not answer, or its driver is missing |
| 130 | interrupted |
"""

from __future__ import annotations

from holdfast.errors import BadUrl, ConnectionFailed, DriverMissing, HoldfastError, NotSupported

DONE, FAILED, USAGE, NO_DATABASE, INTERRUPTED = 0, 1, 2, 3, 130


class Usage(Exception):
    """The command was asked wrongly; the text says what to write instead."""


def exit_code(error: BaseException) -> int:
    """The exit code that tells of an error."""
    if isinstance(error, (Usage, BadUrl, NotSupported)):
        return USAGE
    if isinstance(error, (ConnectionFailed, DriverMissing)):
        return NO_DATABASE
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED


def words_for(error: BaseException) -> str:
    """One line for people: a Holdfast error's own text, which names no user's value and no password."""
    if isinstance(error, HoldfastError):
        return f"{str(error).partition(' [')[0]}\nMore: holdfast explain {error.code}"
    return str(error)
