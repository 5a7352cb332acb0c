"""Loader options load what SQLAlchemy's ORM loads, in as many statements as they promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from holdfast import (
    aliased,
    defaultload,
    defer,
    joinedload,
    lazyload,
    load_only,
    noload,
    raiseload,
    select,
    selectinload,
    subqueryload,
    undefer,
)
from holdfast.errors import InvalidRequestError
from tests.rooms.loading_forms import OPTIONS, agree, entities, loaded
from tests.rooms.oracle import Pair, Side, counted, our_side, plain


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(f"sqlite:///{tmp_path_factory.mktemp('options') / 'shop.db'}")
    yield made
    made.close()


@pytest.fixture
def m(pair: Pair) -> Any:
    return pair.ours


@pytest.fixture
def session(pair: Pair) -> Iterator[Any]:
    with pair.db.session() as opened:
        yield opened


def trees(side: Side, session: Any, name: str) -> list[list[Any]]:
    rows = session.execute(OPTIONS[name](side)).unique().all()
    return [[loaded(o) for o in entities(row)] for row in sorted(rows, key=lambda row: repr(plain(row)))]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_loads_what_the_oracle_loads(pair: Pair, name: str) -> None:
    theirs = pair.ask_theirs(lambda side, session: trees(side, session, name))

    for _ in range(2):
        ours = pair.ask_ours(lambda side, session: trees(side, session, name))

        assert len(ours) == len(theirs)
        assert all(
            agree(a, b)
            for mine, other in zip(ours, theirs, strict=True)
            for a, b in zip(mine, other, strict=True)
        )


STATEMENTS = {
    "selectin": 2,
    "selectin_chain": 3,
    "selectin_two": 3,
    "selectin_two_at_once": 2,  # editors are authors, too
    "selectin_self": 4,
    "selectin_none": 1,
    "selectin_and": 2,
    "subquery": 3,
    "joined": 1,
    "joined_nested": 1,
    "joined_two": 1,
    "joined_self": 1,
    "joined_limit": 2,
    "joined_limit_to_one": 1,
    "joined_then_selectin": 2,
    "selectin_then_joined": 2,
    "nested_options": 3,
    "default_then_selectin": 1,
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_of_an_option(pair: Pair, m: Any, session: Any, name: str) -> None:
    with counted(pair.db) as seen:
        session.execute(OPTIONS[name](m)).all()

    assert len(seen) == STATEMENTS[name], seen


# ---------------------------------------------------------------- criteria


def test_criteria_take_the_values_of_their_statement(m: Any, session: Any) -> None:
    def ask(load: Any, likes: int) -> list[list[int]]:
        session.expunge_all()
        statement = select(m.User).options(load(m.User.posts.and_(m.Post.likes >= likes))).order_by(m.User.id)
        return [[post.id for post in user.posts] for user in session.scalars(statement)]

    for load in (selectinload, joinedload, subqueryload):
        assert ask(load, 0) == [[1, 2, 6], [3], [], [5]]
        assert ask(load, 3) == [[1, 2, 6], [], [], []]
        assert ask(load, 4) == [[2, 6], [], [], []]


def test_criteria_behind_a_relation_take_the_values_of_their_statement(m: Any, session: Any) -> None:
    def ask(first: Any, likes: int) -> list[list[int]]:
        session.expunge_all()
        inner = first(m.Post.author).selectinload(m.User.posts.and_(m.Post.likes >= likes))
        statement = select(m.Post).where(m.Post.author_id.isnot(None)).options(inner).order_by(m.Post.id)
        return [[post.id for post in found.author.posts] for found in session.scalars(statement)]

    for first in (selectinload, joinedload):
        assert ask(first, 0) == [[1, 2, 6], [1, 2, 6], [3], [5], [1, 2, 6]]
        assert ask(first, 6) == [[2], [2], [], [], [2]]
        assert ask(first, 0) == [[1, 2, 6], [1, 2, 6], [3], [5], [1, 2, 6]]


def test_criteria_of_the_second_class_of_a_row(m: Any, session: Any) -> None:
    def ask(likes: int) -> list[list[int]]:
        session.expunge_all()
        u = aliased(m.User)
        load = selectinload(u.posts.and_(m.Post.likes >= likes))
        statement = select(m.Tag.__table__, m.Profile, u).where(m.Tag.id == 1, m.Profile.user_id == u.id)
        return [
            [post.id for post in row[-1].posts]
            for row in session.execute(statement.options(load).order_by(u.id))
        ]

    assert ask(0) == [[1, 2, 6], [5]]
    assert ask(6) == [[2], []]


# ---------------------------------------------------------------- raiseload, noload, lazyload


def test_raiseload_forbids_the_statement(pair: Pair, m: Any, session: Any) -> None:
    user = session.scalars(select(m.User).options(raiseload(m.User.posts))).first()

    with counted(pair.db) as seen, pytest.raises(InvalidRequestError, match=r"selectinload\(User.posts\)"):
        user.posts

    assert seen == []
    assert user.profile is not None


def test_raiseload_of_all_others(m: Any, session: Any) -> None:
    statement = select(m.User).options(selectinload(m.User.posts).raiseload("*"), raiseload("*"))
    user = session.scalars(statement).first()

    assert len(user.posts) == 3
    for name in ("profile", "idols"):
        with pytest.raises(InvalidRequestError):
            getattr(user, name)
    with pytest.raises(InvalidRequestError):
        user.posts[0].tags


def test_raiseload_of_sql_only_lets_the_identity_map_answer(m: Any, session: Any) -> None:
    statement = select(m.Post).where(m.Post.id == 1).options(raiseload(m.Post.author, sql_only=True))

    post = session.scalars(statement).one()
    with pytest.raises(InvalidRequestError):
        post.author
    ada = session.get(m.User, 1)

    assert post.author is ada
    strict = session.scalars(select(m.Post).where(m.Post.id == 2).options(raiseload(m.Post.author))).one()
    with pytest.raises(InvalidRequestError):
        strict.author


def test_noload_leaves_a_relation_empty(pair: Pair, m: Any, session: Any) -> None:
    statement = select(m.User).options(noload(m.User.posts), noload(m.User.profile))

    with counted(pair.db) as seen:
        found = [(user.posts, user.profile) for user in session.scalars(statement)]

    assert found == [([], None)] * 4
    assert len(seen) == 1


def test_lazyload_takes_back_what_the_model_says(tmp_path: Any) -> None:
    side = our_side(MODEL_LAZY)
    with filled(side, tmp_path) as db, db.session() as session, counted(db) as seen:
        session.scalars(select(side.A).options(lazyload(side.A.joined), lazyload(side.A.selectin))).all()

        assert len(seen) == 1


# ---------------------------------------------------------------- columns


def test_deferred_columns_come_for_all_siblings(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).order_by(m.User.id)).all()

    with counted(pair.db) as seen:
        assert [user.bio for user in users] == ["long", None, "short", ""]

    assert len(seen) == 1


def test_what_load_only_left_out_comes_together(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).options(load_only(m.User.name)).order_by(m.User.id)).all()

    with counted(pair.db) as seen:
        assert next((user.age, user.email, user.motto) for user in users) == (36, "ada@x.de", "none")
        assert users[0].meta == {"a": [1, 2], "b": {"c": "x"}}

    assert len(seen) == 1
    assert "bio" not in seen[0]


def test_a_deferred_value_is_changed_and_saved_without_loading(m: Any, session: Any) -> None:
    user = session.scalars(select(m.User).where(m.User.id == 2).options(load_only(m.User.name))).one()

    user.age = 99
    session.flush()

    assert session.scalar(select(m.User.age).where(m.User.id == 2)) == 99


def test_a_foreign_key_left_out_is_loaded_alone(pair: Pair, m: Any, session: Any) -> None:
    posts = session.scalars(select(m.Post).options(load_only(m.Post.title)).order_by(m.Post.id)).all()

    with counted(pair.db) as seen:
        names = [post.author and post.author.name for post in posts]

    assert names == ["Ada", "Ada", "Bob", None, "Dan", "Ada"]
    assert len(seen) == 2
    assert "likes" not in seen[0]


def test_undefer_in_time(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).options(undefer(m.User.bio), defer(m.User.age))).all()

    with counted(pair.db) as seen:
        [user.bio for user in users]

    assert seen == []
    assert "age" not in users[0].__dict__


# ---------------------------------------------------------------- objects that are known already


def test_eager_options_fill_known_objects(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).order_by(m.User.id)).all()

    for load in (selectinload(m.User.posts), joinedload(m.User.edited), joinedload(m.User.profile)):
        session.scalars(select(m.User).options(load)).all()
    with counted(pair.db) as seen:
        found = [(len(u.posts), len(u.edited), u.profile and u.profile.text) for u in users]

    assert found == [(3, 1, "one"), (1, 2, None), (0, 0, None), (1, 1, "four")]
    assert seen == []


def test_loaded_relations_are_kept_by_eager_options(m: Any, session: Any) -> None:
    user = session.get(m.User, 1)
    posts = user.posts
    session.execute(sa.insert(m.Post).values(id=77, title="new", author_id=1))

    for load in (selectinload, joinedload):
        again = session.scalars(select(m.User).where(m.User.id == 1).options(load(m.User.posts))).one()

        assert again is user
    assert user.posts is posts or 77 in [post.id for post in user.posts]


@pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload, lazyload])
def test_populate_existing_loads_relations_again(pair: Pair, load: Any) -> None:
    def ask(side: Side, session: Any) -> Any:
        name = load.__name__
        user = session.get(side.User, 1)
        before = [post.id for post in user.posts]
        session.execute(
            sa.insert(side.Post.__table__).values(id=77, title="new", author_id=1, published=False, likes=0)
        )
        session.execute(
            sa.update(side.User.__table__).where(side.User.__table__.c.id == 1).values(name="Other")
        )
        statement = (
            side.select(side.User).where(side.User.id == 1).options(getattr(side, name)(side.User.posts))
        )
        session.scalars(statement, execution_options={"populate_existing": True}).unique().one()
        return before, [post.id for post in user.posts], user.name

    assert pair.same(ask) == ([1, 2, 6], [1, 2, 6, 77], "Other")


def test_populate_existing_is_an_option_of_the_statement(m: Any, session: Any) -> None:
    user = session.get(m.User, 1)
    user.name = "Changed"
    session.flush()
    user.name = "Unsaved"

    with session.no_autoflush:
        session.scalars(select(m.User).where(m.User.id == 1).execution_options(populate_existing=True)).one()

    assert user.name in ("Unsaved", "Changed")


# ---------------------------------------------------------------- what models say


MODEL_LAZY = """
class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
    joined: Mapped[List["B"]] = relationship(lazy="joined", order_by="B.id", back_populates="a")
    selectin: Mapped[List["C"]] = relationship(lazy="selectin", order_by="C.id")

