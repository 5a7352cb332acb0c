"""What a flush writes and in what order, what objects know afterwards, and what a rollback gives back."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    String,
    Table,
    delete,
    func,
    text,
    update,
)

from holdfast import (
    AsyncDatabase,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    select,
)
from holdfast.errors import (
    CircularDependencyError,
    DetachedInstanceError,
    ForeignKeyViolation,
    InvalidRequestError,
    NotNullViolation,
    ObjectInOtherSession,
    SessionClosed,
    SessionInUse,
    StaleDataError,
    TransactionFailed,
    UniqueViolation,
    WrongType,
)
from holdfast.observe import StatementStarted


class Base(DeclarativeBase):
    pass


post_tags = Table(
    "post_tags",
    Base.metadata,
    Column("post_id", ForeignKey("posts.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)
    age: Mapped[int | None]
    double_age: Mapped[int | None] = mapped_column(Computed("age * 2"))
    state: Mapped[str] = mapped_column(server_default="fresh")
    token: Mapped[str] = mapped_column(default=lambda: uuid.uuid4().hex)
    kind: Mapped[str] = mapped_column(default="plain")
    edited: Mapped[str | None] = mapped_column(onupdate=lambda: "edited")
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    posts: Mapped[list[Post]] = relationship(back_populates="author", cascade="all, delete-orphan")
    profile: Mapped[Profile | None] = relationship(back_populates="user", cascade="all, delete-orphan")
    notes: Mapped[list[Note]] = relationship(back_populates="user")
    logs: Mapped[list[Log]] = relationship(cascade="all", passive_deletes=True)


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")
    tags: Mapped[list[Tag]] = relationship(secondary=post_tags, back_populates="posts")


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(secondary=post_tags, back_populates="tags")


class Profile(Base):
    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    user: Mapped[User | None] = relationship(back_populates="profile")


class Note(Base):
    """Not owned: without its user it stays."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    user: Mapped[User | None] = relationship(back_populates="notes")


class Log(Base):
    """Deleted by the server with its user."""

    __tablename__ = "logs"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


class Node(Base):
    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side="Node.id")
    children: Mapped[list[Node]] = relationship(back_populates="parent", cascade="all")


class Team(Base):
    """Its captain is one of its players: a circle, broken by post_update."""

    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    captain_id: Mapped[int | None] = mapped_column(ForeignKey("players.id"))
    captain: Mapped[Player | None] = relationship(foreign_keys=[captain_id], post_update=True)
    players: Mapped[list[Player]] = relationship(
        back_populates="team", foreign_keys="Player.team_id", cascade="all, delete-orphan"
    )


class Player(Base):
    __tablename__ = "players"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))
    team: Mapped[Team | None] = relationship(back_populates="players", foreign_keys=[team_id])


class Egg(Base):
    __tablename__ = "eggs"
    id: Mapped[int] = mapped_column(primary_key=True)
    hen_id: Mapped[int | None] = mapped_column(ForeignKey("hens.id"))
    hen: Mapped[Hen | None] = relationship(foreign_keys=[hen_id])


class Hen(Base):
    __tablename__ = "hens"
    id: Mapped[int] = mapped_column(primary_key=True)
    egg_id: Mapped[int | None] = mapped_column(ForeignKey("eggs.id"))
    egg: Mapped[Egg | None] = relationship(foreign_keys=[egg_id])


class Shelf(Base):
    __tablename__ = "shelves"
    room: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    books: Mapped[list[Book]] = relationship(back_populates="shelf")


