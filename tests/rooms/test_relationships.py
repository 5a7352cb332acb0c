"""Declaring relations: direction, pairs, sides and joins as SQLAlchemy's ORM has them; mistakes told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, and_, create_engine, insert, select
from sqlalchemy.orm import aliased as orm_aliased

from holdfast.errors import InvalidRequestError, ModelError, NotSupported
from holdfast.model import (
    DeclarativeBase,
    Direction,
    Mapped,
    configure,
    join_condition,
    mapped_column,
    mapper_of,
    relationship,
)
from tests.rooms.model_files import load, load_both, relations_of, relations_of_orm

KEY = "    id: Mapped[int] = mapped_column(primary_key=True)\n"

USERS_POSTS = """
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list["Post"]] = relationship(back_populates="author", cascade="all, delete-orphan", order_by="Post.title")
class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped["User"] = relationship(back_populates="posts")
    tags: Mapped[set["Tag"]] = relationship(secondary="post_tags", back_populates="posts")
class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list["Post"]] = relationship(secondary=lambda: post_tags, back_populates="tags")
post_tags = Table("post_tags", Base.metadata,
    Column("post_id", ForeignKey("posts.id"), primary_key=True), Column("tag_id", ForeignKey("tags.id"), primary_key=True))
"""

NODES = """
class Node(Base):
    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    children: Mapped[list["Node"]] = relationship(back_populates="parent")
    parent: Mapped["Node | None"] = relationship(back_populates="children", remote_side=[id])
"""

FOLLOWS = """
follows = Table("follows", Base.metadata,
    Column("follower_id", ForeignKey("users.id"), primary_key=True),
    Column("followed_id", ForeignKey("users.id"), primary_key=True))
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    following: Mapped[list["User"]] = relationship(
        secondary=follows, primaryjoin=lambda: User.id == follows.c.follower_id,
        secondaryjoin=lambda: User.id == follows.c.followed_id, back_populates="followers")
    followers: Mapped[list["User"]] = relationship(
        secondary="follows", primaryjoin="User.id == follows.c.followed_id",
        secondaryjoin="User.id == follows.c.follower_id", back_populates="following")
"""

FILES = {
    "users and posts": USERS_POSTS,
    "nodes": NODES,
    "follows": FOLLOWS,
    "nodes in text": NODES.replace("remote_side=[id]", 'remote_side="Node.id"'),
    "nodes by function": NODES.replace("remote_side=[id]", "remote_side=lambda: [Node.id]"),
    "one to one": """
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    profile: Mapped["Profile"] = relationship(back_populates="user")
    card: Mapped[Optional["Card"]] = relationship(back_populates="user", uselist=False)
class Profile(Base):
    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    user: Mapped[User] = relationship(back_populates="profile", single_parent=True, cascade="all, delete-orphan")
class Card(Base):
    __tablename__ = "cards"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id), unique=True)
    user = relationship("User", back_populates="card")
""",
    "several keys": """
class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    billed: Mapped[list["Order"]] = relationship(foreign_keys="Order.billing_id", back_populates="billing")
    shipped: Mapped[List["Order"]] = relationship("Order", foreign_keys="[Order.shipping_id]", back_populates="shipping")
class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    billing_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    shipping_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    billing: Mapped[Account] = relationship(foreign_keys=[billing_id], back_populates="billed")
    shipping: Mapped[Account | None] = relationship(foreign_keys=shipping_id, back_populates="shipped")
""",
    "composite keys": """
class Tenant(Base):
    __tablename__ = "tenants"
    region: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    users: Mapped[list["Member"]] = relationship(back_populates="tenant")
class Member(Base):
    __tablename__ = "members"
    __table_args__ = (ForeignKeyConstraint(["region", "number"], ["tenants.region", "tenants.number"]),)
    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]
    number: Mapped[int]
    tenant: Mapped[Tenant] = relationship(back_populates="users")
""",
    "composite self reference": """
class Folder(Base):
    __tablename__ = "folders"
    __table_args__ = (ForeignKeyConstraint(["account_id", "parent_id"], ["folders.account_id", "folders.id"]),)
    account_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None]
    parent: Mapped["Folder"] = relationship(back_populates="children", remote_side=[account_id, id])
    children: Mapped[list["Folder"]] = relationship(back_populates="parent")
