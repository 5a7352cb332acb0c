"""Loaded objects that the garbage collector does not see at once: no ring of them is missed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

import pytest

from holdfast import Database, DeclarativeBase, Mapped, Session, insert, mapped_column, native, select
from holdfast.hydrate import siblings
from holdfast.hydrate.siblings import Nursery

compiled = pytest.mark.skipif(
    not native.COMPILED, reason="objects made in Python are seen by the collector from the beginning"
)


class Base(DeclarativeBase):
    pass


class Node(Base):
    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def db() -> Iterator[Database]:
    with Database("sqlite://") as db:
        db.create_all(Base)
        with db.begin() as session:
            session.execute(insert(Node), [{"id": n, "name": f"n{n}"} for n in range(1, 11)])
        yield db


@pytest.fixture
def quiet() -> Iterator[None]:
    """The collector comes only when it is called."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _nodes(session: Session) -> list[Node]:
    return list(session.scalars(select(Node).order_by(Node.id)).all())


def _tie(nodes: list[Node]) -> ref[Node]:
    """Make a ring of what no session would: plain attributes."""
    one: Any = nodes[0]
    other: Any = nodes[1]
    one.other, other.other = other, one
    return ref(nodes[0])


@compiled
@pytest.mark.usefixtures("quiet")
def test_objects_that_die_young_are_never_seen(db: Database) -> None:
    with db.session() as session:
        nodes = _nodes(session)

        assert not any(gc.is_tracked(node) for node in nodes)
        gc.collect(0)
        assert not any(gc.is_tracked(node) for node in nodes)
        gone = ref(nodes[0])
        del nodes
        assert gone() is None  # freed by its last reference


@pytest.mark.usefixtures("quiet")
def test_a_ring_is_freed_by_a_full_collection(db: Database) -> None:
    with db.session() as session:
        gone = _tie(_nodes(session))
    assert gone() is not None

    gc.collect()

    assert gone() is None


def _stay(session: Session) -> None:
    """The objects stay as they were loaded."""


def _go_to_another_batch(session: Session) -> None:
    """In a later transaction the same objects have other siblings."""
    session.commit()
    _nodes(session)


def _leave(session: Session) -> None:
    session.expunge_all()


@pytest.mark.parametrize("happens", [_stay, _go_to_another_batch, _leave])
@pytest.mark.usefixtures("quiet")
def test_a_ring_is_freed_by_the_middle_generation(db: Database, happens: Callable[[Session], None]) -> None:
    with db.session() as session:
        nodes = _nodes(session)
        happens(session)
        gone = _tie(nodes)
        del nodes
    assert gone() is not None

    gc.collect(1)
    gc.collect(1)

    assert gone() is None


@pytest.mark.usefixtures("quiet")
def test_a_session_that_was_forgotten_open_is_freed_with_its_changes(db: Database) -> None:
    session = db.session()
    nodes = _nodes(session)
    nodes[0].name = "other"
    session.holder = nodes[0]  # type: ignore[attr-defined]
    gone = ref(nodes[1])
    one: Any = nodes[1]
    one.session = session

    del session, nodes, one
    gc.collect()

    assert gone() is None


@compiled
@pytest.mark.usefixtures("quiet")
def test_what_lives_on_is_seen(db: Database) -> None:
    with db.session() as session:
        nodes = _nodes(session)
        gc.collect(1)
        assert not gc.is_tracked(nodes[0])
        gc.collect(1)
        assert gc.is_tracked(nodes[0])
        again = _nodes(session)
        gc.collect()
        assert all(gc.is_tracked(node) for node in again)


def test_results_that_are_gone_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    nursery = Nursery()
    kept = []
    for n in range(10 * siblings.MANY):
        made = nursery.new_siblings()
        if n % 100 == 0:
            kept.append(made)

    assert len(nursery._young) <= 2 * siblings.MANY
    assert [one() for one in nursery._young if one() is not None] == [*kept, made][: len(kept) + 1]


@compiled
def test_the_first_change_is_noted_as_the_session_notes_it(db: Database) -> None:
    with db.session() as one, db.session() as other:
        changed, noted = _nodes(one), _nodes(other)
        one._core.frame, other._core.frame
        for node, twin in zip(changed, noted, strict=True):
            node.name = "x"
            other._core.note_change(twin, "name")
            twin.__dict__["name"] = "x"

        def seen(session: Session, nodes: list[Node]) -> Any:
            core, frame = session._core, session._core.frame
            return [
                (
                    core.dirty[id(node)].originals,
                    core.dirty[id(node)].instance is node,
                    frame.saved[id(node)][0] is node,
                    {**frame.saved[id(node)][1], "_holdfast": None},
                    frame.saved[id(node)][2],
                )
                for node in nodes
            ]

        assert seen(one, changed) == seen(other, noted)
        one.rollback()
        assert [node.name for node in changed] == [f"n{n}" for n in range(1, 11)]
