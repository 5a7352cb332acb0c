"""The first touch of a relation loads it for all siblings: one statement per level."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import insert, update

from holdfast import AsyncDatabase, Database, load_only, select, selectinload
from holdfast.errors import AttributeNotLoaded, DetachedInstanceError, InvalidRequestError, RelationNotLoaded
from tests.rooms.oracle import Pair, counted, our_side


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(f"sqlite:///{tmp_path_factory.mktemp('loading') / 'shop.db'}")
    yield made
    made.close()


@pytest.fixture
def m(pair: Pair) -> Any:
    return pair.ours


@pytest.fixture
def session(pair: Pair) -> Iterator[Any]:
    with pair.db.session() as opened:
        yield opened


# ---------------------------------------------------------------- one statement per level

WALKS: dict[str, tuple[int, Any]] = {
    # statements, walk
    "to-many": (2, lambda m, s: [len(u.posts) for u in s.scalars(m.select(m.User).order_by(m.User.id))]),
    "to-many with its order": (
        2,
        lambda m, s: [[p.id for p in u.edited] for u in s.scalars(m.select(m.User).order_by(m.User.id))],
    ),
    "three levels": (
        3,
        lambda m, s: [
            [[t.name for t in p.tags] for p in u.posts]
            for u in s.scalars(m.select(m.User).order_by(m.User.id))
        ],
    ),
    "to-one": (
        2,
        lambda m, s: [p.author and p.author.name for p in s.scalars(m.select(m.Post).order_by(m.Post.id))],
    ),
    "two to-one of one class": (
        2,  # all editors are authors
        lambda m, s: [
            (p.author and p.author.name, p.editor and p.editor.name)
            for p in s.scalars(m.select(m.Post).order_by(m.Post.id))
        ],
    ),
    "many-to-many": (
        2,
        lambda m, s: [[t.name for t in p.tags] for p in s.scalars(m.select(m.Post).order_by(m.Post.id))],
    ),
    "many-to-many back": (
        2,
        lambda m, s: [[p.id for p in t.posts] for t in s.scalars(m.select(m.Tag).order_by(m.Tag.id))],
    ),
    "many-to-many with itself": (
        3,
        lambda m, s: [
            ([i.name for i in u.idols], [f.name for f in u.fans])
            for u in s.scalars(m.select(m.User).order_by(m.User.id))
        ],
    ),
    "children": (
        2,
        lambda m, s: [[c.name for c in n.children] for n in s.scalars(m.select(m.Node).order_by(m.Node.id))],
    ),
    "parents at hand": (
        1,
        lambda m, s: [
            n.parent and n.parent.name for n in s.scalars(m.select(m.Node).order_by(m.Node.id)).all()
        ],
    ),
    "parents": (
        2,
        lambda m, s: [
            n.parent and n.parent.name
            for n in s.scalars(m.select(m.Node).where(m.Node.id > 3).order_by(m.Node.id))
        ],
    ),
    "composite key": (
        2,
        lambda m, s: [[i.sku for i in o.items] for o in s.scalars(m.select(m.Order).order_by(m.Order.note))],
    ),
    "composite key up": (
        2,
        lambda m, s: [i.order and i.order.note for i in s.scalars(m.select(m.Item).order_by(m.Item.id))],
    ),
    "string key": (
        2,
        lambda m, s: [
            [c.name for c in x.cities] for x in s.scalars(m.select(m.Country).order_by(m.Country.code))
        ],
    ),
    "string key up": (
        2,
        lambda m, s: [c.country and c.country.code for c in s.scalars(m.select(m.City).order_by(m.City.id))],
    ),
    "one-to-one": (
        2,
        lambda m, s: [u.profile and u.profile.text for u in s.scalars(m.select(m.User).order_by(m.User.id))],
    ),
    "one-to-one back": (
        2,
        lambda m, s: [p.user.name for p in s.scalars(m.select(m.Profile).order_by(m.Profile.id))],
    ),
    "own primaryjoin": (
        2,
        lambda m, s: [[p.id for p in u.published] for u in s.scalars(m.select(m.User).order_by(m.User.id))],
    ),
    "there and back": (
        2,
        lambda m, s: [all(p.author is u for p in u.posts) for u in s.scalars(m.select(m.User)).all()],
    ),
    "no rows": (1, lambda m, s: [u.posts for u in s.scalars(m.select(m.User).where(m.User.id > 99))]),
    "nobody has any": (
        2,
        lambda m, s: [len(u.posts) for u in s.scalars(m.select(m.User).where(m.User.id == 3))],
    ),
    "rows of two classes": (
        3,
        lambda m, s: sorted(
            (u.profile is not None, len(p.tags))
            for u, p in s.execute(m.select(m.User, m.Post).join(m.User.posts)).all()
        ),
    ),
    "rows with none": (
        2,
        lambda m, s: sorted(
            0 if p is None else len(p.tags)
            for _, p in s.execute(m.select(m.User, m.Post).outerjoin(m.User.posts)).all()
        ),
    ),
    "columns beside": (
        2,
        lambda m, s: [
            len(u.posts) for u, _ in s.execute(m.select(m.User, m.User.name).order_by(m.User.id)).all()
        ],
    ),
    "got one by one": (5, lambda m, s: [len(u.posts) for u in [s.get(m.User, i) for i in (1, 2, 3, 4)]]),
    "from another statement": (
        2,
        lambda m, s: [
            len(u.posts)
            for u in s.scalars(
                m.select(m.User).from_statement(sa.text("SELECT * FROM users ORDER BY id"))
            ).all()
        ],
    ),
}


@pytest.mark.parametrize("name", WALKS)
def test_one_statement_serves_all_siblings(pair: Pair, name: str) -> None:
    statements, walk = WALKS[name]
    expected = pair.ask_theirs(walk)

    with counted(pair.db) as seen:
        assert pair.ask_ours(walk) == expected

    assert len(seen) == statements, seen


def test_a_deep_tree_costs_one_statement_per_level(pair: Pair, m: Any, session: Any) -> None:
    level = session.scalars(select(m.Node).where(m.Node.parent_id.is_(None))).all()

    with counted(pair.db) as seen:
        depth = 0
        while level:
            level = [child for node in level for child in node.children]
            depth += 1

    assert (depth, len(seen)) == (4, 4)


def test_reading_what_is_known_costs_no_statement(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User)).all()
    posts = session.scalars(select(m.Post)).all()

    with counted(pair.db) as seen:
        found = {post.author for post in posts}

    assert found == {None, *(user for user in users if user.id != 3)}
    assert seen == []


def test_objects_flushed_together_are_siblings(pair: Pair, m: Any, session: Any) -> None:
    users = [m.User(name=f"u{n}") for n in range(5)]
    session.add_all(users)
    session.flush()
    session.execute(insert(m.Profile), [{"text": "x", "user_id": user.id} for user in users])

    with counted(pair.db) as seen:
        assert [user.profile.text for user in users] == ["x"] * 5

    assert len(seen) == 1


def test_siblings_are_held_weakly(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).order_by(m.User.id)).all()
    first, gone = users[0], [weakref.ref(user) for user in users[1:]]
    del users
    gc.collect()

    assert [ref() for ref in gone] == [None] * 3
    with counted(pair.db) as seen:
        first.posts
    assert len(seen) == 1


def test_a_collection_frees_its_objects(m: Any, session: Any) -> None:
    user = session.get(m.User, 1)
    post = weakref.ref(user.posts[0])

    del user
    gc.collect()

    assert post() is None


def test_objects_reached_again_stay_among_their_siblings(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User)).all()
    users[0].idols

    with counted(pair.db) as seen:
        [user.fans for user in users]

    assert len(seen) == 1


def test_changes_are_flushed_before_a_relation_is_loaded(m: Any, session: Any) -> None:
    user = session.get(m.User, 3)

    session.add(m.Post(title="new", author_id=3))

    assert [post.title for post in user.posts] == ["new"]


# ---------------------------------------------------------------- freshness


def test_a_later_query_refreshes_what_an_earlier_transaction_read(pair: Pair, m: Any, session: Any) -> None:
    user = session.get(m.User, 4)
    user.posts, user.profile
    session.commit()
    with pair.db.begin() as other:
        other.execute(update(m.User).where(m.User.id == 4).values(name="Later"))
        other.execute(insert(m.Post).values(id=200, title="later", author_id=4))
    assert (user.name, len(user.posts)) == ("Dan", 1)  # readable, as it was

    user.age = 5
    again = session.scalars(select(m.User).where(m.User.id == 4)).one()

    assert again is user
    assert (user.name, user.age, [post.id for post in user.posts]) == ("Later", 5, [5, 200])
    session.rollback()
    with pair.db.begin() as other:
        other.execute(sa.delete(m.Post).where(m.Post.id == 200))
        other.execute(update(m.User).where(m.User.id == 4).values(name="Dan", motto="none"))


def test_within_a_transaction_loaded_values_stay(pair: Pair, m: Any, session: Any) -> None:
    user = session.get(m.User, 1)
    posts = user.posts

    session.scalars(select(m.User)).all()

    assert user.posts is posts


def test_refresh_reads_the_row_again(pair: Pair, m: Any, session: Any) -> None:
    user = session.get(m.User, 1)
    posts = user.posts
    table = m.User.__table__
    session.execute(update(table).where(table.c.id == 1).values(name="Other", age=1))

    session.refresh(user, ["name"])
    assert (user.name, user.age, user.posts is posts) == ("Other", 36, True)
    session.execute(insert(m.Post.__table__).values(id=300, title="x", author_id=1, published=True, likes=0))
    session.refresh(user, ["posts"])
    assert (user.age, len(user.posts)) == (36, 4)
    session.refresh(user)

    assert (user.age, user.bio) == (1, "long")


def test_refresh_of_a_row_that_is_gone(m: Any, session: Any) -> None:
    city = session.get(m.City, 4)
    session.execute(sa.delete(m.City.__table__).where(m.City.__table__.c.id == 4))

    for names in (None, ["name"]):
        with pytest.raises(InvalidRequestError, match="gone"):
            session.refresh(city, names)


def test_deferred_columns_of_a_row_that_is_gone(m: Any, session: Any) -> None:
    city = session.scalars(select(m.City).where(m.City.id == 4).options(load_only(m.City.code))).one()
    session.execute(sa.delete(m.City.__table__).where(m.City.__table__.c.id == 4))

    with pytest.raises(InvalidRequestError, match="gone"):
        city.name


def test_after_the_session_is_closed(pair: Pair, m: Any) -> None:
    with pair.db.session() as session:
        user = session.get(m.User, 1)

    assert user.name == "Ada"
    with pytest.raises(DetachedInstanceError, match=r"selectinload\(User.posts\)"):
        user.posts


# ---------------------------------------------------------------- session.load


def test_load_a_path(pair: Pair, m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).order_by(m.User.id)).all()

    with counted(pair.db) as seen:
        session.load(users, m.User.posts, m.Post.tags)
        session.load(users, m.User.bio)
        assert next([[t.id for t in p.tags] for p in u.posts] for u in users) == [[1, 2], [2], [2]]
        assert users[0].bio == "long"

    assert len(seen) == 3


def test_load_one_object_or_none(pair: Pair, m: Any, session: Any) -> None:
    user = session.get(m.User, 1)

    with counted(pair.db) as seen:
        session.load([], m.User.posts)
        assert seen == []
        session.load(user, m.User.posts)
        session.load([user, None], m.User.posts)

    assert len(seen) == 1


def test_load_refuses_what_does_not_fit(m: Any, session: Any) -> None:
    user = session.get(m.User, 1)

    with pytest.raises(InvalidRequestError, match="Begin the path with a relation of User"):
        session.load(user, m.Post.tags)
    with pytest.raises(DetachedInstanceError):
        session.load(m.User(name="x"), m.User.posts)


def test_load_obeys_criteria(m: Any, session: Any) -> None:
    users = session.scalars(select(m.User).order_by(m.User.id)).all()

    session.load(users, m.User.posts.and_(m.Post.published))

    assert [[post.id for post in user.posts] for user in users] == [[2, 6], [], [], []]


# ---------------------------------------------------------------- async


@pytest.fixture
async def async_db(pair: Pair) -> Any:
    async with AsyncDatabase(pair.url) as db:
        yield db


async def test_touching_what_is_not_loaded_names_the_call(async_db: Any, m: Any) -> None:
    async with async_db.session() as session:
        objects = (await session.scalars(select(m.User).order_by(m.User.id))).all()

        for name, kind in (
            ("posts", RelationNotLoaded),
            ("profile", RelationNotLoaded),
            ("bio", AttributeNotLoaded),
        ):
            with pytest.raises(kind) as caught:
                getattr(objects[0], name)
            call = re.search(r"`await (session\.load\(.*?\))`", str(caught.value))
            assert call is not None
            await eval(call[1], {"session": session, "objects": objects, "User": m.User})
            getattr(objects[0], name)

        object = objects[0]  # noqa: A001 - the text says so
        with pytest.raises(RelationNotLoaded) as caught:
            object.idols
        call = re.search(r"`await (object\..*?)`", str(caught.value))
        assert call is not None
        await eval(call[1], {"object": object})
        assert [user.name for user in object.idols] == ["Bob", "Cyd"]
        option = re.search(r"`\.options\((.*?\))\)`", str(caught.value))
        assert option is not None
        eval(option[1], {"selectinload": selectinload, "User": m.User})


async def test_awaitable_attrs_load_for_all_siblings(async_db: Any, m: Any) -> None:
    async with async_db.session() as session:
        users = (await session.scalars(select(m.User).order_by(m.User.id))).all()

        with counted(async_db) as seen:
            lengths = [len(await user.awaitable_attrs.posts) for user in users]
            names = [[post.author.name for post in user.posts] for user in users]
            bios = [await user.awaitable_attrs.bio for user in users]

    assert lengths == [3, 1, 0, 1]
    assert names[0] == ["Ada"] * 3
    assert bios == ["long", None, "short", ""]
    assert len(seen) == 2


async def test_what_the_identity_map_has_needs_no_await(async_db: Any, m: Any) -> None:
    async with async_db.session() as session:
        users = (await session.scalars(select(m.User))).all()
        posts = (await session.scalars(select(m.Post).order_by(m.Post.id))).all()

        assert posts[0].author in users
        assert posts[3].author is None


async def test_a_deferred_foreign_key_is_loaded_on_the_way(async_db: Any, m: Any) -> None:
    async with async_db.session() as session:
        statement = select(m.Post).options(load_only(m.Post.title)).order_by(m.Post.id)
        posts = (await session.scalars(statement)).all()

        with counted(async_db) as seen:
            author = await posts[0].awaitable_attrs.author

        assert author.name == "Ada"
        assert len(seen) == 2


def test_awaitable_attrs_belong_to_async_sessions(m: Any, session: Any) -> None:
    user = session.get(m.User, 1)

    with pytest.raises(InvalidRequestError, match=r"object\.posts"):
        user.awaitable_attrs.posts


# ---------------------------------------------------------------- many

MANY = """
class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    a: Mapped[int]
    children: Mapped[List["Child"]] = relationship(back_populates="parent", foreign_keys="Child.parent_id")
    by_code: Mapped[List["Child"]] = relationship(primaryjoin="Parent.code == foreign(Child.code)", viewonly=True)
    by_two: Mapped[List["Child"]] = relationship(
        primaryjoin="and_(Parent.id == foreign(Child.parent_id), Parent.a == foreign(Child.a))", viewonly=True)
    others: Mapped[List["Child"]] = relationship(
        primaryjoin="and_(Parent.id == foreign(Child.parent_id), Child.a > 3)", viewonly=True)
    tags: Mapped[List["Tag"]] = relationship(secondary="parent_tag")

