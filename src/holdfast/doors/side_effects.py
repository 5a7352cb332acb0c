"""What a unit of work did outside the database, found by Python's audit events; for development.

Theory: an attempt that is undone and runs again does twice what no rollback undoes: a mail, a request, a file.  Python
tells such things to audit hooks (https://docs.python.org/3/library/audit_events.html).  The hook is put up by the first
unit that is watched, and never before, for it cannot be taken down and hears of every event of the process.

Limits: bytes sent on a socket that was open already are no event, unless ``http.client``, ``smtplib`` or the like send
them; and what C libraries do is none.  What Holdfast does itself, such as connecting, is not noted.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from holdfast.errors import SideEffectReplayed

EVENTS = frozenset(
    [
        "socket.connect",
        "socket.sendto",
        "socket.sendmsg",
        "http.client.send",
        "urllib.Request",
        "smtplib.send",
        "ftplib.sendcmd",
        "imaplib.send",
        "poplib.putline",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.kill",
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "shutil.move",
        "shutil.rmtree",
        "shutil.copyfile",
        "webbrowser.open",
    ]
)
"""Besides ``open``, which counts where it may write."""
_WRITES = os.O_WRONLY | os.O_RDWR
_HOLDFAST = f"{Path(__file__).resolve().parents[1]}{os.sep}"
_DOORS = f"{_HOLDFAST}doors{os.sep}"
_LIBRARIES = tuple(
    {f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


class Effect(NamedTuple):
    """Where something was done outside the database, and the audit event that told of it."""

    filename: str
    line: int
    module: str
    event: str


_told: dict[Any, Any] = {}
"""What warnings keeps in order to say each line once, where its filter says so; any change of a filter empties it, also
that of a library's ``catch_warnings``, and then a line is said again."""
_noted: ContextVar[list[Effect] | None] = ContextVar("holdfast_side_effects", default=None)


@contextmanager
def watching(noted: list[Effect]) -> Iterator[None]:
    """Note the effects of this task or thread, and of tasks it starts."""
    _listen()
    token = _noted.set(noted)
    try:
        yield
    finally:
        _noted.reset(token)


@cache
def _listen() -> None:
    sys.addaudithook(_hear)


def warn_of(noted: list[Effect]) -> None:
    """Warn of each line once, and forget them."""
    lines: dict[tuple[str, int], Effect] = {}
    for effect in noted:
        lines.setdefault((effect.filename, effect.line), effect)
    noted.clear()
    for effect in lines.values():
        warning = SideEffectReplayed(**effect._asdict())
        warnings.warn_explicit(warning, None, effect.filename, effect.line, effect.module, _told)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event not in EVENTS and (event != "open" or not _may_write(args)):
        return
    noted = _noted.get()
    if noted is None:
        return
    frame = _find_frame(sys._getframe(1))
    if frame is not None:
        module = frame.f_globals.get("__name__", "")
        noted.append(Effect(frame.f_code.co_filename, frame.f_lineno, module, event))


def _may_write(args: tuple[Any, ...]) -> bool:
    _, mode, flags = args
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITES)


def _find_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the user's own code; else the last of a library before the unit began.

    None where Holdfast itself or an import was at work, or nobody who was asked to.
    """
    last: FrameType | None = None
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith("<frozen importlib"):
            return None
        if filename.startswith(_HOLDFAST):
            return last if filename.startswith(_DOORS) and frame.f_code.co_name == "_call" else None
        if not filename.startswith((*_LIBRARIES, "<frozen")):
            return frame
        last, frame = frame, frame.f_back
    return None
