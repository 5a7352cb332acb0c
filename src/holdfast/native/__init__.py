"""The hottest loops, in C where a compiler was at hand and in Python elsewhere.

Rule: `pure` says what each of them does, and tests compare the two; nothing here knows a driver, a session or a
statement.  ``HOLDFAST_PURE=1`` in the environment leaves the compiled ones out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module

from holdfast.native.pure import (
    AttributeSetter,
    Initializer,
    array_blobs,
    array_bools,
    array_floats,
    array_ints,
    array_longs,
    array_moments,
    array_texts,
    changed,
    group,
    kinds,
    make_objects,
    settle,
    take,
    text_facts,
    values_at,
)

LOOPS = (
    "AttributeSetter",
    "Initializer",
    "array_blobs",
    "array_bools",
    "array_floats",
    "array_ints",
    "array_longs",
    "array_moments",
    "array_texts",
    "changed",
    "group",
    "kinds",
    "make_objects",
    "settle",
    "take",
    "text_facts",
    "values_at",
)

COMPILED = False
"""Whether the loops are compiled."""

if not os.environ.get("HOLDFAST_PURE"):
    with suppress(ImportError):
        compiled = import_module("holdfast.native._speedups")
        globals().update({name: getattr(compiled, name) for name in LOOPS})
        COMPILED = True

__all__ = [
    "COMPILED",
    "LOOPS",
    "AttributeSetter",
    "Initializer",
    "array_blobs",
    "array_bools",
    "array_floats",
    "array_ints",
    "array_longs",
    "array_moments",
    "array_texts",
    "changed",
    "group",
    "kinds",
    "make_objects",
    "settle",
    "take",
    "text_facts",
    "values_at",
]