""",
    "conditions": """
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    boston: Mapped[list["Address"]] = relationship(
        primaryjoin="and_(User.id == Address.user_id, Address.city == 'Boston')", viewonly=True)
    named: Mapped[list["Address"]] = relationship(
        primaryjoin=lambda: User.name == foreign(Address.owner_name), viewonly=True)
    named2: Mapped[list["Address"]] = relationship(
        primaryjoin="User.name == Address.owner_name", foreign_keys="Address.owner_name", viewonly=True)
    named3: Mapped[list["Address"]] = relationship(
        primaryjoin="User.name == foreign(remote(Address.owner_name))", viewonly=True,
        order_by="[Address.city.desc(), Address.id]")
class Address(Base):
    __tablename__ = "addresses"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    city: Mapped[str]
    owner_name: Mapped[str]
    user: Mapped[User] = relationship(primaryjoin=user_id == User.id, overlaps="boston")
""",
    "association object": """
class Left(Base):
    __tablename__ = "lefts"
    id: Mapped[int] = mapped_column(primary_key=True)
    links: Mapped[list["Link"]] = relationship(back_populates="left")
    rights: Mapped[list["Right"]] = relationship(secondary="links", viewonly=True)
class Link(Base):
    __tablename__ = "links"
    left_id: Mapped[int] = mapped_column(ForeignKey("lefts.id"), primary_key=True)
    right_id: Mapped[int] = mapped_column(ForeignKey("rights.id"), primary_key=True)
    note: Mapped[str | None]
    left: Mapped["Left"] = relationship(back_populates="links")
    right: Mapped["Right"] = relationship(back_populates="links")
class Right(Base):
    __tablename__ = "rights"
    id: Mapped[int] = mapped_column(primary_key=True)
    links: Mapped[list["Link"]] = relationship(back_populates="right", order_by=[Link.note, desc(Link.left_id)])
""",
    "cascades": """
class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
    b1: Mapped[list["B"]] = relationship(cascade="all")
    b2: Mapped[list["B"]] = relationship(cascade="none", overlaps="b1")
    b3: Mapped[list["B"]] = relationship(cascade="save-update", overlaps="b1,b2")
    b4: Mapped[list["B"]] = relationship(cascade="save-update, merge, delete", passive_deletes=True, overlaps="b1,b2,b3")
    b5: Mapped[list["B"]] = relationship(viewonly=True)
    b6: Mapped[list["B"]] = relationship(viewonly=True, cascade="all, delete-orphan")
class B(Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("a.id"))
""",
    "both ways": """
class Player(Base):
    __tablename__ = "players"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))
    team: Mapped["Team | None"] = relationship(foreign_keys=[team_id], back_populates="players")
class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    captain_id: Mapped[int | None] = mapped_column(ForeignKey("players.id", use_alter=True))
    players: Mapped[list["Player"]] = relationship(foreign_keys="Player.team_id", back_populates="team")
    captain: Mapped["Player | None"] = relationship(foreign_keys=[captain_id], post_update=True)