class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"), index=True)
    code: Mapped[str] = mapped_column(String(20), index=True)
    a: Mapped[int]
    parent: Mapped[Parent] = relationship(back_populates="children", foreign_keys=[parent_id])

class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)

Table("parent_tag", Base.metadata, Column("p", ForeignKey("parent.id"), primary_key=True),
    Column("t", ForeignKey("tag.id"), primary_key=True))
"""
COUNT = 50_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Database]]:
    side = our_side(MANY)
    db = Database(f"sqlite:///{tmp_path_factory.mktemp('many') / 'many.db'}")
    db.create_all(side.Base)
    with db.begin() as session:
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {COUNT})"
        for sql in (
            f"INSERT INTO parent (id, code, a) {numbers} SELECT i, 'c' || i, i % 7 FROM n",
            f"INSERT INTO child (id, parent_id, code, a) {numbers} SELECT i, i, 'c' || i, i % 7 FROM n",
            "INSERT INTO tag (id) VALUES (1), (2)",
            f"INSERT INTO parent_tag (p, t) {numbers} SELECT i, i % 2 + 1 FROM n",
        ):
            session.execute(sa.text(sql))
    yield side, db
    db.close()


@pytest.mark.parametrize(
    ("name", "statements", "members"),
    [
        ("children", 1, COUNT),
        ("by_code", 1, COUNT),
        ("tags", 1, COUNT),
        ("by_two", 1, COUNT),
        ("others", 1, sum(1 for i in range(1, COUNT + 1) if i % 7 > 3)),
    ],
)
def test_fifty_thousand_parents(many: tuple[Any, Database], name: str, statements: int, members: int) -> None:
    side, db = many
    with db.session() as session:
        parents = session.scalars(select(side.Parent)).all()

        with counted(db) as seen:
            found = sum(len(getattr(parent, name)) for parent in parents)

    assert (len(parents), found) == (COUNT, members)
    assert len(seen) <= statements, len(seen)


def test_fifty_thousand_to_one(many: tuple[Any, Database]) -> None:
    side, db = many
    with db.session() as session:
        children = session.scalars(select(side.Child)).all()

        with counted(db) as seen:
            assert all(child.parent.id == child.id for child in children)

    assert len(seen) == 1
