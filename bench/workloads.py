"""What is measured, and the proof that each system really did it.

A system answers each workload by a method of the same name.  Whatever it answers goes through the check here
once, before anything is timed, so that nobody wins by doing less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, cycle
from typing import Any

from bench.schema import ALL, AUTHORS, POSTS_EACH, USERS, make_people

PEOPLE = make_people()
_TURNS = count(1)


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table.

    ``operations`` are timed together in one round.  ``arguments`` are made, and ``before`` is called, outside
    the timing; ``check`` gets the answer of one operation, its arguments, the system and its admin.
    """

    name: str
    title: str
    operations: int
    check: Callable[..., None]
    arguments: Callable[[int], Iterator[tuple[Any, ...]]] = lambda operations: iter([()] * operations)
    before: Callable[[Any], None] = lambda admin: None
    needs_state: bool = False


def _same_person(system: Any, found: Any, number: int) -> None:
    values = system.values(found, ALL)
    expected = (number, *PEOPLE[number - 1])
    moment = datetime.fromisoformat(values[4]) if isinstance(values[4], str) else values[4]
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    assert (*values[:4], moment, *values[5:]) == expected, (system.name, values, expected)


def _check_one(system: Any, admin: Any, found: Any, wanted: Any) -> None:
    number = wanted if isinstance(wanted, int) else int(wanted.removeprefix("user").split("@")[0])
    _same_person(system, found, number)


def _check_rows(system: Any, admin: Any, found: Any) -> None:
    assert len(found) == USERS, (system.name, len(found))
    for number, one in enumerate(found, 1):
        _same_person(system, one, number)


def _check_graph(system: Any, admin: Any, found: Any) -> None:
    assert len(found) == AUTHORS, (system.name, len(found))
    seen = set()
    for number, (user, posts) in enumerate(found, 1):
        _same_person(system, user, number)
        assert len(posts) == POSTS_EACH, (system.name, number, len(posts))
        for post in posts:
            key, title, author = system.values_of_post(post, ("id", "title", "author_id"))
            assert (title, author) == (f"Title {key}", number), (system.name, key, title, author)
            seen.add(key)
    assert len(seen) == AUTHORS * POSTS_EACH


def _check_insert(system: Any, admin: Any, found: Any, people: Any) -> None:
    lying = dict(admin.query("SELECT id, email FROM bench_signups"))
    assert len(found) == len(set(found)) == len(lying) == len(people), (system.name, len(found), len(lying))
    assert [lying[key] for key in found] == [row[0] for row in people], f"{system.name}: keys out of order"


def _check_update(system: Any, admin: Any, found: Any, turn: int, state: Any) -> None:
    lying = admin.query("SELECT id, name, score FROM bench_members ORDER BY id")
    expected = [(key, f"Turn {turn} of {key}", key + turn / 2) for key in range(1, USERS + 1)]
    assert lying == expected, (system.name, lying[:2], expected[:2])


def _keys(operations: int) -> Iterator[tuple[int]]:
    return ((key,) for key, _ in zip(cycle(range(1, USERS + 1, 37)), range(operations), strict=False))


def _emails(operations: int) -> Iterator[tuple[str]]:
    return ((PEOPLE[key - 1][0],) for (key,) in _keys(operations))


WORKLOADS = (
    Workload("get", "get by key, a session each", 100, _check_one, _keys),
    Workload("by_column", "one row by an indexed column, statement built each time", 100, _check_one, _emails),
    Workload("rows", "1,000 rows of 8 columns as tracked objects", 10, _check_rows),
    Workload("graph_planned", "100 users with 1,000 posts, planned", 10, _check_graph),
    Workload("graph_touched", "100 users with 1,000 posts, by touching", 10, _check_graph),
    Workload(
        "insert", "insert 1,000 objects, keys back, committed", 1, _check_insert,
        arguments=lambda _: iter([(PEOPLE,)]), before=lambda admin: admin.empty_signups(),
    ),
    Workload(
        "update", "update 1,000 changed objects, committed", 1, _check_update,
        arguments=lambda _: iter([(next(_TURNS),)]), before=lambda admin: admin.tidy_members(), needs_state=True,
    ),
)  # fmt: skip