""",
}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("future", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_relations_are_what_sqlalchemy_makes_of_the_same_file(name: str, future: bool) -> None:
    ours, theirs = load_both(FILES[name], future=future)

    assert relations_of(ours) == relations_of_orm(theirs)


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("name", FILES)
def test_a_relation_joins_aliases_as_sqlalchemy_does(name: str) -> None:
    ours, theirs = load_both(FILES[name])

    for cls in ours.Base.registry.declared:
        for relation in mapper_of(cls).relations.values():
            source, target = relation.parent.table.alias("s"), relation.target.table.alias("t")
            secondary = relation.secondary.alias("m") if relation.secondary is not None else None
            on, on_target = join_condition(relation, source, target, secondary)
            parent, other = getattr(theirs, cls.__name__), getattr(theirs, relation.target.name)
            s, t = orm_aliased(parent, name="s"), orm_aliased(other, name="t")
            text = str(select(s).join(t, getattr(s, relation.name)))
            if secondary is None:
                assert set(parts(text.split(" ON ")[1])) == set(parts(str(on)))
            else:
                first, second = (part.split(" JOIN ")[0] for part in text.split(" ON ")[1:])
                through = f"{relation.secondary.name}_1."  # type: ignore[union-attr]
                assert set(parts(first.replace(through, "m."))) == set(parts(str(on)))
                assert set(parts(second.replace(through, "m."))) == set(parts(str(on_target)))


def parts(condition: str) -> list[frozenset[str]]:
    return [frozenset(part.split(" = ")) for part in condition.strip().split(" AND ")]


# ---------------------------------------------------------------- asking, with rows


Fill = Callable[..., Any]


@pytest.fixture
def filled() -> Iterator[Fill]:
    """A function that makes the tables of a module, fills them, and answers a connection."""
    with ExitStack() as closing:

        def fill(module: Any, **tables: list[dict[str, Any]]) -> Any:
            engine = create_engine("sqlite://")
            closing.callback(engine.dispose)
            connection = closing.enter_context(engine.connect())
            module.Base.metadata.create_all(connection)
            for name, values in tables.items():
                connection.execute(insert(module.Base.metadata.tables[name]), values)
            return connection

        yield fill


@pytest.fixture
def blog(filled: Fill) -> Any:
    module = load(USERS_POSTS)
    module.connection = filled(
        module,
        users=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}],
        posts=[
            {"id": 1, "title": "x", "author_id": 1},
            {"id": 2, "title": "y", "author_id": 1},
            {"id": 3, "title": "x", "author_id": 2},
        ],
        tags=[{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
        post_tags=[{"post_id": 1, "tag_id": 1}, {"post_id": 1, "tag_id": 2}, {"post_id": 3, "tag_id": 2}],
    )
    module.ask = lambda statement: sorted(module.connection.scalars(statement).all())
    return module


def test_any_and_has_ask_about_the_other_end(blog: Any) -> None:
    User, Post, Tag, ask = blog.User, blog.Post, blog.Tag, blog.ask

    assert ask(select(User.id).where(User.posts.any())) == [1, 2]
    assert ask(select(User.id).where(~User.posts.any())) == [3]
    assert ask(select(User.id).where(User.posts.any(Post.title == "y"))) == [1]
    assert ask(select(User.id).where(User.posts.any(title="x"))) == [1, 2]
    assert ask(select(Post.id).where(Post.author.has(name="b"))) == [3]
    assert ask(select(Post.id).where(Post.author.has(User.name == "a"))) == [1, 2]
    assert ask(select(Post.id).where(Post.tags.any(Tag.name == "blue"))) == [1, 3]
    assert ask(select(Tag.id).where(Tag.posts.any(Post.author.has(User.name == "b")))) == [2]
    assert ask(select(User.id).where(User.posts.any(Post.tags.any(Tag.posts.any(Post.id == 3))))) == [1, 2]
    assert ask(select(User.id).where(User.posts.and_(Post.id > 2).any())) == [2]


def test_a_relation_compares_with_objects_by_their_keys(blog: Any) -> None:
    User, Post, Tag, ask = blog.User, blog.Post, blog.Tag, blog.ask
    alice, blue = User(id=1), Tag(id=2)

    assert ask(select(Post.id).where(Post.author == alice)) == [1, 2]
    assert ask(select(Post.id).where(Post.author != alice)) == [3]
    assert ask(select(Post.id).where(Post.author == None)) == []  # noqa: E711
    assert ask(select(Post.id).where(Post.author.is_not(None))) == [1, 2, 3]
    assert ask(select(Post.id).where(Post.tags.contains(blue))) == [1, 3]
    assert ask(select(Post.id).where(~Post.tags.contains(blue))) == [2]
    assert ask(select(User.id).where(User.posts.contains(Post(id=3, author_id=2)))) == [2]
    assert ask(select(User.id).where(User.posts == None)) == [3]  # noqa: E711
    assert ask(select(User.id).where(User.posts != None)) == [1, 2]  # noqa: E711


def test_a_relation_of_an_alias_asks_about_the_alias(blog: Any) -> None:
    User, Post, ask = blog.User, blog.Post, blog.ask
    mapper = mapper_of(User)
    other = mapper.entity.alias("other")
    posts = User.posts.of(other)

    statement = (
        select(other.c.id).join(User.__table__, User.id == other.c.id + 1).where(posts.any(Post.title == "y"))
    )

    assert posts.source is other
    assert ask(statement) == [1]
    assert ask(select(User.id).where(User.posts.of_type(Post.__table__.alias("p")).any())) == [1, 2]


def test_a_self_reference_asks_about_an_alias_of_itself(filled: Fill) -> None:
    module = load(NODES)
    Node = module.Node
    connection = filled(
        module,
        nodes=[
            {"id": 1, "name": "root", "parent_id": None},
            {"id": 2, "name": "a", "parent_id": 1},
            {"id": 3, "name": "b", "parent_id": 2},
        ],
    )

    def ask(statement: Any) -> list[Any]:
        return sorted(connection.scalars(statement).all())

    assert ask(select(Node.id).where(Node.children.any())) == [1, 2]
    assert ask(select(Node.id).where(Node.children.any(Node.name == "b"))) == [2]
    assert ask(select(Node.id).where(Node.children.any(name="a"))) == [1]
    assert ask(select(Node.id).where(Node.parent.has(Node.name == "a"))) == [3]
    assert ask(select(Node.id).where(Node.parent == Node(id=1))) == [2]
    assert ask(select(Node.id).where(Node.parent == None)) == [1]  # noqa: E711
    assert ask(select(Node.id).where(Node.children.any(Node.children.any()))) == [1]


def test_many_to_many_with_itself_keeps_both_ends_apart(filled: Fill) -> None:
    module = load(FOLLOWS)
    User = module.User
    connection = filled(
        module,
        users=[{"id": i, "name": n} for i, n in enumerate("abc", 1)],
        follows=[{"follower_id": 1, "followed_id": 2}, {"follower_id": 2, "followed_id": 3}],
    )

    def ask(statement: Any) -> list[Any]:
        return sorted(connection.scalars(statement).all())

    assert ask(select(User.id).where(User.following.any())) == [1, 2]
    assert ask(select(User.id).where(User.followers.any(User.name == "a"))) == [2]
    assert ask(select(User.id).where(User.following.contains(User(id=3)))) == [2]
    assert ask(select(User.id).where(User.following.any(name="b"))) == [1]


# ---------------------------------------------------------------- asked wrongly

WRONG = {
    "any on one": (lambda m: m.Post.author.any(), "Post.author.has(...)"),
    "has on many": (lambda m: m.User.posts.has(), "User.posts.any(...)"),
    "contains on one": (lambda m: m.Post.author.contains(m.User()), "Post.author == user"),
    "== on many": (lambda m: m.User.posts == m.Post(), "User.posts.contains(post)"),
    "!= on many": (lambda m: m.User.posts != m.Post(), "~User.posts.contains(post)"),
    "in_ on one": (lambda m: m.Post.author.in_([]), "Post.author_id.in_([x.id for x in objects])"),
    "in_ on many": (lambda m: m.User.posts.in_([]), "User.posts.any(Post.id.in_([x.id for x in objects]))"),
    "as a column": (lambda m: select(m.User.posts), ".join(User.posts)"),
    "in where": (lambda m: select(m.User).where(m.User.posts), ".where(User.posts.any(...))"),
    "without key": (lambda m: m.Post.author == m.User(), "session.flush()"),
    "another class": (lambda m: m.Post.author == m.Tag(id=1), "User.id == ..."),
    "is_ with object": (lambda m: m.Post.author.is_(m.User()), "Post.author == user"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_question_is_answered_with_the_right_one(case: str) -> None:
    ask, write = WRONG[case]
    module = load(USERS_POSTS)

    with pytest.raises(InvalidRequestError) as caught:
        ask(module)

    assert f"`{write}`" in str(caught.value)


@pytest.mark.parametrize(
    "case",
    ["any on one", "has on many", "contains on one", "== on many", "!= on many", "in_ on one", "in_ on many"],
)
def test_the_right_question_of_the_message_runs(case: str) -> None:
    _ask, write = WRONG[case]
    module = load(USERS_POSTS)
    names = {
        **vars(module),
        "user": module.User(id=1),
        "post": module.Post(id=1, author_id=1),
        "objects": [module.Post(id=1)],
    }

    expression = eval(write.replace("...", ""), names)

    assert str(select(module.User).where(expression))


def test_an_attribute_of_the_target_is_not_one_of_the_relation() -> None:
    module = load(USERS_POSTS)

    with pytest.raises(AttributeError, match=r"`User\.posts\.any\(Post\.title == \.\.\.\)`"):
        _ = module.User.posts.title
    with pytest.raises(InvalidRequestError, match="did you mean 'title'"):
        module.User.posts.any(titel="x")


# ---------------------------------------------------------------- what a relation is


def test_lazy_has_sqlalchemys_names_and_batch_is_the_default() -> None:
    class Base(DeclarativeBase):
        pass

    class A(Base):
        __tablename__ = "a"
        id: Mapped[int] = mapped_column(primary_key=True)
        b_id: Mapped[int] = mapped_column(ForeignKey("b.id"))
        b1: Mapped[B] = relationship()
        b2: Mapped[B] = relationship(lazy="select")
        b3: Mapped[B] = relationship(lazy="joined", innerjoin=True)
        b4: Mapped[B] = relationship(lazy="raise")
        b5: Mapped[B] = relationship(lazy=False)

    class B(Base):
        __tablename__ = "b"
        id: Mapped[int] = mapped_column(primary_key=True)

    lazy = [relation.lazy for relation in mapper_of(A).relations.values()]

    assert lazy == ["batch", "batch", "joined", "raise", "joined"]
    assert all(relation.simple for relation in mapper_of(A).relations.values())


def test_a_condition_that_is_more_than_keys_is_not_simple() -> None:
    relations = mapper_of(load(FILES["conditions"]).User).relations

    assert {name: relation.simple for name, relation in relations.items()} == {
        "boston": False,
        "named": True,
        "named2": True,
        "named3": True,
    }


def test_a_relation_may_lead_to_a_class_of_another_base() -> None:
    class One(DeclarativeBase):
        pass

    class Two(DeclarativeBase):
        metadata = One.metadata

    class Parent(Two):
        __tablename__ = "parents"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Child(One):
        __tablename__ = "children"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))
        parent: Mapped[Parent] = relationship()

    assert mapper_of(Child).relations["parent"].target is mapper_of(Parent)


def test_the_model_is_meant_where_a_module_has_another_thing_of_its_name() -> None:
    module = load(USERS_POSTS)
    other = load("""