class Book(Base):
    __tablename__ = "books"
    __table_args__ = (
        ForeignKeyConstraint(["room", "place"], ["shelves.room", "shelves.place"], onupdate="CASCADE"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    room: Mapped[str | None]
    place: Mapped[int | None]
    shelf: Mapped[Shelf | None] = relationship(back_populates="books")


@pytest.fixture
def db() -> Iterator[Database]:
    with Database("sqlite://") as database:
        with pytest.warns(match="unresolvable cycles"):  # teams and players, eggs and hens
            database.create_all(Base)
        yield database


@pytest.fixture
def session(db: Database) -> Iterator[Session]:
    with db.session() as opened:
        yield opened


@pytest.fixture
def said(db: Database) -> list[str]:
    """The statements as they are sent, by their first words; transactions are not among them."""
    heard: list[str] = []

    def hear(event: Any) -> None:
        if isinstance(event, StatementStarted) and event.sql.split()[0] in (
            "SELECT",
            "INSERT",
            "UPDATE",
            "DELETE",
        ):
            words = event.sql.replace("INTO ", "").replace("FROM ", "").split()
            heard.append("SELECT" if words[0] == "SELECT" else f"{words[0]} {words[1]}")

    db.observers.add(hear)
    return heard


def save(session: Session, *instances: Any) -> None:
    session.add_all(instances)
    session.commit()


def count(session: Session, model: Any) -> int:
    return session.scalar(select(func.count()).select_from(model)) or 0


# ---------------------------------------------------------------- statements and their order


def test_one_statement_per_table_inserts_a_graph(session: Session, said: list[str]) -> None:
    tags = [Tag(name=f"t{n}") for n in range(3)]
    users = [User(name=f"u{n}", posts=[Post(title="a", tags=tags), Post(title="b")]) for n in range(20)]

    session.add_all(users)
    session.flush()

    assert sorted(said) == ["INSERT post_tags", "INSERT posts", "INSERT tags", "INSERT users"]
    assert said.index("INSERT users") < said.index("INSERT posts") < said.index("INSERT post_tags")


def test_one_statement_updates_all_that_changed_alike(session: Session, said: list[str]) -> None:
    users = [User(name=f"u{n}") for n in range(20)]
    save(session, *users)
    said.clear()

    for n, user in enumerate(users):
        user.age = n
    session.flush()

    assert said == ["UPDATE users"] * len(said)
    assert [user.double_age for user in users] == [n * 2 for n in range(20)]


def test_nothing_is_sent_for_what_did_not_change(session: Session, said: list[str]) -> None:
    user = User(name="a", age=1)
    save(session, user)
    said.clear()

    user.age = 2
    user.age = 1
    user.settings["x"] = 1
    del user.settings["x"]
    session.commit()

    assert said == []


def test_a_tree_is_inserted_from_its_root_and_deleted_from_its_leaves(
    session: Session, said: list[str]
) -> None:
    root = Node(children=[Node(children=[Node(), Node()]), Node()])
    session.add(root.children[0].children[1])
    session.flush()

    assert said == ["INSERT nodes"] * 3  # as many levels as it is deep
    assert root.children[0].parent_id == root.id

    said.clear()
    session.delete(root)
    session.commit()

    assert [words for words in said if words != "SELECT"] == ["DELETE nodes"]
    assert count(session, Node) == 0


def test_post_update_breaks_a_circle_both_ways(session: Session, said: list[str]) -> None:
    team = Team(players=[Player(), Player()])
    team.captain = team.players[1]

    save(session, team)

    assert said == ["INSERT teams", "INSERT players", "UPDATE teams"]
    assert team.captain_id == team.players[1].id

    said.clear()
    session.delete(team)
    session.commit()

    assert [words for words in said if words != "SELECT"] == [
        "UPDATE teams",
        "DELETE players",
        "DELETE teams",
    ]


def test_new_objects_that_wait_for_one_another_are_named(session: Session) -> None:
    egg, hen = Egg(), Hen()
    egg.hen, hen.egg = hen, egg
    session.add(egg)

    with pytest.raises(
        CircularDependencyError, match=r"New objects of Egg, Hen wait for one another.*post_update=True"
    ):
        session.flush()
    session.rollback()

    assert session.new == []


def test_rows_that_refer_to_one_another_cannot_be_deleted_in_any_order(session: Session) -> None:
    egg, hen = Egg(), Hen()
    save(session, egg, hen)
    egg.hen, hen.egg = hen, egg
    session.commit()

    session.delete(egg)
    session.delete(hen)

    with pytest.raises(CircularDependencyError, match=r"Egg, Hen refer to one another.*post_update=True"):
        session.flush()


def test_an_object_moved_to_a_new_parent_is_updated_after_its_insert(
    session: Session, said: list[str]
) -> None:
    post = Post(title="a")
    save(session, User(name="a", posts=[post]))
    said.clear()

    session.add(User(name="b", posts=[post]))
    session.flush()

    assert said == ["INSERT users", "UPDATE posts"]


# ---------------------------------------------------------------- what comes back


def test_keys_and_defaults_come_back_without_another_statement(session: Session, said: list[str]) -> None:
    users = [User(name="a", age=3), User(name="b", state="used")]
    session.add_all(users)
    session.flush()
    inserts = len(said)

    assert [u.id for u in users] == [1, 2]
    assert [u.double_age for u in users] == [6, None]
    assert [u.state for u in users] == ["fresh", "used"]
    assert users[1].age is None
    assert users[0].settings == {}
    assert users[0].kind == "plain"
    assert users[0].token != users[1].token
    assert len(said) == inserts


def test_an_update_brings_onupdate_and_computed_columns(session: Session, said: list[str]) -> None:
    user = User(name="a", age=1)
    save(session, user)
    said.clear()

    user.age = 5
    session.flush()

    assert (user.double_age, user.edited) == (10, "edited")
    assert said == ["UPDATE users"]


def test_an_sql_expression_is_computed_by_the_server(session: Session, said: list[str]) -> None:
    user = User(name="a", age=1)
    save(session, user, User(name=func.lower("LOUD")))
    said.clear()

    user.age = User.age + 1
    session.flush()

    assert (user.age, user.double_age) == (2, 4)
    assert said == ["UPDATE users"]
    assert session.scalar(select(User.name).where(User.name == "loud")) == "loud"


def test_a_json_value_changed_in_place_is_saved(session: Session) -> None:
    user = User(name="a", settings={"theme": {"dark": False}})
    save(session, user)

    user.settings["theme"]["dark"] = True
    session.commit()
    session.expunge_all()

    assert session.scalars(select(User)).one().settings == {"theme": {"dark": True}}


def test_a_changed_key_is_followed_by_the_identity_map_and_by_references(session: Session) -> None:
    shelf = Shelf(room="a", place=1, books=[Book(), Book()])
    save(session, shelf)
    books = session.scalars(select(Book)).all()

    shelf.room = "b"
    session.commit()

    assert session.get(Shelf, ("b", 1)) is shelf
    assert session.get(Shelf, ("a", 1)) is None
    assert [book.room for book in books] == ["b", "b"]
    assert session.execute(text("SELECT DISTINCT room FROM books")).scalars().all() == ["b"]


def test_a_key_passed_on_leaves_nobody_under_the_wrong_one(session: Session) -> None:
    first, second = Shelf(room="a", place=2), Shelf(room="a", place=1)
    save(session, first, second)

    first.place, second.place = 3, 2
    session.commit()

    assert session.get(Shelf, ("a", 3)) is first
    assert session.get(Shelf, ("a", 2)) is second
    assert session.get(Shelf, ("a", 1)) is None


# ---------------------------------------------------------------- relations


def test_both_sides_agree_before_and_after_a_flush(session: Session) -> None:
    one, two = User(name="a"), User(name="b")
    post = Post(title="x", author=one)
    save(session, one, two, post)

    two.posts.append(post)

    assert (post.author, one.posts) == (two, [])
    session.commit()
    assert post.author_id == two.id


def test_a_foreign_key_set_as_a_plain_value_moves_the_object(session: Session) -> None:
    one, two = User(name="a", posts=[Post(title="x")]), User(name="b")
    save(session, one, two)
    post = one.posts[0]

    post.author_id = two.id
    session.flush()

    assert (one.posts, two.posts, post.author) == ([], [post], two)


def test_a_relation_wins_over_its_key(session: Session) -> None:
    one, two = User(name="a"), User(name="b")
    post = Post(title="x", author=one)
    save(session, one, two, post)

    post.author_id = one.id
    post.author = two
    session.flush()

    assert post.author_id == two.id


@pytest.mark.parametrize(
    "let_go",
    [
        lambda user: user.posts.remove(user.posts[0]),
        lambda user: user.posts.clear(),
        lambda user: setattr(user, "posts", []),
        lambda user: setattr(user.posts[0], "author", None),
        lambda user: user.posts.pop(),
    ],
)
def test_an_owned_object_that_is_let_go_is_deleted(session: Session, let_go: Callable[[User], None]) -> None:
    user = User(name="a", posts=[Post(title="x")])
    save(session, user)

    let_go(user)
    session.commit()

    assert count(session, Post) == 0


def test_an_orphan_is_deleted_though_its_owner_never_loaded_it(db: Database, session: Session) -> None:
    save(session, User(name="a", posts=[Post(title="x")]))
    with db.session() as other:
        user, post = other.scalars(select(User)).one(), other.scalars(select(Post)).one()

        post.author = None  # type: ignore[assignment]
        other.commit()

        assert count(other, Post) == 0
        assert user.posts == []


def test_an_object_given_to_another_owner_outlives_the_first(session: Session) -> None:
    one, two = User(name="a", posts=[Post(title="x")]), User(name="b")
    save(session, one, two)
    post = one.posts[0]

    two.posts.append(post)
    session.delete(one)
    session.commit()

    assert post.author_id == two.id


def test_objects_that_are_not_owned_lose_their_key(session: Session) -> None:
    user = User(name="a", notes=[Note(), Note()])
    save(session, user)
    notes = list(user.notes)

    session.delete(user)
    session.commit()

    assert [note.user_id for note in notes] == [None, None]
    assert [note.user for note in notes] == [None, None]


def test_a_pending_child_goes_with_its_deleted_owner(db: Database, session: Session) -> None:
    save(session, User(name="a"))
    with db.session() as other:
        user = other.scalars(select(User)).one()
        other.add(Post(title="x", author=user))

        other.delete(user)
        other.commit()

        assert (count(other, User), count(other, Post)) == (0, 0)


def test_passive_deletes_leave_the_rows_to_the_server(
    db: Database, session: Session, said: list[str]
) -> None:
    save(session, User(name="a", logs=[Log(), Log()], profile=None))
    with db.session() as other:
        user = other.scalars(select(User)).one()
        said.clear()

        other.delete(user)
        other.commit()

        assert "DELETE logs" not in said
        assert count(other, Log) == 0


def test_a_one_to_one_relation_replaces_and_deletes_the_old(db: Database, session: Session) -> None:
    save(session, User(name="a", profile=Profile(text="old")))
    with db.session() as other:
        user = other.scalars(select(User)).one()

        user.profile = Profile(text="new")
        other.commit()

        assert other.scalars(select(Profile.text)).all() == ["new"]


def test_association_rows_follow_both_sides(session: Session, said: list[str]) -> None:
    tags = [Tag(name=name) for name in "abc"]
    post = Post(title="x", tags=tags[:2])
    save(session, User(name="a", posts=[post]), *tags)
    said.clear()

    post.tags.remove(tags[0])
    tags[2].posts.append(post)
    session.flush()

    assert sorted(said) == ["DELETE post_tags", "INSERT post_tags", "SELECT"]
    assert post.tags == [tags[1], tags[2]]

    session.delete(tags[2])
    session.flush()

    assert post.tags == [tags[1]]
    assert session.scalar(select(func.count()).select_from(post_tags)) == 1


def test_a_new_object_takes_over_the_row_of_a_deleted_one(session: Session, said: list[str]) -> None:
    old = Tag(id=7, name="old", posts=[Post(title="x", author=User(name="a"))])
    save(session, old)
    said.clear()

    session.delete(old)
    session.add(new := Tag(id=7, name="new"))
    session.commit()

    assert said == ["DELETE post_tags", "UPDATE tags"]
    assert (session.get(Tag, 7), old in session, new.posts) == (new, False, [])


def test_a_rollback_gives_a_row_back_that_was_taken_over(session: Session) -> None:
    old = Tag(id=7, name="old")
    save(session, old)
    session.delete(old)
    session.add(new := Tag(id=7, name="new"))
    session.flush()

    session.rollback()

    assert (session.get(Tag, 7), new in session) == (old, False)


def test_an_object_that_only_names_its_owner_is_not_saved_and_told_of(session: Session) -> None:
    user = User(name="a")
    save(session, user)
    assert user.posts == []

    post = Post(title="x", author=user)

    with pytest.warns(
        match=r"A Post in User\.posts is in no session, so it is not saved\. Write session\.add"
    ):
        session.flush()
    assert count(session, Post) == 0
    session.add(user)
    session.commit()
    assert session.scalars(select(Post)).all() == [post]


def test_an_assignment_does_not_flush_what_is_half_made(db: Database, session: Session) -> None:
    save(session, User(name="a"))
    with db.session() as other:
        user = other.scalars(select(User)).one()
        profile = Profile()
        other.add(profile)

        user.profile = profile
        profile.text = "late"
        other.commit()

        assert profile.user_id == user.id


def test_a_relation_that_is_not_loaded_can_be_assigned(db: Database, session: Session) -> None:
    save(session, User(name="a", posts=[Post(title="x"), Post(title="y")]))
    with db.session() as other:
        user = other.scalars(select(User)).one()

        user.posts = [Post(title="z")]
        other.commit()

        assert other.scalars(select(Post.title)).all() == ["z"]


def test_a_deleted_object_leaves_the_collections_it_was_in(session: Session) -> None:
    user = User(name="a", posts=[Post(title="x"), Post(title="y")])
    save(session, user)

    session.delete(user.posts[0])
    session.flush()

    assert [post.title for post in user.posts] == ["y"]


def test_a_collection_loaded_without_a_flush_knows_what_waits(db: Database, session: Session) -> None:
    save(session, User(name="a", notes=[Note()]), User(name="b"))
    with db.session(autoflush=False) as other:
        one, two = other.scalars(select(User).order_by(User.id)).all()
        note = other.scalars(select(Note)).one()
        fresh = Note(user=one)
        other.add(fresh)
        note.user = two

        assert one.notes == [fresh]
        assert two.notes == [note]


# ---------------------------------------------------------------- rollback


def snapshot(instance: Any) -> dict[str, Any]:
    names = [*instance.__mapper__.columns, *instance.__mapper__.relations]
    held = {name: instance.__dict__[name] for name in names if name in instance.__dict__}
    return {
        name: list(value)
        if isinstance(value, list)
        else deepcopy(value)
        if isinstance(value, dict)
        else value
        for name, value in held.items()
    }


def test_a_rollback_gives_everything_back_without_a_statement(session: Session, said: list[str]) -> None:
    tag = Tag(name="t")
    user = User(name="a", age=1, settings={"x": [1]}, posts=[Post(title="x", tags=[tag])])
    save(session, user)
    post = user.posts[0]
    before = [snapshot(one) for one in (user, post, tag)]

    user.name, user.age = "b", 7
    user.settings["x"].append(2)
    post.title = "y"
    post.tags.clear()
    user.posts.append(Post(title="new"))
    session.flush()
    session.delete(user)
    session.flush()
    said.clear()
    session.rollback()

    assert user.settings == {"x": [1]}
    assert [snapshot(one) for one in (user, post, tag)] == before
    assert said == []
    assert session.get(User, user.id) is user
    assert count(session, Post) == 1


def test_a_rollback_forgets_what_was_only_marked(session: Session, said: list[str]) -> None:
    user = User(name="a", settings={})
    save(session, user)
    said.clear()

    session.delete(user)
    user.settings["x"] = 1
    session.rollback()
    session.commit()

    assert (session.deleted, user.settings, said) == ([], {}, [])


def test_a_savepoint_undoes_only_its_block(session: Session, said: list[str]) -> None:
    user = User(name="a", age=1)
    save(session, user)
    user.age = 2

    savepoint = session.begin_nested()
    with savepoint:
        user.age = 3
        user.notes.append(note := Note())
        session.flush()
        said.clear()
        savepoint.rollback()

    assert (user.age, note in session, said) == (2, False, [])
    session.commit()
    assert session.scalar(select(User.age)) == 2
    assert count(session, Note) == 0


def test_what_a_released_savepoint_did_is_undone_by_the_rollback(session: Session) -> None:
    user = User(name="a", age=1)
    save(session, user)

    with session.begin_nested():
        user.age = 3
    session.rollback()

    assert user.age == 1


def test_an_error_in_a_savepoint_leaves_the_transaction_usable(session: Session) -> None:
    save(session, User(name="a"))
    session.add(User(name="b"))

    with pytest.raises(UniqueViolation), session.begin_nested():
        session.add(User(name="a"))
    session.commit()

    assert session.scalars(select(User.name).order_by(User.name)).all() == ["a", "b"]


def test_a_rollback_within_a_savepoint_undoes_everything(session: Session) -> None:
    with session.begin_nested():
        session.add(Tag(name="a"))
        session.rollback()

    session.add(Tag(name="b"))
    session.commit()
    assert session.scalars(select(Tag.name)).all() == ["b"]


def test_an_outer_savepoint_undoes_the_inner_ones(session: Session) -> None:
    tag = Tag(name="a")
    save(session, tag)

    with session.begin_nested() as outer, session.begin_nested():
        tag.name = "b"
        session.flush()
        outer.rollback()

    session.commit()
    assert (tag.name, session.scalar(select(Tag.name))) == ("a", "a")


def test_a_relation_loaded_after_a_write_is_forgotten_by_the_rollback(db: Database, session: Session) -> None:
    save(session, User(name="a"))
    with db.session() as other:
        user = other.scalars(select(User)).one()
        other.add(Note(user_id=user.id))
        assert len(user.notes) == 1

        other.rollback()

        assert user.notes == []


def test_an_object_whose_insert_was_rolled_back_can_be_added_again(session: Session) -> None:
    user = User(name="a", posts=[Post(title="x")])
    session.add(user)
    session.flush()

    session.rollback()
    assert (user.id, user in session) == (None, False)
    save(session, user)

    assert session.scalars(select(Post.author_id)).all() == [user.id]


def test_an_expunged_object_is_not_touched_by_the_rollback(session: Session) -> None:
    user = User(name="a", age=1)
    save(session, user)
    user.age = 2

    session.expunge(user)
    session.rollback()

    assert (user.age, user in session) == (2, False)


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (lambda s: s.add(User(name="a")), UniqueViolation),
        (lambda s: s.add(User()), NotNullViolation),
        (lambda s: s.add(User(name="z", age="old")), WrongType),
        (lambda s: s.add(Post(title="x", author_id=99)), ForeignKeyViolation),
    ],
)
def test_a_failed_flush_writes_nothing_and_a_rollback_mends_the_session(
    session: Session, break_it: Callable[[Session], None], error: type[Exception]
) -> None:
    save(session, User(name="a"))
    session.add(Tag(name="first"))
    break_it(session)

    with pytest.raises(error):
        session.flush()
    with pytest.raises(TransactionFailed, match=r"session\.rollback\(\)"):
        session.scalars(select(User))
    session.rollback()

    assert (count(session, User), count(session, Tag), session.new) == (1, 0, [])
    save(session, User(name="b"))


