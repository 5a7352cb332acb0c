"""The compiled loops do what their Python twins do."""

from __future__ import annotations

import decimal
import gc
import inspect
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func
from sqlalchemy.sql.elements import ClauseElement

from holdfast import Database, DeclarativeBase, Mapped, mapped_column, native
from holdfast.native import pure

compiled = pytest.mark.skipif(not native.COMPILED, reason="the hot loops are not compiled here")
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "array_texts": st.text(st.characters(exclude_categories=["Cs"])),
    "array_blobs": st.binary(),
    "array_ints": st.integers(-(2**31), 2**31 - 1),
    "array_longs": st.integers(-(2**63), 2**63 - 1),
    "array_floats": st.floats()
    | st.integers(-1000, 1000)
    | st.decimals(allow_nan=False, allow_infinity=False),
    "array_bools": st.booleans(),
    "array_moments": st.datetimes(timezones=st.just(UTC) | ZONES),
}
KEYS = st.integers(0, 5) | st.text("ab", max_size=2) | st.tuples(st.integers(0, 2), st.integers(0, 2))


@compiled
@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_arrays_are_the_same_bytes(name: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | VALUES[name], max_size=20))

    assert getattr(native, name)(values, 1234) == getattr(pure, name)(values, 1234)


@pytest.mark.parametrize("module", [native, pure], ids=["native", "pure"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("array_texts", 5),
        ("array_texts", "\ud800"),
        ("array_blobs", 5),
        ("array_ints", 2**31),
        ("array_ints", "5"),
        ("array_longs", 2**63),
        ("array_floats", "5"),
        ("array_bools", 2),
        ("array_moments", datetime(2000, 1, 1)),
        ("array_moments", "2000-01-01"),
    ],
)
def test_an_array_refuses_what_it_cannot_hold(module: Any, name: str, value: Any) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the caller's business; it becomes ours
        getattr(module, name)([value], 1)


@compiled
@given(st.none() | st.datetimes(timezones=st.just(None) | ZONES), st.sampled_from([0, 1]))
def test_a_moment_meant_in_utc_is_the_same(moment: datetime | None, fold: int) -> None:
    given_ = None if moment is None else moment.replace(fold=fold)
    found, expected = native.in_utc(given_), pure.in_utc(given_)

    assert found == expected
    assert found is None or (found.tzinfo is UTC and found.fold == fold)


@pytest.mark.parametrize("module", [native, pure], ids=["native", "pure"])
def test_what_is_no_moment_is_refused(module: Any) -> None:
    with pytest.raises(TypeError):
        module.in_utc("2000-01-01")


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.text("'\\\\\"%?é\0", max_size=5)
    | st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=2))]))
    | st.decimals()
    | st.binary(max_size=5)
)


@compiled
@given(st.lists(PLAIN, max_size=10), st.data())
def test_literals_are_the_same_bytes(values: list[Any], data: st.DataObject) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    pieces = data.draw(st.lists(texts, min_size=len(values) + 1, max_size=len(values) + 1))

    written = [module.write_literals(pieces, values, lambda v: f"<{v!r}>") for module in (native, pure)]

    assert written[0] == written[1]


@pytest.mark.parametrize("module", [native, pure], ids=["native", "pure"])
def test_a_literal_fails_as_its_writer_does(module: Any) -> None:
    def refuse(value: Any) -> str:
        raise OverflowError

    for value in (2**64, float("nan"), object()):
        with pytest.raises(OverflowError):
            module.write_literals(["a", "b"], [value], refuse)
    for pieces, values in ((["a"], ["x"]), (["a", "b", "c"], ["x"])):
        with pytest.raises((TypeError, ValueError)):
            module.write_literals(pieces, values, refuse)
    with pytest.raises(UnicodeEncodeError):
        module.write_literals(["a", "b"], ["\ud800"], refuse)


def _make(module: Any, cls: type[Any], rows: Any, names: tuple[str, ...], processors: Any = None) -> Any:
    members: list[Any] = []
    identity: dict[Any, Any] = {}
    made = module.make_objects(cls, rows, names, processors, "_batch", None, 0, members, identity)
    return made, members, identity


