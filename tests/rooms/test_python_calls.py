"""What an operation costs, counted in calls, which are exact where times are not; ``python -m bench.calls`` shows them."""

from __future__ import annotations

import sys

import pytest

from bench.calls import compare, count_calls, read_stored


def test_operations_make_no_more_calls_than_they_did() -> None:
    stored = read_stored()
    if stored is None:
        pytest.skip(f"no counts are stored for Python {sys.version_info.major}.{sys.version_info.minor}")

    grown = compare(count_calls(), stored)

    assert not grown, "\n".join(grown)
