"""A plan from the cache answers what the statement answers when it is compiled anew, whatever its values."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import and_, case, func, not_, or_

from holdfast import Database, aliased, defer, joinedload, load_only, raiseload, select, selectinload
from holdfast.plan import Plan, PlanCache
from tests.rooms.oracle import Pair, plain


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(f"sqlite:///{tmp_path_factory.mktemp('plans') / 'shop.db'}")
    yield made
    made.close()


# ---------------------------------------------------------------- statements at random

words = st.sampled_from(["Ada", "Bob", "", "%d%", "t1", "'; --", "é"])
numbers = st.integers(-3, 40)


def conditions(source: Any) -> st.SearchStrategy[Any]:
    """Conditions on a users table, or something that has its columns."""
    leaf = st.one_of(
        st.builds(lambda value: source.name == value, st.one_of(words, st.none())),
        st.builds(lambda value: source.name != value, words),
        st.builds(lambda value: source.name.like(value), words),
        st.builds(lambda value: source.age > value, numbers),
        st.builds(lambda low, high: source.age.between(low, high), numbers, numbers),
        st.builds(lambda values: source.id.in_(values), st.lists(numbers, max_size=4)),
        st.builds(lambda values: source.name.not_in(values), st.lists(words, max_size=3)),
        st.builds(lambda value, add: source.age + add == value, numbers, numbers),
        st.builds(lambda value: source.active.is_(value), st.booleans()),
        st.builds(lambda value: func.length(source.name) > value, numbers),
        st.builds(lambda a, b: case((source.age > a, 1), else_=0) == b, numbers, st.integers(0, 1)),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(and_, inner, inner), st.builds(or_, inner, inner), st.builds(not_, inner)
        ),
        max_leaves=4,
    )


@st.composite
def statements(draw: Any, m: Any) -> Any:
    shape = draw(
        st.sampled_from(
            [
                "class",
                "short",
                "short",
                "alias",
                "columns",
                "join",
                "exists",
                "count",
                "subquery",
                "cte",
                "union",
            ]
        )
    )
    if shape == "short":
        return draw(short_statements(m))
    u = m.User if shape != "alias" else aliased(m.User)
    where = draw(conditions(u))
    if shape in ("class", "alias"):
        statement = select(u).where(where).order_by(u.id)
        return draw(paged(statement))
    if shape == "columns":
        return draw(
            paged(select(u.id, u.name, (u.age + draw(numbers)).label("more")).where(where).order_by(u.id))
        )
    if shape == "join":
        likes = draw(numbers)
        return select(u.name, m.Post.id).join(u.posts).where(where, m.Post.likes >= likes).order_by(m.Post.id)
    if shape == "exists":
        return select(u).where(where, u.posts.any(m.Post.likes > draw(numbers))).order_by(u.id)
    if shape == "count":
        return (
            select(u.age, func.count())
            .where(where)
            .group_by(u.age)
            .having(func.count() > draw(st.integers(0, 2)))
            .order_by(u.age)
        )
    inner = select(u.id, u.name).where(where)
    if shape == "union":
        return sa.union_all(inner, select(m.Tag.id, m.Tag.name).where(m.Tag.id > draw(numbers))).order_by(
            "id", "name"
        )
    source = inner.subquery() if shape == "subquery" else inner.cte()
    return (
        select(source.c.name, draw(numbers) + source.c.id)
        .where(source.c.id < draw(numbers))
        .order_by(source.c.id)
    )


@st.composite
def short_statements(draw: Any, m: Any) -> Any:
    """What has a key of its own, in any order of its methods; the key ends the order."""
    u = m.User
    parts = [
        lambda s: s.where(
            draw(st.sampled_from([u.name == "Ada", u.age > draw(numbers), u.id <= draw(numbers)]))
        ),
        lambda s: s.order_by(draw(st.sampled_from([u.name, u.name.desc(), u.age.asc(), u.age.desc()]))),
        lambda s: s.options(
            draw(st.sampled_from([selectinload(u.posts), joinedload(u.posts), raiseload("*")]))
        ),
        lambda s: s.options(draw(st.sampled_from([load_only(u.name), defer(u.age)]))),
    ]
    statement = select(u)
    for part in draw(st.lists(st.sampled_from(parts), max_size=4)):
        statement = part(statement)
    return draw(paged(statement.order_by(u.id)))


@st.composite
def paged(draw: Any, statement: Any) -> Any:
    limit, offset = draw(st.none() | st.integers(0, 4)), draw(st.none() | st.integers(0, 3))
    statement = statement if limit is None else statement.limit(limit)
    return statement if offset is None else statement.offset(offset)


def as_core(statement: Any, m: Any) -> Any:
    """The statement for SQLAlchemy's own engine: a class by its table's columns."""
    if isinstance(statement, sa.CompoundSelect) or not any(
        "holdfast_entity" in e._annotations for e in statement._raw_columns
    ):
        return statement
    source = statement._raw_columns[0]
    return sa.Select.with_only_columns(statement, *(source.c[c.key] for c in m.User.__table__.c))


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_plans_answer_as_core_does(pair: Pair, data: Any) -> None:
    m = pair.ours
    statement = data.draw(statements(m))

    with pair.engine.connect() as connection:
        expected = connection.execute(as_core(statement, m)).all()
    with pair.db.session() as session:
        found = session.execute(statement).all()
    with Database(pair.url) as fresh, fresh.session() as session:
        anew = session.execute(statement).all()

    assert plain(found) == plain(anew)
    if found and type(found[0][0]) is m.User:
        assert [row[0].id for row in found] == [row.id for row in expected]
        assert [row[0].name for row in found] == [row.name for row in expected]
    else:
        assert list(map(tuple, found)) == list(map(tuple, expected))


def test_the_same_form_makes_one_plan(pair: Pair) -> None:
    m = pair.ours
    with pair.db.session() as session:
        for number in range(3):
            before = pair.db._opened.backend.plans.built
            session.scalars(
                select(m.Tag).where(m.Tag.id > number, m.Tag.name != str(number)).limit(number + 1)
            ).all()
            assert pair.db._opened.backend.plans.built - before == (1 if number == 0 else 0)


# ---------------------------------------------------------------- the cache


def a_plan(number: int) -> Plan:
    return Plan(str(number), lambda bound, named: ("", ()), "rows")


@given(keys=st.lists(st.integers(0, 30), max_size=200), size=st.integers(1, 20))
def test_the_cache_is_bounded_and_right(keys: list[int], size: int) -> None:
    cache = PlanCache(size)

    for key in keys:
        assert cache.get(key, lambda key=key: a_plan(key)).sql == str(key)  # type: ignore[misc]
        assert len(cache) <= size
        assert cache.find(key) is not None

    assert cache.built >= len(set(keys))


def test_threads_at_one_cache() -> None:
    cache = PlanCache(50)
    wrong: list[Any] = []
    start = threading.Barrier(8)

    def hammer(seed: int) -> None:
        start.wait()
        for step in range(4000):
            key = (seed * 7919 + step * 31) % 120
            try:
                if cache.get(key, lambda key=key: a_plan(key)).sql != str(key):
                    wrong.append(key)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(cache) <= 50 + 8


def test_threads_with_sessions_share_plans(pair: Pair) -> None:
    m = pair.ours
    wrong: list[Any] = []

    def work(seed: int) -> None:
        try:
            with Database(pair.url, plan_cache_size=4) if seed == 0 else pair.db.session() as opened:
                session = opened.session() if seed == 0 else opened
                for step in range(60):
                    number = (seed + step) % 4 + 1
                    u = aliased(m.User)
                    form = (
                        select(u).where(u.id == number)
                        if step % 2
                        else select(u).where(u.id.in_([number, -1]))
                    )
                    if session.scalars(form.limit(step % 3 + 1)).one().id != number:
                        wrong.append((seed, step))
                if seed == 0:
                    session.close()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_small_cache_forgets_and_plans_again(pair: Pair) -> None:
    m = pair.ours
    with Database(pair.url, plan_cache_size=3) as db, db.session() as session:
        for _ in range(2):
            for columns in range(1, 7):
                names = [m.User.id, m.User.name, m.User.age, m.User.email, m.User.score, m.User.rate][
                    :columns
                ]
                assert len(session.execute(select(*names)).first()) == columns

        assert len(db._opened.backend.plans) <= 3