@compiled
@given(
    st.lists(st.tuples(KEYS, st.none() | st.text() | st.floats(allow_nan=False)), max_size=20), st.booleans()
)
def test_objects_of_rows_are_the_same(rows: list[tuple[Any, ...]], with_processor: bool) -> None:
    class Thing:
        pass

    processors = (None, repr) if with_processor else None

    found: list[Any] = []
    for module in (native, pure):
        made, members, identity = _make(module, Thing, rows, ("a", "b"), processors)
        if made is None:
            found.append((members, identity))
            continue
        assert [member() for member in members] == made
        found.append(
            ([vars(one) for one in made], [made.index(identity[key]()) for key in identity], list(identity))
        )

    assert found[0] == found[1]
    assert (found[0] == ([], {})) == (len({row[0] for row in rows}) < len(rows))


@compiled
def test_objects_of_rows_can_be_of_any_sequence_and_fail_whole() -> None:
    class Thing:
        pass

    def refuse(rows: Any, error: type[Exception], processors: Any = None) -> None:
        members: list[Any] = []
        identity: dict[Any, Any] = {}
        with pytest.raises(error):
            native.make_objects(Thing, rows, ("a", "b"), processors, "_batch", None, 0, members, identity)
        assert (members, identity) == ([], {})

    made, _, identity = _make(native, Thing, [[1, "x"]], ("a", "b"))

    assert (vars(made[0]), identity[1]()) == ({"a": 1, "b": "x", "_batch": None}, made[0])
    refuse([(5, 6), (1,)], IndexError)
    refuse([(5, 6), (0, 1)], ZeroDivisionError, (lambda value: 1 / value, None))
    refuse([(5, 6), ([], 1)], TypeError)  # no key can be a list


def test_a_made_object_dies_with_its_last_reference() -> None:
    class Thing:
        pass

    made, members, _ = _make(native, Thing, [(1,), (2,)], ("a",))
    gc.disable()
    try:
        del made[0]

        assert [member() is None for member in members] == [True, False]
    finally:
        gc.enable()


@compiled
def test_the_collector_sees_made_objects_when_they_are_shown() -> None:
    class Thing:
        pass

    made, members, identity = _make(native, Thing, [(1,), (2,)], ("a",))
    unseen = [gc.is_tracked(one) for one in (*made, members, identity)]
    gone = made.pop()
    native.track(members)  # one of them is alive, the other is not, and to be shown twice is nothing
    native.track(members)
    identity["another"] = members[0]

    assert unseen == [False] * 4
    assert gc.is_tracked(made[0])
    assert gc.is_tracked(identity)  # CPython sees to a dict itself
    del gone


class _Loud(list[Any]):
    def append(self, item: Any) -> None:
        raise AssertionError("nobody is to be told")


@compiled
@given(st.lists(KEYS, max_size=20))
def test_groups_are_the_same(keys: list[Any]) -> None:
    objects = [object() for _ in keys]

    assert native.group(keys, objects) == pure.group(keys, objects)
    assert list(native.group(keys, objects)) == list(pure.group(keys, objects))
    for module in (native, pure):
        assert {type(members) for members in module.group(keys, objects, _Loud).values()} <= {_Loud}
        assert module.group(keys, objects, _Loud) == pure.group(keys, objects)


@compiled
@given(st.lists(st.integers(-1, 5), max_size=20))
def test_each_object_is_taken_once(places: list[int]) -> None:
    things = [_Thing({"a": 1} if place % 2 else {}) for place in range(6)]
    given_ = [None if place < 0 else things[place] for place in places]

    assert native.unique(given_) == pure.unique(given_)
    assert native.unique(iter(given_)) == pure.unique(given_)
    assert native.lacking(pure.unique(given_), "a") == pure.lacking(pure.unique(given_), "a")
    assert native.values_of(things) == pure.values_of(things)
    references = [ref(thing) for thing in things]
    del given_, things[3]
    assert native.alive(references, "a", 1) == pure.alive(references, "a", 1)


@compiled
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers()), max_size=10))
def test_columns_are_the_same(held: list[dict[str, int]]) -> None:
    copies = [dict(one) for one in held]

    assert native.take(held, "a") == pure.take(copies, "a")
    assert native.settle(held, "b") == pure.settle(copies, "b")
    assert held == copies
    rows = [tuple(range(n, n + 3)) for n in range(5)]
    assert native.values_at(rows, 1, str) == pure.values_at(rows, 1, str)