# ---------------------------------------------------------------- the session and its objects


def test_the_session_says_what_waits(session: Session) -> None:
    user, other = User(name="a"), User(name="b")
    save(session, user, other)
    fresh = User(name="c")

    session.add(fresh)
    user.age = 1
    session.delete(other)

    assert (session.new, session.dirty, session.deleted) == ([fresh], [user], [other])
    session.flush()
    assert (session.new, session.dirty, session.deleted) == ([], [], [])


def test_the_identity_map_is_weak_but_changes_are_kept(session: Session) -> None:
    save(session, Tag(name="a"), Tag(name="b"))
    kept, changed = session.scalars(select(Tag).order_by(Tag.id)).all()
    gone = weakref.ref(kept)
    changed.name = "c"

    del kept, changed
    gc.collect()

    assert gone() is None
    session.commit()
    assert session.scalars(select(Tag.name).order_by(Tag.id)).all() == ["a", "c"]


def test_a_deleted_object_stays_readable_and_cannot_come_back(session: Session) -> None:
    user = User(name="a")
    save(session, user)

    session.delete(user)
    session.flush()

    assert user not in session
    assert session.get(User, user.id) is None
    with pytest.raises(InvalidRequestError, match="was deleted"):
        session.add(user)
    session.commit()
    assert user.name == "a"


