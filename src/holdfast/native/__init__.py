"""The hottest loops, in C where a compiler was at hand and in Python elsewhere.

Rule: `pure` says what each of them does, and tests compare the two; nothing here knows a driver, a session or a
statement.  ``HOLDFAST_PURE=1`` in the environment leaves the compiled ones out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import Any

from holdfast.native.pure import (
    AttributeSetter,
    Initializer,
    alive,
    array_blobs,
    array_bools,
    array_floats,
    array_ints,
    array_longs,
    array_moments,
    array_texts,
    changed,
    group,
    in_utc,
    kinds,
    lacking,
    make_objects,
    settle,
    take,
    text_facts,
    track,
    unique,
    values_at,
    values_of,
    write_literals,
)

_compiled: Any = None
if not os.environ.get("HOLDFAST_PURE"):
    with suppress(ImportError):
        _compiled = import_module("holdfast.native._speedups")

COMPILED = _compiled is not None
"""Whether the loops are compiled."""

__all__ = [
    "COMPILED",
    "AttributeSetter",
    "Initializer",
    "alive",
    "array_blobs",
    "array_bools",
    "array_floats",
    "array_ints",
    "array_longs",
    "array_moments",
    "array_texts",
    "changed",
    "group",
    "in_utc",
    "kinds",
    "lacking",
    "make_objects",
    "settle",
    "take",
    "text_facts",
    "track",
    "unique",
    "values_at",
    "values_of",
    "write_literals",
]

if COMPILED:
    globals().update({name: getattr(_compiled, name) for name in __all__ if name != "COMPILED"})
