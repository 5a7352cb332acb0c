"""Whatever two sessions read in part or in whole, change, and say in statements: no committed change is lost.

Both count up the same item, by the object and by statements.  What is refused is rolled back.  At the end the item
holds as many as were committed: an object that took a version newer than its values would write an old count.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
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

WHO = st.integers(0, 1)


class Base(DeclarativeBase):
    pass


class Item(Versioned, Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    quantity: Mapped[int] = mapped_column(default=0)
    about: Mapped[int] = mapped_column(default=0, deferred=True)


class Versions(RuleBasedStateMachine):
    """Two sessions on one item; ``hoped`` is what each has done since its last commit."""

    @initialize(autoflush=st.booleans())
    def begin(self, autoflush: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.db = Database(f"sqlite:///{Path(self.folder.name) / 'test.db'}?timeout=0")
        self.db.create_all(Base)
        with self.db.begin() as session:
            session.add(Item(id=1))
        self.sessions = [self.db.session(autoflush=autoflush) for _ in range(2)]
        self.items: list[Any] = [session.get_one(Item, 1) for session in self.sessions]
        self.hoped = [[0, 0], [0, 0]]
        self.kept = [0, 0]

    def teardown(self) -> None:
        for session in getattr(self, "sessions", ()):
            session.close()
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()

    def attempt(self, who: int, act: Any, quantity: int = 0, about: int = 0) -> None:
        """Do something; what is refused takes all with it that was not committed."""
        session = self.sessions[who]
        try:
            act(session, self.items[who])
        except (StaleDataError, DatabaseBusy, SerializationFailure, TransactionFailed):
            session.rollback()
            self.hoped[who] = [0, 0]
        else:
            self.hoped[who][0] += quantity
            self.hoped[who][1] += about

    @rule(who=WHO)
    def count_by_object(self, who: int) -> None:
        def act(_: Session, item: Item) -> None:
            item.quantity += 1

        self.attempt(who, act, quantity=1)

    @rule(who=WHO)
    def count_what_is_deferred(self, who: int) -> None:
        def act(_: Session, item: Item) -> None:
            item.about += 1

        self.attempt(who, act, about=1)

    @rule(who=WHO)
    def count_by_expression(self, who: int) -> None:
        """Written at once: an expression in place of a count that is not written would drop it."""

        def act(session: Session, item: Item) -> None:
            session.flush()
            item.quantity = Item.quantity + 1
            session.flush()

        self.attempt(who, act, quantity=1)

    @rule(who=WHO, flushed=st.booleans())
    def count_by_statement(self, who: int, flushed: bool) -> None:
        def act(session: Session, _: Item) -> None:
            if flushed:
                session.flush()
            session.execute(update(Item).values(quantity=Item.quantity + 1))

        self.attempt(who, act, quantity=1)

    @rule(who=WHO)
    def rename_by_statement(self, who: int) -> None:
        self.attempt(who, lambda s, _: s.execute(update(Item).values(name="x")))

    @rule(who=WHO)
    def rename_by_key(self, who: int) -> None:
        self.attempt(who, lambda s, _: s.execute(update(Item), [{"id": 1, "name": "y"}]))

    @rule(who=WHO)
    def rename_by_object(self, who: int) -> None:
        self.attempt(who, lambda _, item: setattr(item, "name", item.name + "z"))

    @rule(who=WHO)
    def read_a_part(self, who: int) -> None:
        self.attempt(who, lambda s, _: s.scalars(select(Item).options(load_only(Item.name))).one())

    @rule(who=WHO)
    def read_all(self, who: int) -> None:
        self.attempt(who, lambda s, _: s.scalars(select(Item)).one())

    @rule(who=WHO)
    def lock(self, who: int) -> None:
        self.attempt(who, lambda s, _: s.get_one(Item, 1, with_for_update=True))

    @rule(who=WHO)
    def refresh_a_part(self, who: int) -> None:
        self.attempt(who, lambda s, item: s.refresh(item, ["name"]))

    @rule(who=WHO)
    def flush(self, who: int) -> None:
        self.attempt(who, lambda s, _: s.flush())

    @rule(who=WHO)
    def undo_a_savepoint(self, who: int) -> None:
        def act(session: Session, item: Item) -> None:
            with session.begin_nested() as savepoint:
                item.quantity += 1
                session.flush()
                savepoint.rollback()

        self.attempt(who, act)

    @rule(who=WHO)
    def detach_and_return(self, who: int) -> None:
        """What is not flushed goes with the object; what is flushed is committed first."""

        def act(session: Session, item: Item) -> None:
            self._commit(who)
            session.expunge(item)
            session.add(item)

        self.attempt(who, act)

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        self.attempt(who, lambda *_: self._commit(who))

    def _commit(self, who: int) -> None:
        self.sessions[who].commit()
        self.kept = [kept + hoped for kept, hoped in zip(self.kept, self.hoped[who], strict=True)]
        self.hoped[who] = [0, 0]

    @rule(who=WHO)
    def rollback(self, who: int) -> None:
        self.sessions[who].rollback()
        self.hoped[who] = [0, 0]

    @rule(who=WHO)
    def refresh_after_rollback(self, who: int) -> None:
        """After this nobody need be refused for what is past."""
        self.rollback(who)
        self.attempt(who, lambda s, item: s.refresh(item))

    @invariant()
    def nothing_committed_is_lost(self) -> None:
        with self.db.session() as session:
            row = session.execute(text("SELECT quantity, about FROM items")).one()
        assert list(row) == self.kept


TestVersions = Versions.TestCase
TestVersions.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