def test_a_deleted_object_cannot_come_back_through_a_collection(session: Session) -> None:
    one, two = User(name="a", posts=[Post(title="x")]), User(name="b")
    save(session, one, two)
    post = one.posts.pop()
    session.flush()

    with pytest.raises(InvalidRequestError, match="was deleted"):
        two.posts.append(post)


def test_adding_an_object_marked_to_be_deleted_keeps_it(session: Session) -> None:
    user = User(name="a")
    save(session, user)

    session.delete(user)
    session.add(user)
    session.commit()

    assert count(session, User) == 1


def test_merge_copies_onto_the_sessions_object(session: Session) -> None:
    user = User(name="a", age=1, posts=[Post(title="x")])
    save(session, user)

    merged = session.merge(
        User(id=user.id, name="b", posts=[Post(id=user.posts[0].id, title="y"), Post(title="z")])
    )
    session.commit()

    assert merged is user
    assert (user.name, user.age, [post.title for post in user.posts]) == ("b", 1, ["y", "z"])


def test_merge_writes_nothing_half_copied(session: Session, said: list[str]) -> None:
    save(session, User(name="a", posts=[Post(title="x", tags=[Tag(name="t")])]))
    session.expunge_all()
    said.clear()

    session.merge(Post(title="y", author=User(id=1, name="a"), tags=[Tag(id=1, name="t")]))

    assert "INSERT posts" not in said
    session.commit()
    assert session.scalars(select(Post.title).join(Post.tags).order_by(Post.title)).all() == ["x", "y"]


