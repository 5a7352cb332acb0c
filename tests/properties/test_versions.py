"""Whatever sessions read in part or in whole, change, and say in statements: no committed change is lost.

All count up the same item, by the object and by statements.  What is refused is rolled back.  At the end the item holds
as many as were committed: an object that took a version newer than its values would write an old count.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update

from holdfast import (
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    Versioned,
    load_only,
    mapped_column,
    select,
)
from holdfast.errors import DatabaseBusy, SerializationFailure, StaleDataError, TransactionFailed

EXAMPLES = 5000 if os.environ.get("HOLDFAST_NIGHTLY") else 250


class Base(DeclarativeBase):
    pass


class Item(Versioned, Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    quantity: Mapped[int] = mapped_column(default=0)
    about: Mapped[int] = mapped_column(default=0, deferred=True)


class Counter:
    """A session on the item; ``hoped`` is what it has counted since its last commit: (quantity, about)."""

    def __init__(self, db: Database, *, autoflush: bool) -> None:
        self.db = db
        self.session: Session = db.session(autoflush=autoflush)
        self.item = self.session.get_one(Item, 1)
        self.hoped = (0, 0)
        self.kept = (0, 0)

    def take(self, act: Callable[[Counter], None], counts: tuple[int, int]) -> None:
        """Do something; what is refused takes all with it that was not committed."""
        try:
            act(self)
        except (StaleDataError, DatabaseBusy, SerializationFailure, TransactionFailed):
            self.rollback()
        else:
            self.hoped = self.hoped[0] + counts[0], self.hoped[1] + counts[1]

    def commit(self) -> None:
        self.session.commit()
        self.kept = self.kept[0] + self.hoped[0], self.kept[1] + self.hoped[1]
        self.hoped = (0, 0)

    def rollback(self) -> None:
        self.session.rollback()
        self.hoped = (0, 0)

    def count_object(self) -> None:
        self.item.quantity += 1

    def count_deferred(self) -> None:
        self.item.about += 1

    def count_expression(self) -> None:
        self.session.flush()  # or the expression would take the place of a count that is not written
        self.item.quantity = Item.quantity + 1
        self.session.flush()

    def count_statement(self) -> None:
        self.session.execute(update(Item).values(quantity=Item.quantity + 1))

    def rename_statement(self) -> None:
        self.session.execute(update(Item).values(name="x"))

    def rename_by_key(self) -> None:
        self.session.execute(update(Item), [{"id": 1, "name": "y"}])

    def count_by_key(self) -> None:
        """By a number that is right only where nobody else counted."""
        self.session.flush()
        values = {"id": 1, "version": self.item.version, "quantity": self.item.quantity + 1}
        self.session.execute(update(Item), [values])

    def read_part(self) -> None:
        self.session.scalars(select(Item).options(load_only(Item.name))).one()

    def read_all(self) -> None:
        self.session.scalars(select(Item)).one()

    def lock(self) -> None:
        self.session.get_one(Item, 1, with_for_update=True)

    def refresh(self) -> None:
        self.session.flush()  # it would drop what is not written
        self.session.refresh(self.item)

    def refresh_part(self) -> None:
        self.session.refresh(self.item, ["name"])

    def savepoint(self) -> None:
        with self.session.begin_nested() as savepoint:
            self.item.quantity += 1
            self.session.flush()
            savepoint.rollback()

    def detach(self) -> None:
        """What is not written comes back; what is undone later is undone for an object that has left, too."""
        self.session.expunge(self.item)
        self.session.add(self.item)

    def somebody_else(self) -> None:
        """A count that begins and is committed while this one is at work; not if that one writes."""
        with self.db.begin() as other:
            other.get_one(Item, 1).quantity += 1
        self.kept = self.kept[0] + 1, self.kept[1]


ONE, DEFERRED, NONE = (1, 0), (0, 1), (0, 0)
ACTS: list[tuple[Callable[[Counter], None], tuple[int, int]]] = [
    *[(Counter.count_object, ONE)] * 4,
    *[(Counter.somebody_else, NONE)] * 4,
    *[(Counter.commit, NONE)] * 4,
    *[(act, ONE) for act in (Counter.count_expression, Counter.count_statement, Counter.count_by_key)],
    *[(Counter.count_deferred, DEFERRED)] * 2,
    *[
        (act, NONE)
        for act in (
            *(Counter.rename_statement, Counter.rename_by_key, Counter.savepoint, Counter.detach),
            *(Counter.read_part, Counter.read_part, Counter.read_all, Counter.lock),
            *(Counter.refresh, Counter.refresh_part, Counter.rollback),
        )
    ],
]
STEPS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(ACTS)), min_size=4, max_size=14)


def lose_nothing(db: Database, steps: Any, *, autoflush: bool) -> None:
    with db.begin() as session:
        session.execute(text("DELETE FROM items"))
        session.add(Item(id=1))
    counters = [Counter(db, autoflush=autoflush) for _ in range(2)]
    for who, (act, counts) in steps:
        counters[who].take(act, counts)
    for counter in counters:
        counter.take(Counter.commit, NONE)
        counter.session.close()

    with db.session() as session:
        left = session.execute(text("SELECT quantity, about FROM items")).one()
    assert tuple(left) == tuple(map(sum, zip(*(counter.kept for counter in counters), strict=True)))


@pytest.mark.parametrize("autoflush", [True, False])
def test_no_committed_change_is_lost(tmp_path: Path, autoflush: bool) -> None:
    with Database(f"sqlite:///{tmp_path / 'test.db'}?timeout=0") as db:
        db.create_all(Base)

        @settings(max_examples=EXAMPLES, deadline=None)
        @given(STEPS)
        def check(steps: Any) -> None:
            lose_nothing(db, steps, autoflush=autoflush)

        check()