@compiled
@given(
    st.lists(
        st.none() | st.text(st.characters() | st.sampled_from("\0\ud800\udfff"), max_size=5), max_size=10
    )
)
def test_what_is_said_of_texts_is_the_same(values: list[str | None]) -> None:
    assert native.text_facts(values) == pure.text_facts(values)


class _Change:
    def __init__(self, originals: dict[str, Any]) -> None:
        self.originals = originals


class _Thing:
    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


MISSING = object()
SOME = st.sampled_from([None, 1, 1.0, True, "x", decimal.Decimal(1), uuid.UUID(int=1), MISSING])


@compiled
@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from("abz"), SOME), st.dictionaries(st.sampled_from("ab"), SOME))
    )
)
def test_what_changed_is_the_same(given_: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    things = [_Thing(now) for now, _ in given_]
    dirty = {id(t): _Change(before) for t, (_, before) in zip(things, given_, strict=True) if before}

    arguments = (things, dirty, {"a": None, "b": None}, MISSING, ClauseElement)

    assert native.changed(*arguments) == pure.changed(*arguments)


def test_an_expression_is_a_change_and_is_not_compared() -> None:
    thing = _Thing({"a": func.now()})
    dirty = {id(thing): _Change({"a": 1})}

    for module in (native, pure):
        assert module.changed([thing], dirty, {"a": None}, MISSING, ClauseElement) == {("a",): [thing]}


def test_a_model_can_still_be_asked_how_it_is_made() -> None:
    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Other(Base):
        __tablename__ = "others"
        id: Mapped[int] = mapped_column(primary_key=True)

        def __init__(self, number: int) -> None:
            super().__init__(id=number * 2)

    db = Database("sqlite://")
    db.create_all(Base)  # configures the models
    db.close()

    assert str(inspect.signature(User)) == "(**values: 'Any') -> 'None'"
    assert (User(id=1, name="x").name, Other(4).id) == ("x", 8)
    with pytest.raises(TypeError):
        User(1)  # type: ignore[call-arg]
    with pytest.raises(Exception, match="nom"):
        User(nom="x")


def test_methods_of_classes_are_freed_with_them() -> None:
    class Thing:
        pass

    Thing.__init__ = native.Initializer({"a": None}, lambda self, **values: None)  # type: ignore[method-assign]
    Thing.__setattr__ = native.AttributeSetter(frozenset("a"), object.__setattr__, "_batch", None)  # type: ignore[method-assign]
    one = Thing(a=1)  # type: ignore[call-arg]
    one.a = 2  # type: ignore[attr-defined]
    assert vars(one) == {"a": 2}
    gone = ref(Thing)

    del Thing, one
    gc.collect()

    assert gone() is None


def test_the_compiled_loops_can_be_left_out() -> None:
    environment = {**os.environ, "HOLDFAST_PURE": "1"}
    code = "from holdfast import native; print(native.COMPILED, native.group([1], [2]))"

    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert said.stdout == "False {1: [2]}\n"


@pytest.mark.skipif(bool(os.environ.get("HOLDFAST_PURE")), reason="HOLDFAST_PURE is set")
def test_where_there_is_a_compiler_the_loops_are_compiled() -> None:
    if not os.environ.get("CI"):
        pytest.skip("only CI promises a compiler")

    assert native.COMPILED


def test_a_setattr_that_a_mixin_brings_is_not_passed_over() -> None:
    class Base(DeclarativeBase):
        pass

    class Loud:
        def __setattr__(self, name: str, value: Any) -> None:
            said.append(name)
            super().__setattr__(name, value)

    class User(Loud, Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    said: list[str] = []
    with Database("sqlite://") as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add(User(name="a"))
        with db.begin() as session:
            session.get_one(User, 1).name = "b"
        with db.session() as session:
            assert session.get_one(User, 1).name == "b"

    assert said == ["name"]


@compiled
def test_lists_may_change_while_they_are_walked() -> None:
    rows: list[Any] = [(n, str(n)) for n in range(50)]

    class Thing:
        pass

    class Key:
        def __hash__(self) -> int:
            keys.clear()
            return 1

    def empty_the_rows(value: Any) -> Any:
        rows.clear()
        gc.collect()
        return value

    keys = [Key() for _ in range(50)]

    made, _, _ = _make(native, Thing, rows, ("a", "b"), (None, empty_the_rows))

    assert [one.a for one in made] == list(range(50))
    assert sum(map(len, native.group(keys, list(range(50))).values())) == 50