def test_an_expunged_object_is_saved_no_more(session: Session) -> None:
    user = User(name="a", age=1)
    save(session, user)
    user.age = 2

    session.expunge(user)
    session.commit()

    assert user not in session
    assert session.scalars(select(User.age)).one() == 1
    with pytest.raises(DetachedInstanceError, match=r"selectinload\(User\.notes\)"):
        user.notes


def test_a_detached_object_can_be_added_to_another_session(db: Database, session: Session) -> None:
    user = User(name="a", age=1)
    save(session, user)
    session.close()

    with db.session() as other:
        other.add(user)
        user.age = 2
        other.commit()

        assert other.get(User, user.id) is user


def test_an_object_belongs_to_one_session(db: Database, session: Session) -> None:
    user = User(name="a")
    save(session, user)

    with (
        db.session() as other,
        pytest.raises(ObjectInOtherSession, match=r"expunge\(object\).*merge\(object\)"),
    ):
        other.add(user)
    with db.session() as other, pytest.raises(ObjectInOtherSession):
        other.add(Post(title="x", author=user))


def test_refresh_reads_the_row_again_and_drops_changes(db: Database, session: Session) -> None:
    user = User(name="a", age=1, settings={"x": 1})
    save(session, user)
    with db.begin() as other:
        other.execute(update(User).values(age=9))

    user.name = "changed"
    user.settings["x"] = 2
    session.refresh(user)

    assert (user.name, user.age, user.settings) == ("a", 9, {"x": 1})
    assert session.dirty == []