def make():
    class Mine(DeclarativeBase): pass
    class User(Mine):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list[Post]] = relationship()
    class Post(Mine):
        __tablename__ = "posts"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    return User, Post
""")
    other.Post = module.Post

    user, post = other.make()

    assert mapper_of(user).relations["posts"].target.class_ is post


def test_classes_of_one_name_are_told_apart_by_their_module() -> None:
    class Base(DeclarativeBase):
        pass

    def make(module: str, table: str) -> Any:
        return type(
            "Thing",
            (Base,),
            {
                "__module__": module,
                "__tablename__": table,
                "id": Column(ForeignKey("owners.id"), primary_key=True),
            },
        )

    first, _second = make("app.one", "one"), make("app.two", "two")

    class Owner(Base):
        __tablename__ = "owners"
        id: Mapped[int] = mapped_column(primary_key=True)
        thing = relationship("one.Thing")

    assert mapper_of(Owner).relations["thing"].target.class_ is first

    class Other(Base):
        __tablename__ = "others"
        id: Mapped[int] = mapped_column(primary_key=True)
        thing = relationship("Thing")

    with pytest.raises(ModelError, match=r"2 classes are named 'Thing': app\.one\.Thing, app\.two\.Thing"):
        configure(Base)


def test_a_relation_bound_by_and_keeps_its_criteria() -> None:
    module = load(USERS_POSTS)
    recent = module.User.posts.and_(module.Post.id > 2)

    assert recent.relation is mapper_of(module.User).relations["posts"]
    assert len(recent.extra) == 1
    assert module.User.posts.extra == ()
    assert recent.relation.direction is Direction.ONE_TO_MANY


def test_join_condition_takes_a_subquery_for_a_side() -> None:
    module = load(USERS_POSTS)
    relation = mapper_of(module.User).relations["posts"]
    recent = select(module.Post).where(module.Post.id > 2).subquery("recent")

    on, _ = join_condition(relation, relation.parent.entity, recent)

    assert str(on) == "users.id = recent.author_id"


# ---------------------------------------------------------------- mistakes


def two(parent: str, child: str, before: str = "") -> str:
    """A model file of A and B, B holding the key, with these relations."""
    return (
        f'{before}\nclass A(Base):\n    __tablename__ = "a"\n{KEY}    {parent}\n'
        f'class B(Base):\n    __tablename__ = "b"\n{KEY}    a_id: Mapped[int] = mapped_column(ForeignKey("a.id"))\n    {child}\n'
    )


TWO_KEYS = """
class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)
    bs: Mapped[list["B"]] = relationship()
