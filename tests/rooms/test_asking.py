"""Statements answer what SQLAlchemy's ORM answers on the same rows; then what is Holdfast's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy import bindparam, delete, func, insert, literal, text, update

from holdfast import aliased, joinedload, select
from holdfast.errors import InvalidRequestError, MultipleResultsFound, NoResultFound, UnknownAttribute
from tests.rooms.asking_forms import FORMS
from tests.rooms.changing_forms import CHANGES
from tests.rooms.oracle import Pair, Side, counted, names, plain


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(f"sqlite:///{tmp_path_factory.mktemp('asking') / 'shop.db'}")
    yield made
    made.close()


@pytest.fixture
def m(pair: Pair) -> Any:
    return pair.ours


@pytest.fixture
def session(pair: Pair) -> Iterator[Any]:
    with pair.db.session() as opened:
        yield opened


# ---------------------------------------------------------------- beside the oracle


def answer(side: Side, session: Any, name: str) -> tuple[list[str], set[str]]:
    result = session.execute(FORMS[name](side))
    keys = names(result)
    return sorted(map(repr, plain(result.all()))), keys


@pytest.mark.parametrize("name", FORMS)
def test_a_form_answers_as_the_oracle_does(pair: Pair, name: str) -> None:
    rows, keys = pair.ask_theirs(lambda side, s: answer(side, s, name))

    for _ in range(2):  # planned, then from the cache
        ours, our_keys = pair.ask_ours(lambda side, s: answer(side, s, name))

        assert ours == rows
        assert keys <= our_keys


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_does_what_the_oracle_does(pair: Pair, name: str) -> None:
    expected = pair.ask_theirs(CHANGES[name])

    for _ in range(2):
        assert pair.ask_ours(CHANGES[name]) == expected


@pytest.mark.parametrize("join", ["join", "outerjoin"])
def test_a_relation_in_sqlalchemys_own_select_names_ours(join: str, m: Any) -> None:
    with pytest.raises(InvalidRequestError, match="`from holdfast import select`"):
        getattr(sa.select(m.User), join)(m.User.posts)

    assert "JOIN" in str(getattr(select(m.User), join)(m.User.posts))


# ---------------------------------------------------------------- one plan for one form


def test_a_plan_serves_other_values(pair: Pair, m: Any, session: Any) -> None:
    def ask(name: str, ids: list[int], limit: int) -> list[str]:
        u = aliased(m.User)
        inner = select(u.id).where(u.name != name, u.id.in_(ids))
        statement = select(m.User).where(m.User.id.in_(inner)).order_by(m.User.id).limit(limit)
        return [user.name for user in session.scalars(statement)]

    assert ask("Ada", [1, 2, 3, 4], 9) == ["Bob", "Cyd", "Dan"]
    built = pair.db._opened.backend.plans.built

    assert ask("Bob", [1, 2], 9) == ["Ada"]
    assert ask("Bob", [], 9) == []
    assert ask("x", list(range(2000)), 2) == ["Ada", "Bob"]
    assert pair.db._opened.backend.plans.built == built


def test_limit_and_offset_are_bound(pair: Pair, m: Any, session: Any) -> None:
    pages = [
        [tag.id for tag in session.scalars(select(m.Tag).order_by(m.Tag.id).limit(2).offset(start))]
        for start in (0, 2, 4)
    ]

    assert pages == [[1, 2], [3, 4], []]


def test_values_by_name(m: Any, session: Any) -> None:
    statement = select(m.User.name).where(m.User.id == bindparam("id"))

    assert session.scalar(statement, {"id": 1}) == "Ada"
    assert session.scalar(statement, {"id": 2}) == "Bob"
    assert session.scalar(statement.params(id=3)) == "Cyd"
    assert session.scalar(statement.params(id=3), {"id": 4}) == "Dan"
    with pytest.raises(InvalidRequestError, match="'id'"):
        session.scalar(statement)


def test_values_by_name_in_lists(m: Any, session: Any) -> None:
    statement = select(m.User.id).where(m.User.id.in_(bindparam("ids", expanding=True))).order_by(m.User.id)

    found = [session.scalars(statement, {"ids": ids}).all() for ids in ([1, 3], [2], [])]

    assert found == [[1, 3], [2], []]


def test_nulls_where_a_value_was(m: Any, session: Any) -> None:
    def ask(value: Any) -> list[int]:
        return list(session.scalars(select(m.User.id).where(m.User.email == value)).all())

    assert ask("ada@x.de") == [1]
    assert ask(None) == [3]
    assert ask("bob@x.de") == [2]


def test_text_with_values(session: Any) -> None:
    statement = text("SELECT name FROM users WHERE id = :id")

    assert session.scalar(statement, {"id": 1}) == "Ada"
    assert session.scalar(statement.bindparams(id=2)) == "Bob"
    assert session.execute(text("SELECT 1 AS a, 2 AS b")).mappings().one() == {"a": 1, "b": 2}


def test_names_that_no_model_has_are_told(m: Any, session: Any) -> None:
    for statement, params in (
        (insert(m.User).values(id=90, naem="x"), None),
        (insert(m.User), {"id": 90, "naem": "x"}),
        (insert(m.User), [{"id": 90, "naem": "x"}, {"id": 91, "naem": "y"}]),
        (insert(m.User).values([{"id": 90, "naem": "x"}]), None),
        (update(m.User).values(naem="x"), None),
        (update(m.User).where(m.User.id == 1), {"naem": "x"}),
    ):
        with pytest.raises(UnknownAttribute, match="name"):
            session.execute(statement, params)


def test_lists_of_parameters_may_differ_in_their_names(m: Any, session: Any) -> None:
    rows = [{"id": 90, "name": "a"}, {"id": 91, "name": "b", "age": 3}, {"age": 4, "name": "c", "id": 92}]

    assert session.execute(insert(m.User), rows).rowcount == 3

    found = session.execute(select(m.User.name, m.User.age).where(m.User.id >= 90).order_by(m.User.id)).all()
    assert [tuple(row) for row in found] == [("a", None), ("b", 3), ("c", 4)]


def test_a_list_with_returning_goes_in_few_statements(pair: Pair, m: Any, session: Any) -> None:
    rows = [{"name": f"tag{n}"} for n in range(250)]
    users = [{"name": "x", "meta": {"n": n}, "kind": m.Kind.gold} for n in range(3)]

    with counted(pair.db) as seen:
        made = session.scalars(insert(m.Tag).returning(m.Tag), rows).all()

    assert [tag.name for tag in made] == [f"tag{n}" for n in range(250)]
    assert [user.meta["n"] for user in session.scalars(insert(m.User).returning(m.User), users)] == [0, 1, 2]
    with pytest.raises(UnknownAttribute):
        session.scalars(insert(m.Tag).returning(m.Tag), [{"naem": "x"}, {"naem": "y"}])
    assert len([sql for sql in seen if sql.startswith("INSERT")]) == 3


def test_defaults_see_the_other_values(pair: Pair) -> None:
    meta = sa.MetaData()
    table = sa.Table(
        "derived",
        meta,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.Integer),
        sa.Column("b", sa.Integer, default=lambda context: context.get_current_parameters()["a"] + 1),
    )
    with pair.db.begin() as session:
        session.execute(sa.schema.CreateTable(table))
        session.execute(insert(table).values(id=1, a=5))
        session.execute(insert(table), [{"id": 2, "a": 6}, {"id": 3, "a": 7}])

        assert session.execute(select(table.c.b).order_by(table.c.id)).scalars().all() == [6, 7, 8]
        session.execute(sa.schema.DropTable(table))


# ---------------------------------------------------------------- changes and loaded objects


def test_one_statement_changes_rows_and_objects(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).order_by(m.User.id)).all()

    with counted(pair.db) as seen:
        result = session.execute(update(m.User).where(m.User.id < 3).values(age=m.User.age + 1))

    assert [sql.split()[0] for sql in seen] == ["BEGIN", "UPDATE"]
    assert result.rowcount == 2
    assert [user.age for user in users] == [37, 21, None, 36]


def test_without_objects_nothing_is_fetched(pair: Pair, m: Any, session: Any) -> None:
    with counted(pair.db) as seen:
        session.execute(update(m.User).values(age=1))

    assert "RETURNING" not in seen[-1]


def test_out_of_step_on_request(pair: Pair, m: Any, session: Any) -> None:
    ada = session.get(m.User, 1)

    with counted(pair.db) as seen:
        session.execute(update(m.User).values(age=1), execution_options={"synchronize_session": False})

    assert "RETURNING" not in seen[-1]
    assert ada.age == 36
    assert session.get(m.User, 1).age == 1  # a row that comes later is fresher


def test_objects_in_step_go_back_with_a_rollback(m: Any, session: Any) -> None:
    ada, city = session.get(m.User, 1), session.get(m.City, 1)

    session.execute(update(m.User).values(age=1, meta={"x": 1}))
    session.execute(delete(m.City).where(m.City.id == 1))
    assert (ada.age, ada.meta, city in session) == (1, {"x": 1}, False)
    session.rollback()

    assert (ada.age, ada.meta["a"], city in session) == (36, [1, 2], True)


def test_objects_in_step_go_back_with_their_savepoint(m: Any, session: Any) -> None:
    ada = session.get(m.User, 1)
    session.execute(update(m.User).values(age=1))

    with session.begin_nested() as savepoint:
        session.execute(update(m.User).values(age=2))
        savepoint.rollback()

    assert ada.age == 1


def test_values_read_in_a_transaction_that_wrote_go_back_with_it(m: Any, session: Any) -> None:
    ada = session.get(m.User, 1)

    session.execute(text("UPDATE users SET age = 1"))
    assert session.scalars(select(m.User).where(m.User.id == 1)).one().age == 1
    session.rollback()

    assert ada.age == 36


def test_a_changed_foreign_key_leads_elsewhere(m: Any, session: Any) -> None:
    post, bob = session.get(m.Post, 1), session.get(m.User, 2)
    assert post.author.name == "Ada"

    session.execute(update(m.Post).where(m.Post.id == 1).values(author_id=2))

    assert post.author is bob


def test_user_columns_beside_what_keeps_objects_in_step(m: Any, session: Any) -> None:
    ada = session.get(m.User, 1)

    rows = session.execute(
        update(m.User).where(m.User.id < 3).values(age=5).returning(m.User.name, m.User.id)
    ).all()

    assert sorted(map(tuple, rows)) == [("Ada", 1), ("Bob", 2)]
    assert ada.age == 5
    assert (
        session.scalars(update(m.User).where(m.User.id == 1).values(age=6).returning(m.User.name)).one()
        == "Ada"
    )
    assert ada.age == 6


def test_deleted_rows_take_their_objects_along(m: Any, session: Any) -> None:
    cities = session.scalars(select(m.City).order_by(m.City.id)).all()
    germany = session.get(m.Country, "de")
    assert len(germany.cities) == 2

    assert session.execute(delete(m.City).where(m.City.id < 3)).rowcount == 2

    assert [city in session for city in cities] == [False, False, True, True]
    assert session.get(m.City, 1) is None


def test_a_changed_key_is_not_followed(m: Any, session: Any) -> None:
    city = session.get(m.City, 4)

    assert session.execute(update(m.City).where(m.City.id == 4).values(id=40)).rowcount == 1

    assert city.id == 4
    assert session.get(m.City, 40).name == "c4"


def test_an_update_by_key_reaches_loaded_objects(m: Any, session: Any) -> None:
    ada = session.get(m.User, 1)

    session.execute(update(m.User), [{"id": 1, "name": "One"}, {"id": 2, "name": "Two"}])

    assert ada.name == "One"
    assert session.get(m.User, 2).name == "Two"
    assert session.get(m.User, 3).name == "Cyd"


# ---------------------------------------------------------------- results


def test_result_methods(m: Any, session: Any) -> None:
    def ask() -> Any:
        return session.execute(select(m.User.id, m.User.name).order_by(m.User.id))

    assert ask().first() == (1, "Ada")
    assert ask().fetchone() == (1, "Ada")
    assert ask().fetchmany(2) == [(1, "Ada"), (2, "Bob")]
    assert ask().scalars().all() == [1, 2, 3, 4]
    assert ask().scalars(1).all() == ["Ada", "Bob", "Cyd", "Dan"]
    assert ask().scalars("name").first() == "Ada"
    assert ask().scalar() == 1
    assert ask().columns("name").first() == ("Ada",)
    assert ask().columns(1, 0).first() == ("Ada", 1)
    assert list(ask().keys()) == ["id", "name"]
    assert ask().mappings().first() == {"id": 1, "name": "Ada"}
    assert ask().mappings().all()[3]["name"] == "Dan"
    assert [len(part) for part in ask().partitions(3)] == [3, 1]
    assert [row.name for row in ask()] == ["Ada", "Bob", "Cyd", "Dan"]
    assert ask().unique().all() == ask().all()
    frozen = ask().freeze()
    assert frozen().all() == frozen().all() == ask().all()
    result = ask()
    assert [next(result).id, len(result.all()), result.all()] == [1, 3, []]


def test_rows(m: Any, session: Any) -> None:
    row = session.execute(select(m.User, m.User.name, m.User.motto, func.count()).group_by(m.User.id)).first()

    assert row.User is row[0]
    assert (row.name, row[1], row._mapping["name"], row._mapping[m.User.name]) == ("Ada",) * 4
    assert row._mapping[m.User] is row.User
    assert (row.motto, row._mapping[m.User.motto]) == ("none", "none")
    assert row._fields == ("User", "name", "motto", "count")
    user, name, *_ = row
    assert (user.id, name) == (1, "Ada")
    assert row._asdict()["motto"] == "none"
    with pytest.raises(AttributeError):
        row.nothing


def test_scalars_of_classes(m: Any, session: Any) -> None:
    ada = session.scalars(select(m.User).where(m.User.id == 1)).one()

    assert session.scalar(select(m.User).where(m.User.id == 1)) is ada
    assert session.execute(select(m.User).where(m.User.id == 1)).scalar_one() is ada
    assert session.execute(select(m.User, m.User.id).where(m.User.id == 1)).scalars(1).one() == 1
    assert session.execute(select(m.User).where(m.User.id == 1)).one() == (ada,)
    assert session.execute(select(m.User).where(m.User.id == 1)).mappings().one()["User"] is ada
    assert session.scalar(select(m.User).where(m.User.id == 99)) is None


@pytest.mark.parametrize(
    ("ids", "ours", "theirs"),
    [
        ([], NoResultFound, sqlalchemy.exc.NoResultFound),
        ([1, 2], MultipleResultsFound, sqlalchemy.exc.MultipleResultsFound),
    ],
)
def test_one_row_or_an_error_of_both_names(
    m: Any, session: Any, ids: list[int], ours: Any, theirs: Any
) -> None:
    def ask() -> Any:
        return session.execute(select(m.User.id).where(m.User.id.in_(ids)))

    asking = (
        lambda: ask().one(),
        lambda: ask().scalar_one(),
        lambda: ask().scalars().one(),
        lambda: ask().mappings().one(),
        lambda: ask().unique().one(),
        lambda: session.scalars(select(m.User).where(m.User.id.in_(ids))).one(),
    )
    for one in asking:
        with pytest.raises(ours) as caught:
            one()
        assert isinstance(caught.value, theirs)
        assert caught.value.__cause__ is None


def test_one_or_none(m: Any, session: Any) -> None:
    assert session.scalars(select(m.User).where(m.User.id == 99)).one_or_none() is None
    assert session.execute(select(m.User.id).where(m.User.id == 99)).scalar_one_or_none() is None
    with pytest.raises(MultipleResultsFound):
        session.scalars(select(m.User)).one_or_none()


def test_get_one(m: Any, session: Any) -> None:
    with pytest.raises(NoResultFound):
        session.get_one(m.User, 999)


def test_unique_values(m: Any, session: Any) -> None:
    both = select(m.User.age, m.User.meta["a"]).where(m.User.id == 1)

    twice = session.execute(sa.union_all(both, both)).unique().all()
    ages = session.scalars(select(m.User.age).where(m.User.age.isnot(None))).unique().all()
    users = session.scalars(select(m.User).join(m.User.posts)).unique().all()
    joined = session.execute(select(m.User).options(joinedload(m.User.posts))).unique().scalars().all()

    assert [tuple(row) for row in twice] == [(36, [1, 2])]
    assert ages == [36, 20]
    assert [user.id for user in users] == [1, 2, 4]
    assert len(joined) == 4


def test_joined_collections_do_not_repeat_their_owner(m: Any, session: Any) -> None:
    found = session.scalars(select(m.User).options(joinedload(m.User.posts)).order_by(m.User.id)).all()

    assert [user.id for user in found] == [1, 2, 3, 4]


def test_a_change_gives_no_rows(m: Any, session: Any) -> None:
    result = session.execute(update(m.User).values(age=1))

    assert result.rowcount == 4
    assert result.all() == []


def test_a_string_is_no_statement(session: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"text\("):
        session.execute("SELECT 1")


def test_what_is_no_statement_is_told(m: Any, session: Any) -> None:
    with pytest.raises(InvalidRequestError, match="select"):
        session.execute(m.User)


def test_a_plan_is_shown_on_request(pair: Pair, m: Any) -> None:
    plan = pair.db.plan(select(m.Tag).where(m.Tag.id == 1))

    assert plan.sql == "SELECT tags.id, tags.name \nFROM tags \nWHERE tags.id = ?"
    assert plan.source.startswith("def hydrate(rows, session, refresh):")
    assert "hydrate" in pair.db.plan(select(literal(1))).source


# ---------------------------------------------------------------- mistakes


def test_joining_a_class_to_itself_needs_an_alias(m: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"aliased\(Node\)"):
        select(m.Node).join(m.Node.children)


def test_a_subquery_must_have_the_columns(m: Any, session: Any) -> None:
    half = aliased(m.User, select(m.User.id).subquery())

    with pytest.raises(InvalidRequestError, match="Select all columns"):
        session.scalars(select(half)).all()


def test_a_statement_must_give_the_columns_of_its_class(m: Any, session: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no column"):
        session.scalars(select(m.Tag).from_statement(text("SELECT id FROM tags"))).all()