@pytest.mark.parametrize(
    "change", [lambda u: setattr(u, "age", 2), lambda u: setattr(u, "age", User.age + 1)]
)
def test_a_row_that_vanished_is_stale_data(
    db: Database, session: Session, change: Callable[[User], None]
) -> None:
    user = User(name="a")
    save(session, user)
    with db.begin() as other:
        other.execute(delete(User))

    change(user)

    with pytest.raises(StaleDataError):
        session.flush()


def test_a_closed_session_says_so(db: Database) -> None:
    session = db.session()
    session.close()

    for use in (lambda: session.add(User(name="a")), lambda: session.scalars(select(User)), session.commit):
        with pytest.raises(SessionClosed, match=r"db\.session\(\)"):
            use()


def test_a_session_used_by_two_threads_says_so(session: Session) -> None:
    caught: list[BaseException] = []

    def use() -> None:
        try:
            session.scalars(select(User))
        except SessionInUse as error:
            caught.append(error)

    session._core.busy = True  # the first thread is in the middle of an operation
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    session._core.busy = False

    assert "another task or thread" in str(caught[0])


async def test_a_session_used_by_two_tasks_says_so(sqlite_url: str) -> None:
    db = AsyncDatabase(sqlite_url)
    try:
        async with db.session() as session:
            answers = await asyncio.gather(
                session.execute(text("SELECT 1")), session.execute(text("SELECT 2")), return_exceptions=True
            )

        assert [type(answer) for answer in answers if isinstance(answer, BaseException)] == [SessionInUse]
    finally:
        await db.close()
