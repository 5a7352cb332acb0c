"""Who borrowed a connection: the nearest line outside Holdfast's own files.

It is noted at every loan, so it must cost little: a few frames are looked at (0.4 µs for a session's
loan), and a code object and an instruction are kept.  No frame is kept, which would keep a program's
locals alive; the line is worked out when somebody asks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any

_HOME = f"{Path(__file__).absolute().parent.parent}{os.sep}"
_LENGTH = len(_HOME)
_own: set[str] = set()
_frame = sys._getframe

Site = tuple[CodeType, int]


def find_site() -> Site | None:
    """Give the borrower's code and instruction; to be called by the pool's ``acquire`` or ``take`` itself."""
    frame: Any = _frame(2)
    own = _own
    while frame is not None:
        code = frame.f_code
        filename = code.co_filename
        if filename not in own:
            if filename[:_LENGTH] != _HOME:
                return code, frame.f_lasti
            own.add(filename)  # only our own files: a program may make new ones without end
        frame = frame.f_back
    return None


def locate(site: Site | None) -> tuple[str, int, str]:
    """Work out file, line and function of a site."""
    if site is None:
        return "", 0, ""
    code, instruction = site
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return code.co_filename, line, code.co_qualname
    return code.co_filename, code.co_firstlineno, code.co_qualname