class B(Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("a.id"))
    a: Mapped[A] = relationship(lazy="joined", back_populates="joined")
    raising: Mapped[List["C"]] = relationship(lazy="raise")
    none: Mapped[List["C"]] = relationship(lazy="noload", viewonly=True)

class C(Base):
    __tablename__ = "c"
    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[Optional[int]] = mapped_column(ForeignKey("a.id"))
    b_id: Mapped[Optional[int]] = mapped_column(ForeignKey("b.id"))
    a: Mapped[Optional[A]] = relationship(lazy="immediate", viewonly=True)
"""


class filled:
    """A database that holds the rows of ``MODEL_LAZY``."""

    def __init__(self, side: Side, path: Any) -> None:
        from holdfast import Database

        self.db = Database(f"sqlite:///{path / 'lazy.db'}")
        self.db.create_all(side.Base)
        with self.db.begin() as session:
            session.execute(sa.insert(side.A), [{"id": 1}, {"id": 2}])
            session.execute(sa.insert(side.B), [{"id": n, "a_id": 1} for n in (1, 2, 3)])
            session.execute(sa.insert(side.C), [{"id": n, "a_id": n % 2 + 1, "b_id": n} for n in (1, 2, 3)])

    def __enter__(self) -> Any:
        return self.db

    def __exit__(self, *_: object) -> None:
        self.db.close()


def test_lazy_of_the_model(tmp_path: Any) -> None:
    side = our_side(MODEL_LAZY)
    with filled(side, tmp_path) as db, db.session() as session, counted(db) as seen:
        found = session.scalars(select(side.A).order_by(side.A.id)).all()

        assert [([b.id for b in a.joined], [c.id for c in a.selectin]) for a in found] == [
            ([1, 2, 3], [2]),
            ([], [1, 3]),
        ]
        assert all(c.a is a for a in found for c in a.selectin)
        assert found[0].joined[0].none == []
        with pytest.raises(InvalidRequestError, match="raiseload"):
            found[0].joined[0].raising
        assert len(seen) == 2


def test_lazy_of_the_model_holds_for_get_and_relations(tmp_path: Any) -> None:
    side = our_side(MODEL_LAZY)
    with filled(side, tmp_path) as db, db.session() as session:
        a = session.get(side.A, 1)
        c = session.get(side.C, 1)

        with counted(db) as seen:
            assert len(a.joined) == 3
            assert [x.id for x in a.selectin] == [2]
            assert c.a.id == 2
        assert seen == []


LITERALS = """
class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
    big: Mapped[List["B"]] = relationship(
        primaryjoin="and_(A.id == foreign(B.a_id), B.size > 5)", viewonly=True, lazy="joined", order_by="B.size + 1")
    named: Mapped[List["B"]] = relationship(
        primaryjoin="and_(foreign(B.a_id) == A.id, B.size.in_([1, 9]))", viewonly=True, order_by="B.id")