class B(Base):
    __tablename__ = "b"
    id: Mapped[int] = mapped_column(primary_key=True)
    x_id: Mapped[int] = mapped_column(ForeignKey("a.id"))
    y_id: Mapped[int] = mapped_column(ForeignKey("a.id"))
"""

MIDDLE = (
    'm = Table("m", Base.metadata, Column("a_id", ForeignKey("a.id")), Column("b_id", ForeignKey("b.id")))'
)
LONELY = 'm = Table("m", Base.metadata, Column("a_id", ForeignKey("a.id")), Column("x", Integer))'

MISTAKES = {
    "unknown target": (
        two('bs: Mapped[list["Bee"]] = relationship()', "pass; Been = 1"),
        "A.bs: there is no class or table 'Bee'",
        None,
    ),
    "near target": (
        two(
            "pass",
            'a: Mapped["Userr"] = relationship()',
            'class User(Base):\n    __tablename__ = "u"\n' + KEY,
        ),
        "B.a: there is no class or table 'Userr' (did you mean 'User'?)",
        "User",
    ),
    "unknown name in text": (
        two('bs: Mapped[list["B"]] = relationship(primaryjoin="A.id == Bb.a_id")', "pass"),
        "A.bs: there is no class or table 'Bb' in 'A.id == Bb.a_id' (did you mean 'B'?)",
        "A.id == B.a_id",
    ),
    "unknown attribute in text": (
        two('bs: Mapped[list["B"]] = relationship(order_by="B.a_ID")', "pass"),
        "A.bs: B has no attribute 'a_ID', as in 'B.a_ID' (did you mean 'a_id'?)",
        "B.a_id",
    ),
    "text that cannot be read": (
        two('bs: Mapped[list["B"]] = relationship(order_by="B.id desc")', "pass"),
        "A.bs: 'B.id desc' cannot be read",
        None,
    ),
    "not mapped": (
        two('bs: Mapped[list["Plain"]] = relationship()', "pass", "class Plain: pass"),
        "A.bs: Plain is not a mapped class",
        None,
    ),
    "nothing said": (two("bs = relationship()", "pass"), "A.bs does not say what it leads to", None),
    "mapped missing": (
        two('bs: "list[B]" = relationship()', "pass"),
        "A.bs: the annotation lacks Mapped",
        None,
    ),
    "ambiguous": (
        TWO_KEYS,
        "A.bs: 2 foreign keys join a and b: B.x_id, B.y_id",
        'relationship(foreign_keys="B.x_id")',
    ),
    "no foreign key": (
        two(
            'cs: Mapped[list["C"]] = relationship()',
            "pass",
            f'class C(Base):\n    __tablename__ = "c"\n{KEY}',
        ),
        "A.cs: no foreign key joins a and c",
        'a_id: Mapped[int] = mapped_column(ForeignKey("a.id"))',
    ),
    "no foreign key to one": (
        two('c: Mapped["C"] = relationship()', "pass", f'class C(Base):\n    __tablename__ = "c"\n{KEY}'),
        "A.c: no foreign key joins a and c",
        'c_id: Mapped[int] = mapped_column(ForeignKey("c.id"))',
    ),
    "foreign_keys without constraint": (
        two('bs: Mapped[list["B"]] = relationship(foreign_keys="B.id")', "pass"),
        "A.bs: no foreign key on B.id joins a and b",
        'relationship(primaryjoin="B.id == A.id", foreign_keys="B.id")',
    ),
    "key to nowhere": (
        two("pass", 'a: Mapped["A"] = relationship()').replace('ForeignKey("a.id")', 'ForeignKey("aa.id")'),
        "b.a_id refers to the table 'aa', which does not exist (did you mean 'a'?)",
        'ForeignKey("a.id")',
    ),
    "key to no column": (
        two("pass", 'a: Mapped["A"] = relationship()').replace('ForeignKey("a.id")', 'ForeignKey("a.idd")'),
        "b.a_id refers to the column 'a.idd', which does not exist (did you mean 'id'?)",
        'ForeignKey("a.id")',
    ),
    "join without foreign side": (
        two('bs: Mapped[list["B"]] = relationship(primaryjoin="A.id == B.id")', "pass"),
        "A.bs: its join has no column that holds a foreign key (a.id = b.id)",
        'relationship(primaryjoin=..., foreign_keys="B.a_id")',
    ),
    "remote side elsewhere": (
        NODES.replace("[id]", '"Node.name"'),
        "Node.parent: remote_side=Node.name is not the far side of its foreign key",
        'relationship(remote_side="Node.id")',
    ),
    "list for many-to-one": (
        two("pass", 'a: Mapped[list["A"]] = relationship()'),
        "B.a is a list, but its foreign key B.a_id leads to one A",
        'a: Mapped["A"] = relationship()',
    ),
    "other side missing": (
        two('bs: Mapped[list["B"]] = relationship(back_populates="a")', "pass"),
        "A.bs: B has no relation 'a'",
        'a: Mapped["A"] = relationship(back_populates="bs")',
    ),
    "other side missing, to one": (
        two("pass", 'a: Mapped["A"] = relationship(back_populates="bs")'),
        "B.a: A has no relation 'bs'",
        'bs: Mapped[list["B"]] = relationship(back_populates="a")',
    ),
    "other side misspelt": (
        two(
            'bees: Mapped[list["B"]] = relationship(back_populates="a")',
            'a: Mapped["A"] = relationship(back_populates="bee")',
        ),
        "B.a: A has no relation 'bee' (did you mean 'bees'?)",
        None,
    ),
    "other side leads elsewhere": (
        two(
            'bs: Mapped[list["B"]] = relationship(back_populates="c")',
            'c_id: Mapped[int] = mapped_column(ForeignKey("c.id"))\n    c: Mapped["C"] = relationship()',
            f'class C(Base):\n    __tablename__ = "c"\n{KEY}',
        ),
        "A.bs: its other side B.c leads to C, not to A",
        None,
    ),
    "other side names another": (
        two('bs: Mapped[list["B"]] = relationship(back_populates="a")', 'a: Mapped["A"] = relationship()'),
        "A.bs: its other side B.a has no back_populates",
        'relationship(back_populates="bs")',
    ),
    "same direction": (
        NODES.replace(", remote_side=[id]", ""),
        "Node.children and Node.parent are both one-to-many",
        'relationship(back_populates="children", remote_side="Node.id")',
    ),
    "different tables in the middle": (
        two(
            'bs: Mapped[list["B"]] = relationship(secondary="m", back_populates="az")',
            'az: Mapped[list["A"]] = relationship(secondary="n", back_populates="bs")',
            MIDDLE + "\n" + MIDDLE.replace("m = ", "n = ").replace('"m"', '"n"'),
        ),
        "A.bs and B.az go through different tables",
        'relationship(secondary="m", back_populates="bs")',
    ),
    "no such table in the middle": (
        two('bs: Mapped[list["B"]] = relationship(secondary="ab")', "pass", MIDDLE.replace('"m"', '"abc"')),
        "A.bs: there is no table 'ab' (did you mean 'abc'?)",
        'relationship(secondary="abc")',
    ),
    "middle without key": (
        two('bs: Mapped[list["B"]] = relationship(secondary="m")', "pass", LONELY),
        "A.bs: the table 'm' has no foreign key to 'b'",
        'Column("b_id", ForeignKey("b.id"), primary_key=True)',
    ),
    "middle is ambiguous": (
        FOLLOWS.replace("primaryjoin=lambda: User.id == follows.c.follower_id,", "")
        .replace("secondaryjoin=lambda: User.id == follows.c.followed_id,", "")
        .replace(', back_populates="followers"', "")
        .replace(', back_populates="following"', ""),
        "User.following: 'follows' has several foreign keys to 'users': follower_id, followed_id",
        (
            'relationship(secondary="follows", primaryjoin="User.id == follows.c.follower_id", '
            'secondaryjoin="User.id == follows.c.followed_id")'
        ),
    ),
    "orphans with several parents": (
        two("pass", 'a: Mapped["A"] = relationship(cascade="all, delete-orphan")'),
        "B.a: delete-orphan on a many-to-one relation",
        'relationship(cascade="all, delete-orphan", single_parent=True)',
    ),
    "orphans without delete": (
        two('bs: Mapped[list["B"]] = relationship(cascade="save-update, delete-orphan")', "pass"),
        "A.bs: delete-orphan needs delete",
        'cascade="all, delete-orphan"',
    ),
    "unknown cascade": (
        two('bs: Mapped[list["B"]] = relationship(cascade="all, delete-orphans")', "pass"),
        "A.bs: there is no cascade 'delete-orphans' (did you mean 'delete-orphan'?)",
        None,
    ),
    "unknown lazy": (
        two('bs: Mapped[list["B"]] = relationship(lazy="joind")', "pass"),
        "A.bs: there is no lazy='joind' (did you mean 'joined'?)",
        None,
    ),
    "unknown option": (
        two('bs: Mapped[list["B"]] = relationship(back_populate="a")', "pass"),
        "relationship() has no option 'back_populate' (did you mean 'back_populates'?)",
        None,
    ),
    "option that takes columns": (
        two('bs: Mapped[list["B"]] = relationship(foreign_keys=[3])', "pass"),
        "A.bs: foreign_keys takes columns, not a int",
        None,
    ),
    "passive deletes all": (
        two('bs: Mapped[list["B"]] = relationship(cascade="all", passive_deletes="all")', "pass"),
        'A.bs: passive_deletes="all"',
        "relationship(passive_deletes=True)",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_the_line_to_write(case: str) -> None:
    source, happened, write = MISTAKES[case]

    with pytest.raises(ModelError) as caught:
        configure(load(source).Base)

    assert happened in str(caught.value)
    if write is not None:
        assert f"`{write}`" in str(caught.value)


MENDED = [
    ("ambiguous", "relationship()"),
    ("list for many-to-one", 'a: Mapped[list["A"]] = relationship()'),
    ("same direction", 'relationship(back_populates="children")'),
    ("orphans with several parents", 'relationship(cascade="all, delete-orphan")'),
    ("passive deletes all", 'relationship(cascade="all", passive_deletes="all")'),
    ("key to nowhere", 'ForeignKey("aa.id")'),
    ("key to no column", 'ForeignKey("a.idd")'),
    ("no such table in the middle", 'relationship(secondary="ab")'),
    ("foreign_keys without constraint", 'relationship(foreign_keys="B.id")'),
    ("middle is ambiguous", None),
    ("no foreign key", None),
    ("no foreign key to one", None),
    ("other side missing", None),
    ("other side missing, to one", None),
    ("unknown name in text", "A.id == Bb.a_id"),
    ("unknown attribute in text", "B.a_ID"),
]


@pytest.mark.parametrize(("case", "wrong"), MENDED)
def test_the_line_of_a_message_mends_the_model(case: str, wrong: str | None) -> None:
    source = MISTAKES[case][0]
    with pytest.raises(ModelError) as caught:
        configure(load(source).Base)
    write = caught.value.write  # type: ignore[attr-defined]

    configure(load(mended(source, str(caught.value), write, wrong)).Base)


def mended(source: str, message: str, write: str, wrong: str | None) -> str:
    """Put the line of a message where the message says."""
    if wrong is not None:
        return source.replace(wrong, write)
    if "in class " in message:
        name = message.split("in class ")[1].split(" ", maxsplit=1)[0]
        head = f"class {name}(Base):\n"
        at = source.index("    id: Mapped", source.index(head))
        return f"{source[:at]}    {write}\n{source[at:]}"
    start = source.index("relationship(\n")
    end = source.index(")", start) + 1
    return (
        source[:start]
        + write
        + source[end:].replace('secondary="follows"', 'secondary="follows", viewonly=True')
    )


def test_what_comes_later_says_so() -> None:
    for option in ('lazy="dynamic"', 'lazy="write_only"', "collection_class=dict"):
        with pytest.raises(NotSupported, match="comes in a later release"):
            configure(load(two(f'bs: Mapped[list["B"]] = relationship({option})', "pass")).Base)
    with pytest.raises(NotSupported, match="a dict as collection"):
        configure(load(two('bs: Mapped[dict[str, "B"]] = relationship()', "pass")).Base)


def test_nothing_is_half_configured_after_a_mistake() -> None:
    module = load(two('bs: Mapped[list["B"]] = relationship(back_populates="nope")', "pass"))

    for _ in range(2):
        with pytest.raises(ModelError, match="B has no relation 'nope'"):
            mapper_of(module.A)
    with pytest.raises(ModelError):
        module.B()
    assert "__mapper__" not in vars(module.A)


def test_and_in_a_condition_may_be_nested() -> None:
    class Base(DeclarativeBase):
        pass

    class A(Base):
        __tablename__ = "a"
        x: Mapped[int] = mapped_column(primary_key=True)
        y: Mapped[int] = mapped_column(primary_key=True)
        bs: Mapped[list[B]] = relationship(
            primaryjoin=lambda: and_(A.x == B.x, and_(A.y == B.y)), foreign_keys=lambda: [B.x, B.y]
        )

    class B(Base):
        __tablename__ = "b"
        id: Mapped[int] = mapped_column(primary_key=True)
        x: Mapped[int]
        y: Mapped[int]

    relation = mapper_of(A).relations["bs"]

    assert relation.simple
    assert len(relation.pairs) == 2
