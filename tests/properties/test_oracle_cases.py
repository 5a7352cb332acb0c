"""What the oracle once found, each as a few lines: the same work leaves the same with SQLAlchemy's ORM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.properties.oracle_sides import PostgresqlPlace, Side, sqlite_sides

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

Case = Callable[[Side], Any]
CASES: list[Case] = []
GONE = ("deleted", "detached", "transient")


def case(work: Case) -> Case:
    """Let both sides do this work on both databases."""
    CASES.append(work)
    return work


def make(side: Side, kind: str, label: str, **values: Any) -> Any:
    """A new object that is known by its label, not yet in the session."""
    made = side.objects[label] = getattr(side.models, kind)(label=label, **values)
    return made


def stage(side: Side) -> tuple[Any, ...]:
    """Two owners, an item and a profile of nobody, all with rows; nothing of them is changed."""
    found = (
        make(side, "Owner", "first"),
        make(side, "Owner", "second"),
        make(side, "Item", "item"),
        make(side, "Profile", "profile"),
    )
    side.session.add_all(found)
    side.session.commit()
    return found


# ---------------------------------------------------------------- given to an owner and taken away again


@case
def appended_and_removed(side: Side) -> None:
    first, _, item, _ = stage(side)
    first.items.append(item)
    first.items.remove(item)


@case
def appended_and_removed_by_a_new_owner(side: Side) -> None:
    _, _, item, _ = stage(side)
    owner = make(side, "Owner", "third", items=[item])
    side.session.add(owner)
    owner.items.clear()


@case
def appended_and_removed_by_an_owner_without_a_session(side: Side) -> None:
    _, _, item, _ = stage(side)
    owner = side.models.Owner(label="third")
    owner.items.append(item)
    owner.items.remove(item)


@case
def referred_and_let_go(side: Side) -> None:
    first, _, item, _ = stage(side)
    item.owner = first
    item.owner = None


@case
def let_go_by_a_collection_that_is_loaded(side: Side) -> None:
    first, _, item, _ = stage(side)
    assert first.items == []
    item.owner = first
    item.owner = None


@case
def moved_twice_and_let_go(side: Side) -> None:
    first, second, item, _ = stage(side)
    first.items.append(item)
    second.items.append(item)
    second.items.remove(item)


@case
def taken_away_and_given_to_another(side: Side) -> None:
    first, second, item, _ = stage(side)
    assert first.items == second.items == []
    first.items.append(item)
    first.items.remove(item)
    second.items.append(item)


@case
def taken_away_and_given_back(side: Side) -> None:
    first, _, item, _ = stage(side)
    first.items.append(item)
    first.items = []
    first.items = [item]


@case
def flushed_between(side: Side) -> None:
    first, _, item, _ = stage(side)
    first.items.append(item)
    side.session.flush()
    first.items.remove(item)


@case
def one_that_is_held_alone(side: Side) -> None:
    first, _, _, profile = stage(side)
    first.profile = profile
    first.profile = None


@case
def one_that_another_takes_the_place_of(side: Side) -> None:
    first, _, _, profile = stage(side)
    first.profile = profile
    first.profile = make(side, "Profile", "better")


@case
def one_that_another_pushes_away_from_its_own_side(side: Side) -> None:
    first, _, _, profile = stage(side)
    profile.owner = first
    other = make(side, "Profile", "better")
    side.session.add(other)
    other.owner = first


@case
def one_that_moves(side: Side) -> None:
    first, second, _, profile = stage(side)
    first.profile = profile
    first.profile = None
    second.profile = profile


@case
def pending_and_let_go_by_its_collection(side: Side) -> None:
    first, *_ = stage(side)
    first.items.append(make(side, "Item", "young"))
    first.items.clear()


@case
def pending_and_let_go_by_itself(side: Side) -> None:
    first, *_ = stage(side)
    young = make(side, "Item", "young", owner=first)
    side.session.add(young)
    young.owner = None


@case
def pending_and_never_owned(side: Side) -> None:
    stage(side)
    side.session.add(make(side, "Item", "young"))


@case
def of_a_pending_owner(side: Side) -> None:
    _, _, item, profile = stage(side)
    owner = make(side, "Owner", "third", items=[item], profile=profile)
    side.session.add(owner)
    owner.profile = None
    item.owner = None


@case
def expunged_after_it_was_let_go(side: Side) -> None:
    first, _, item, _ = stage(side)
    first.items.append(item)
    first.items.remove(item)
    side.session.expunge(item)


@case
def unknown_to_its_target_and_let_go(side: Side) -> None:
    first, second, *_ = stage(side)
    alone = make(side, "Lone", "alone")
    first.lone.append(alone)
    side.session.commit()
    second.lone.append(alone)
    second.lone.remove(alone)


@case
def undone_before_the_flush(side: Side) -> None:
    first, _, item, _ = stage(side)
    first.items.append(item)
    first.items.remove(item)
    side.session.rollback()
    item.label = item.label
    first.number = 1


@case
def deleted_after_a_flush_deleted_it(side: Side) -> None:
    first, _, item, _ = stage(side)
    first.items.append(item)
    side.session.flush()
    first.items.remove(item)
    side.session.flush()
    side.session.delete(item)


@case
def deleted_twice_and_given_back_by_a_savepoint(side: Side) -> str:
    _, _, item, _ = stage(side)
    side.begin_nested()
    for _ in range(2):
        side.session.delete(item)
        side.session.flush()
    side.end_nested(False)
    return side.state(item)


# ---------------------------------------------------------------- moved without being told


@case
def moved_and_left_by_its_former_owner(side: Side) -> None:
    first, second, *_ = stage(side)
    alone = make(side, "Lone", "alone")
    first.lone.append(alone)
    side.session.commit()
    assert first.lone == [alone]
    second.lone.append(alone)
    side.session.flush()
    if alone in first.lone:
        first.lone.remove(alone)


@case
def moved_before_its_former_owner_is_deleted(side: Side) -> None:
    first, second, *_ = stage(side)
    alone = make(side, "Lone", "alone")
    first.lone.append(alone)
    side.session.commit()
    assert first.lone == [alone]
    second.lone.append(alone)
    side.session.commit()
    side.session.delete(first)


@case
def moved_and_committed(side: Side) -> tuple[int, int]:
    first, second, *_ = stage(side)
    alone = make(side, "Lone", "alone")
    first.lone.append(alone)
    side.session.commit()
    assert len(first.lone) == 1
    second.lone.append(alone)
    side.session.commit()
    return len(first.lone), len(second.lone)


@case
def moved_and_undone(side: Side) -> tuple[int, int]:
    first, second, *_ = stage(side)
    first.lone.append(alone := make(side, "Lone", "alone"))
    side.session.commit()
    assert len(first.lone) == 1
    side.begin_nested()
    second.lone.append(alone)
    side.session.flush()
    side.end_nested(False)
    return len(first.lone), len(second.lone)


# ---------------------------------------------------------------- running them


@contextmanager
def postgresql_sides(url: str) -> Iterator[Any]:
    place = PostgresqlPlace(url)
    try:
        with place.sides() as sides:
            yield sides
    finally:
        place.close()


def outcome(side: Side, work: Case) -> list[Any]:
    """What the work answers; the tables and the states of the objects after a flush, and again after a commit."""
    found: list[Any] = [work(side)]
    for end in (side.session.flush, side.session.commit):
        end()
        states = {label: side.state(one) for label, one in side.objects.items()}
        found.append((side.tables(), {label: "gone" if s in GONE else s for label, s in states.items()}))
    return found


@pytest.mark.parametrize("work", CASES, ids=lambda work: work.__name__)
def test_sqlite_leaves_the_same(work: Case) -> None:
    with sqlite_sides() as (ours, theirs):
        assert outcome(ours, work) == outcome(theirs, work)


@pytest.mark.parametrize("work", CASES, ids=lambda work: work.__name__)
def test_postgresql_leaves_the_same(work: Case, postgresql_url: str) -> None:
    with postgresql_sides(postgresql_url) as (ours, theirs):
        assert outcome(ours, work) == outcome(theirs, work)
