"""The oracle: random work done with Holdfast and with SQLAlchemy's ORM leaves the same tables.

After each flush the tables are compared, and after each step what state objects are in and what the relations that
both have in memory hold.  After a commit Holdfast's memory must be what its tables say, since nothing expires there;
after a rollback it must be what it was at the last commit, without a statement.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.properties.oracle_async import AsyncPostgresqlPlace, async_sqlite_sides
from tests.properties.oracle_models import KINDS
from tests.properties.oracle_sides import MariadbPlace, PostgresqlPlace, Side, sqlite_sides

NIGHTLY = bool(os.environ.get("HOLDFAST_NIGHTLY"))

LISTS = {
    ("Owner", "items"): "Item",
    ("Owner", "loose"): "Loose",
    ("Owner", "quiet"): "Quiet",
    ("Owner", "lone"): "Lone",
    ("Owner", "tags"): "Tag",
    ("Tag", "owners"): "Owner",
    ("Node", "children"): "Node",
    ("Branch", "children"): "Branch",
    ("Shelf", "books"): "Book",
}
TO_ONE = {
    ("Owner", "profile"): "Profile",
    ("Owner", "badge"): "Badge",
    ("Owner", "favorite"): "Item",
    ("Item", "owner"): "Owner",
    ("Loose", "owner"): "Owner",
    ("Quiet", "owner"): "Owner",
    ("Profile", "owner"): "Owner",
    ("Node", "parent"): "Node",
    ("Branch", "parent"): "Branch",
    ("Book", "shelf"): "Shelf",
}
KEYS = {  # a foreign key set as a plain value: (attribute, target, its key)
    "Item": ("owner_id", "Owner", "id"),
    "Loose": ("owner_id", "Owner", "id"),
    "Quiet": ("owner_id", "Owner", "id"),
    "Owner": ("badge_code", "Badge", "code"),
    "Node": ("parent_id", "Node", "id"),
    "Profile": ("owner_id", "Owner", "id"),
}
ONE_WAY = {("Owner", "lone")}  # its targets leave without telling it
GONE = {
    "deleted": "gone",
    "detached": "gone",
    "transient": "gone",
}  # an orphan may have been flushed, or not yet
PLAIN_KINDS = tuple(kind for kind in KINDS if kind not in ("Lone", "Membership"))

picks = st.integers(0, 40)
small = st.integers(0, 5)


class Oracle(RuleBasedStateMachine):
    """Each rule does one thing on both sides."""

    open_sides: ClassVar[Callable[[], Any]]
    reads_first: ClassVar[bool] = False  # an async session does not load what an assignment replaces

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.ours, self.theirs = self.stack.enter_context(type(self).open_sides())
        self.sides: tuple[Side, Side] = (self.ours, self.theirs)
        self.count = 0
        self.kinds: dict[str, str] = {}
        self.saved: dict[str, Any] = {}
        self.renamed: dict[str, int] = {}  # by label: within how many savepoints its key was changed

    def teardown(self) -> None:
        self.stack.close()

    # ------------------------------------------------------------ both at once

    def both(self, act: Callable[[Any], Any]) -> Any:
        """Do it on both sides; where one refuses, the other must refuse by its next flush."""
        answers: list[Any] = []
        failures: list[BaseException | None] = []
        for side in self.sides:
            try:
                answers.append(act(side))
                failures.append(None)
            except side.errors as error:
                answers.append(None)
                failures.append(error)
        if any(failures):
            self._must_fail_too(failures)
            self._roll_back()
            return None
        assert answers[0] == answers[1], f"Holdfast answers {answers[0]!r}, SQLAlchemy {answers[1]!r}"
        return answers[0]

    def _must_fail_too(self, failures: list[BaseException | None]) -> None:
        for place, side in enumerate(self.sides):
            if failures[place] is None:
                try:
                    side.session.flush()
                except side.errors as error:
                    failures[place] = error
        ours, theirs = failures
        assert ours is not None, f"SQLAlchemy refused this and Holdfast did not: {theirs!r}"
        assert theirs is not None, f"Holdfast refused this and SQLAlchemy did not: {ours!r}"

    def _roll_back(self) -> None:
        before = len(self.ours.statements)
        for side in self.sides:
            side.session.rollback()
            side.savepoints.clear()
        self.renamed.clear()
        for label, held in self.saved.items():
            if label in self.ours.objects:
                self._same_as_saved(label, held)
        said = [s for s in self.ours.statements[before:] if s != "ROLLBACK"]
        assert said == []
        self._forget_gone()
        self._compare_tables()
        self._compare_memory()

    def _same_as_saved(self, label: str, held: dict[str, Any]) -> None:
        from tests.properties.oracle_sides import _copied

        now = _copied(self.ours.objects[label])
        both = now.keys() & held.keys()
        assert {name: now[name] for name in both} == {name: held[name] for name in both}, label

    # ------------------------------------------------------------ comparing

    def _compare_tables(self) -> None:
        self._compare_states()
        ours, theirs = (side.tables() for side in self.sides)
        for name in theirs:
            for label in ours[name].keys() | theirs[name].keys():
                row, wanted = ours[name].get(label), theirs[name].get(label)
                assert row == wanted, f"{label} of {name} is {row} and should be {wanted}"

    def _compare_memory(self) -> None:
        """Holdfast's objects hold what the tables say."""
        expected = self.ours.expected()
        for table, objects in self.ours.memory().items():
            for label, held in objects.items():
                wanted = expected[table][label]
                for name, value in held.items():
                    if (self.kinds[label], name) not in ONE_WAY:
                        assert value == wanted[name], f"{label}.{name}"

    def _forget_gone(self) -> None:
        """Objects without a row, and those of the server's own cascades, are out of the game."""
        tables = self.ours.tables()
        known = {label for rows in tables.values() for label in rows}
        for label in {*self.ours.objects, *self.theirs.objects}:
            if (
                label in known
                and label in self.theirs.objects
                and self.theirs.state(self.theirs.objects[label]) == "persistent"
            ):
                continue
            for side in self.sides:
                gone = side.objects.pop(label, None)
                if gone is not None and side.state(gone) in ("persistent", "pending"):
                    side.session.expunge(gone)

    def _forget_deleted_by_the_server(self) -> None:
        rows = self.ours.tables()["quiet"]
        for label in [label for label in self.alive("Quiet", "persistent") if label not in rows]:
            for side in self.sides:
                side.session.expunge(side.objects.pop(label))

    def _compare_states(self) -> None:
        for label in self.theirs.objects:
            ours, theirs = (GONE.get(s := side.state(side.objects[label]), s) for side in self.sides)
            assert ours == theirs, f"{label} is {ours} and should be {theirs}"

    @invariant()
    def same_relations(self) -> None:
        self.theirs.read_again()
        for label, instance in self.theirs.objects.items():
            if not self.is_alive(label):
                continue
            ours = self.ours.relations(self.ours.objects[label])
            theirs = self.theirs.relations(instance)
            for name in theirs.keys() & ours.keys() - {
                "profile"
            }:  # SQLAlchemy leaves the old owner's as it was
                held = self._names(ours[name], self.ours), self._names(theirs[name], self.theirs)
                assert held[0] == held[1], f"{label}.{name}: {held[0]} and should be {held[1]}"

    def _names(self, held: Any, side: Any) -> Any:
        """The labels of what a relation holds; SQLAlchemy keeps deleted objects there until it expires."""
        with side.session.no_autoflush:  # SQLAlchemy may have to read the label again
            if isinstance(held, list):
                return sorted(str(side.label(one)) for one in held if side.stays(one))
            return side.label(held) if held is not None and side.stays(held) else None

    # ------------------------------------------------------------ choosing

    def alive(self, kind: str, *states: str) -> list[str]:
        return [
            label
            for label in self.theirs.objects
            if self.kinds[label] == kind and self.is_alive(label, *states)
        ]

    def is_alive(self, label: str, *states: str) -> bool:
        """Whether an object is in one of the states on both sides, and not marked to be deleted."""
        return all(
            side.state(one := side.objects[label]) in (states or ("persistent", "pending"))
            and side.stays(one)
            for side in self.sides
        )

    def choose(self, kind: str, pick: int, *states: str) -> str | None:
        labels = self.alive(kind, *states)
        return labels[pick % len(labels)] if labels else None

    def choose_movable(self, kind: str, pick: int) -> str | None:
        """SQLAlchemy throws a pending object out of the session when it moves from one owner to another."""
        return self.choose(kind, pick, *(["persistent"] if kind in ("Item", "Profile", "Lone") else []))

    def may_hold(self, kind: str, name: str, owner: str, target: str) -> bool:
        """Trees grow downwards only, so that there is no circle of rows."""
        if name == "parent":
            return int(target[6:]) < int(owner[6:])
        return name != "children" or int(owner[6:]) < int(target[6:])

    def make(self, kind: str) -> tuple[str, dict[str, Any]]:
        self.count += 1
        label = f"{kind[:6]:_<6}{self.count}"
        self.kinds[label] = kind
        values: dict[str, Any] = {"label": label}
        if kind in ("Badge", "Tag"):
            values["code"] = f"k{self.count}"
        if kind == "Shelf":
            values |= {"room": f"r{self.count % 3}", "place": self.count}
        return label, values

    def new(self, side: Side, kind: str, label: str, values: dict[str, Any]) -> Any:
        made = side.objects[label] = getattr(side.models, kind)(**values)
        return made

    # ------------------------------------------------------------ rules: making

    @initialize()
    def begin(self) -> None:
        for kind in (*PLAIN_KINDS, "Owner", "Tag", "Node", "Branch", "Item"):
            label, values = self.make(kind)
            self.both(lambda s, k=kind, n=label, v=values: s.session.add(self.new(s, k, n, v)))
        self._commit()

    @rule(kind=st.sampled_from(PLAIN_KINDS))
    def add(self, kind: str) -> None:
        label, values = self.make(kind)
        self.both(lambda s: s.session.add(self.new(s, kind, label, values)))

    @rule(size=small, data=st.sampled_from([None, {}, {"a": 1}]))
    def add_graph(self, size: int, data: Any) -> None:
        lists = [(kind, name) for (owner, name), kind in LISTS.items() if owner == "Owner"]
        plan = [(*self.make(kind), kind, name) for kind, name in lists[:size]]
        label, values = self.make("Owner")

        def act(side: Side) -> None:
            held = {name: [self.new(side, kind, n, v)] for n, v, kind, name in plan}
            side.session.add_all(
                [
                    self.new(
                        side, "Owner", label, values | held | {"data": None if data is None else dict(data)}
                    )
                ]
            )

        self.both(act)

    @rule(size=small)
    def add_tree(self, size: int) -> None:
        plan = [self.make("Branch") for _ in range(size + 1)]

        def act(side: Side) -> None:
            made = [self.new(side, "Branch", label, values) for label, values in plan]
            for place, one in enumerate(made[1:]):
                made[place // 2].children.append(one)
            side.session.add(made[0])

        self.both(act)

    @rule(place=st.sampled_from(sorted(LISTS)), owner=picks)
    def append_new(self, place: tuple[str, str], owner: int) -> None:
        holder = self.choose(place[0], owner)
        if holder is not None:
            label, values = self.make(LISTS[place])
            self.both(
                lambda s: s.read(s.objects[holder], place[1]).append(self.new(s, LISTS[place], label, values))
            )

    @rule(owner=picks, tag=picks, by_list=st.booleans())
    def join(self, owner: int, tag: int, by_list: bool) -> None:
        holder, target = self.choose("Owner", owner), self.choose("Tag", tag)
        if holder is None or target is None:
            return
        label, values = self.make("Membership")

        def act(side: Side) -> None:
            made = self.new(side, "Membership", label, values | {"tag": side.objects[target]})
            if by_list:
                side.read(side.objects[holder], "memberships").append(made)
            else:
                made.owner = side.objects[holder]
                side.session.add(made)

        self.both(act)

    # ------------------------------------------------------------ rules: changing

    @rule(owner=picks, number=st.none() | small)
    def set_number(self, owner: int, number: int | None) -> None:
        label = self.choose("Owner", owner)
        if label is not None:
            self.both(lambda s: setattr(s.objects[label], "number", number))

    @rule(owner=picks, name=st.sampled_from("ab"), value=small)
    def change_json(self, owner: int, name: str, value: int) -> None:
        label = self.choose("Owner", owner)

        def act(side: Side) -> None:
            instance = side.objects[label]
            if instance.data is None:
                instance.data = {}
            instance.data[name] = value

        if label is not None:
            self.both(act)

    @rule(kind=st.sampled_from(["Badge", "Tag", "Shelf"]), pick=picks)
    def change_key(self, kind: str, pick: int) -> None:
        label = self.choose(kind, pick)
        if kind == "Tag" and "Membership" in {self.kinds[label] for label in self.theirs.objects}:
            return  # SQLAlchemy loses objects whose own key the server renames
        depth = len(self.ours.savepoints)
        if label is not None and self.renamed.setdefault(label, depth) < depth:
            return  # a released savepoint makes SQLAlchemy forget the key from before; a rollback then finds no row
        if label is not None:
            self.count += 1
            name = "room" if kind == "Shelf" else "code"

            def act(side: Any) -> None:
                side.session.flush()  # in one flush with other work SQLAlchemy looks for rows under the old key
                setattr(side.objects[label], name, f"n{self.count}")
                side.session.flush()

            self.both(act)

    @rule(place=st.sampled_from(sorted(LISTS)), owner=picks, other=picks)
    def append(self, place: tuple[str, str], owner: int, other: int) -> None:
        kind, name = place
        holder, member = self.choose(kind, owner), self.choose_movable(LISTS[place], other)
        if holder is None or member is None or not self.may_hold(kind, name, holder, member):
            return
        self.both(lambda s: self._names(s.read(s.objects[holder], name), s) and None)
        if not self.is_alive(member):
            return  # the read has flushed there, because it had to load, and it was an orphan

        def act(side: Side) -> bool:
            self._flush_before_a_move(side, place)
            held = side.read(side.objects[holder], name)
            known = side.objects[member] in held
            if not known:
                held.append(side.objects[member])
            return known

        self.both(act)

    def _flush_before_a_move(self, side: Side, place: tuple[str, str]) -> None:
        """Of two owners that claim a target within one flush, SQLAlchemy lets chance decide who has it."""
        if place in ONE_WAY:
            side.session.flush()

    @rule(place=st.sampled_from(sorted(LISTS)), owner=picks, pick=picks)
    def remove(self, place: tuple[str, str], owner: int, pick: int) -> None:
        kind, name = place
        holder = self.choose(kind, owner)

        def act(side: Side) -> str | None:
            found = side.read(side.objects[holder], name)
            there = [
                one for one in found if side.state(one) in ("pending", "persistent")
            ]  # SQLAlchemy keeps the gone
            held = sorted(there, key=lambda o: str(side.label(o)))
            if not held:
                return None
            getattr(side.objects[holder], name).remove(held[pick % len(held)])
            return side.label(held[pick % len(held)])

        if holder is not None:
            self.both(act)

    @rule(
        place=st.sampled_from(sorted(LISTS)),
        owner=picks,
        others=st.lists(picks, max_size=3),
        clear=st.booleans(),
    )
    def replace(self, place: tuple[str, str], owner: int, others: list[int], clear: bool) -> None:
        kind, name = place
        holder = self.choose(kind, owner)
        if holder is None:
            return
        chosen = {self.choose_movable(LISTS[place], target) for target in others} - {None}
        members = sorted(m for m in chosen if m is not None and self.may_hold(kind, name, holder, m))

        def act(side: Side) -> None:
            self._flush_before_a_move(side, place)
            if clear or self.reads_first:
                held = side.read(side.objects[holder], name)
            if clear:
                held.clear()
            else:
                setattr(side.objects[holder], name, [side.objects[m] for m in members])

        self.both(act)

    @rule(place=st.sampled_from(sorted(TO_ONE)), owner=picks, other=st.none() | picks)
    def set_target(self, place: tuple[str, str], owner: int, other: int | None) -> None:
        kind, name = place
        holder = self.choose_movable(kind, owner)
        member = None if other is None else self.choose_movable(TO_ONE[place], other)
        if holder is None or (member is not None and not self.may_hold(kind, name, holder, member)):
            return

        def act(side: Any) -> None:
            if "Profile" in (kind, TO_ONE[place]):
                side.session.flush()  # moved twice in one flush, SQLAlchemy lets chance decide who has it
            if kind == "Profile":
                side.know_former_owner(side.objects[holder])
                if member:
                    side.read(
                        side.objects[member], "profile"
                    )  # not loaded, both leave two profiles to one owner
            if self.reads_first:
                side.read(side.objects[holder], name)
            setattr(side.objects[holder], name, member and side.objects[member])

        self.both(act)

    @rule(kind=st.sampled_from(sorted(KEYS)), owner=picks, other=st.none() | picks)
    def set_key(self, kind: str, owner: int, other: int | None) -> None:
        name, target_kind, key = KEYS[kind]
        holder = self.choose(kind, owner)
        member = None if other is None else self.choose(target_kind, other, "persistent")
        if holder is None or (
            member and kind == "Node" and not self.may_hold(kind, "parent", holder, member)
        ):
            return

        def act(side: Any) -> None:
            side.session.flush()  # a relation that was set wins over its key
            setattr(side.objects[holder], name, member and getattr(side.objects[member], key))
            side.session.flush()
            side.forget_relations()

        self.both(act)

    @rule(kind=st.sampled_from(KINDS), pick=picks)
    def delete(self, kind: str, pick: int) -> None:
        label = self.choose(kind, pick, "persistent")
        if label is not None:

            def act(side: Any) -> None:
                side.session.flush()  # SQLAlchemy inserts what refers to the deleted, if both are in one flush
                side.session.delete(side.objects[label])

            self.both(act)
        if label is not None and kind == "Owner":
            self.both(lambda s: s.session.flush())
            self._forget_deleted_by_the_server()

    @rule(
        pick=picks,
        number=small,
        tags=st.none() | st.lists(picks, max_size=2),
        size=st.none() | small,
        known=st.booleans(),
    )
    def merge(self, pick: int, number: int, tags: list[int] | None, size: int | None, known: bool) -> None:
        label = self.choose("Owner", pick, "persistent") if known else None
        if label is None:
            label, _ = self.make("Owner")
            known = False
        labels = (
            None
            if tags is None
            else sorted({t for t in (self.choose("Tag", p, "persistent") for p in tags) if t})
        )
        items = None if size is None else [self.make("Item") for _ in range(size // 2)]

        def act(side: Side) -> None:
            models, values = side.models, {"label": label, "number": number}
            if known:
                values["id"] = side.objects[label].id
            copy = models.Owner(**values)
            if labels is not None:
                copy.tags = [models.Tag(code=side.objects[t].code, label=t) for t in labels]
            if items is not None:
                copy.items = [models.Item(**v) for _, v in items]
            merged = side.objects[label] = side.session.merge(copy)
            if items is not None:
                side.objects |= {one.label: one for one in merged.items}

        self.both(act)

    # ------------------------------------------------------------ rules: asking

    @rule(place=st.sampled_from(sorted([*LISTS, *TO_ONE])), pick=picks)
    def touch(self, place: tuple[str, str], pick: int) -> None:
        label = self.choose(place[0], pick)

        def act(side: Side) -> Any:
            held = self._names(side.read(side.objects[label], place[1]), side)
            return None if place[1] == "profile" else held  # see `same_relations`

        if label is not None:
            self.both(act)

    @rule(kind=st.sampled_from(KINDS))
    def query(self, kind: str) -> None:
        def act(side: Side) -> list[str]:
            found = side.session.scalars(side.select(getattr(side.models, kind))).all()
            side.objects |= {one.label: one for one in found}
            return sorted(one.label for one in found)

        self.both(act)

    @rule(kind=st.sampled_from(["Owner", "Tag", "Node", "Shelf"]), pick=picks)
    def get(self, kind: str, pick: int) -> None:
        label = self.choose(kind, pick, "persistent")

        def act(side: Side) -> bool:
            model, instance = getattr(side.models, kind), side.objects[label]
            key = (
                (instance.room, instance.place)
                if kind == "Shelf"
                else instance.code
                if kind == "Tag"
                else instance.id
            )
            return side.session.get(model, key) is instance

        if label is not None:
            self.both(act)

    @rule(kind=st.sampled_from(KINDS), pick=picks)
    def refresh(self, kind: str, pick: int) -> None:
        label = self.choose(kind, pick, "persistent")

        def act(side: Any) -> None:
            side.session.flush()  # SQLAlchemy's refresh-expire cascade throws pending objects out
            side.session.refresh(side.objects[label])

        if label is not None:
            self.both(act)

    @rule()
    def flush(self) -> None:
        self.both(lambda s: s.session.flush())
        self._compare_tables()

    # ------------------------------------------------------------ rules: transactions

    @precondition(lambda self: not self.ours.savepoints)
    @rule()
    def commit(self) -> None:
        self._commit()

    def _commit(self) -> None:
        self.both(lambda s: s.session.commit())
        self.renamed.clear()
        self._forget_gone()
        self._compare_tables()
        self._compare_memory()
        self.saved = self.ours.snapshot()
        for side in self.sides:
            side.session.rollback()  # reading the tables may have begun a transaction

    @precondition(lambda self: not self.ours.savepoints)
    @rule()
    def restart(self) -> None:
        self._commit()
        for side in self.sides:
            side.session.close()
            side.open()
        self.saved = {}
        for kind in ("Owner", "Tag"):
            self.query(kind)

    @rule()
    def rollback(self) -> None:
        self._roll_back()

    @precondition(lambda self: len(self.ours.savepoints) < 2)
    @rule()
    def begin_nested(self) -> None:
        self.both(lambda s: s.begin_nested())

    @precondition(lambda self: self.ours.savepoints)
    @rule(keep=st.booleans())
    def end_nested(self, keep: bool) -> None:
        depth = len(self.ours.savepoints)
        within = [label for label, place in self.renamed.items() if place == depth]
        for label in within:
            del self.renamed[label]
        if keep:
            self.renamed |= dict.fromkeys(within, depth - 1)
        self.both(lambda s: s.end_nested(keep))
        self._compare_tables()


def run(open_sides: Callable[[], Any], examples: int, steps: int, *, reads_first: bool = False) -> None:
    machine = type("Oracle", (Oracle,), {"open_sides": staticmethod(open_sides), "reads_first": reads_first})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=not NIGHTLY,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")


def test_sqlite_leaves_what_the_oracle_leaves() -> None:
    run(sqlite_sides, 3000 if NIGHTLY else 150, 40)


def test_postgresql_leaves_what_the_oracle_leaves(postgresql_url: str) -> None:
    place = PostgresqlPlace(postgresql_url)
    try:
        run(place.sides, 3000 if NIGHTLY else 100, 40)
    finally:
        place.close()


def test_mariadb_leaves_what_the_oracle_leaves(mariadb_url: str) -> None:
    place = MariadbPlace(mariadb_url)
    try:
        run(place.sides, 3000 if NIGHTLY else 60, 40)
    finally:
        place.close()


def test_async_sqlite_leaves_what_the_oracle_leaves() -> None:
    run(async_sqlite_sides, 3000 if NIGHTLY else 60, 40, reads_first=True)


def test_async_postgresql_leaves_what_the_oracle_leaves(postgresql_url: str) -> None:
    place = AsyncPostgresqlPlace(postgresql_url)
    try:
        run(place.sides, 3000 if NIGHTLY else 40, 40, reads_first=True)
    finally:
        place.close()
