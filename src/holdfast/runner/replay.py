"""Runs an operation on canned answers, for tests without a server.

Rule: an exception among the answers is thrown in at its ``yield``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from holdfast.steps import Operation, Step

T = TypeVar("T")


def replay(operation: Operation[T], answers: Iterable[Any]) -> tuple[T, list[Step]]:
    """Give what an operation returned and the steps it asked for.

    Raises:
        AssertionError: where it asks for more steps than there are answers, or for fewer.
    """
    rest = list(answers)
    steps: list[Step] = []
    try:
        step = operation.send(None)
        while True:
            steps.append(step)
            if not rest:
                raise AssertionError(f"no answer is left for step {len(steps)}: {step!r}")
            answer = rest.pop(0)
            if isinstance(answer, BaseException):
                step = operation.throw(answer)
            else:  # a long list of rows is used up
                step = operation.send(answer.copy() if isinstance(answer, list) else answer)
    except StopIteration as done:
        if rest:
            raise AssertionError(f"{len(rest)} answers were not asked for: {rest!r}") from None
        return done.value, steps