class B(Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]
    a_id: Mapped[int] = mapped_column(ForeignKey("a.id"))
"""


def test_joins_with_values_of_their_own(tmp_path: Any) -> None:
    side = our_side(LITERALS)
    from holdfast import Database

    with Database(f"sqlite:///{tmp_path / 'literals.db'}") as db:
        db.create_all(side.Base)
        with db.begin() as session:
            session.execute(sa.insert(side.A), [{"id": 1}, {"id": 2}])
            session.execute(
                sa.insert(side.B), [{"id": n, "size": n, "a_id": n % 2 + 1} for n in range(1, 10)]
            )
        for _ in range(2):
            with db.session() as session:
                assert [b.id for b in session.get(side.A, 2).big] == [7, 9]
                assert [b.id for b in session.get(side.A, 1).big] == [6, 8]
            with db.session() as session:
                found = session.scalars(select(side.A).where(side.A.id > 0).order_by(side.A.id)).all()
                assert [[b.id for b in a.big] for a in found] == [[6, 8], [7, 9]]
                assert [[b.id for b in a.named] for a in found] == [[], [1, 9]]
            with db.session() as session:
                limited = session.scalars(select(side.A).order_by(side.A.id).limit(2)).all()
                assert [[b.id for b in a.big] for a in limited] == [[6, 8], [7, 9]]


# ---------------------------------------------------------------- mistakes


def test_a_path_must_continue(m: Any) -> None:
    with pytest.raises(InvalidRequestError, match="Chain a relationship of Post"):
        selectinload(m.User.posts).selectinload(m.User.profile)


def test_an_option_needs_a_relation(m: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"selectinload\(User.posts\)"):
        selectinload(m.User.name)
    with pytest.raises(InvalidRequestError, match="load_only"):
        load_only(m.User.posts)


def test_an_option_of_another_class_is_told(m: Any, session: Any) -> None:
    with pytest.raises(InvalidRequestError, match="begins at tags"):
        session.scalars(select(m.User).options(selectinload(m.Tag.posts))).all()


def test_defaultload_says_nothing_of_its_own(pair: Pair, m: Any, session: Any) -> None:
    statement = select(m.User).options(defaultload(m.User.posts).load_only(m.Post.title))
    users = session.scalars(statement).all()

    posts = users[0].posts

    assert "likes" not in posts[0].__dict__
