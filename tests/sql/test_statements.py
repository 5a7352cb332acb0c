"""The SQL of what Holdfast adds to SQLAlchemy Core, for each server side by side; then it runs there.

One test states the text for SQLite, PostgreSQL and MariaDB; a text that is empty is SQLite's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from holdfast import Database, aliased, joinedload, load_only, select, selectinload
from tests.rooms.oracle import counted, let, our_side

SERVERS = ("sqlite", "postgresql", "mariadb")
SMALL = """
post_tags = Table("post_tags", Base.metadata,
    Column("post_id", ForeignKey("posts.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True))

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    posts: Mapped[List["Post"]] = relationship(back_populates="author", order_by="Post.id")

class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    author_id: Mapped[Optional[int]] = mapped_column(ForeignKey("users.id"))
    author: Mapped[Optional[User]] = relationship(back_populates="posts")
    tags: Mapped[List["Tag"]] = relationship(secondary=post_tags, back_populates="posts")

class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    posts: Mapped[List[Post]] = relationship(secondary=post_tags, back_populates="tags")

class Node(Base):
    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[Optional[int]] = mapped_column(ForeignKey("nodes.id"))
    parent: Mapped[Optional["Node"]] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[List["Node"]] = relationship(back_populates="parent")

class Order(Base):
    __tablename__ = "orders"
    region: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[List["Item"]] = relationship(back_populates="order")

class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(String(10))
    number: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="items")
    __table_args__ = (ForeignKeyConstraint(["region", "number"], ["orders.region", "orders.number"]),)
"""


@pytest.fixture(scope="module")
def models() -> Any:
    return our_side(SMALL)


@pytest.fixture(scope="module")
def sqlite(models: Any) -> Iterator[Database]:
    with Database("sqlite://") as db:
        db.create_all(models.Base)
        yield db


def lines(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


# ---------------------------------------------------------------- clauses: text for all, then run

CLAUSES: dict[str, tuple[Callable[[Any], Any], str, str, str]] = {
    "join": (
        lambda m: select(m.User.name).join(m.User.posts),
        "SELECT users.name FROM users JOIN posts ON users.id = posts.author_id",
        "",
        "SELECT users.name FROM users INNER JOIN posts ON users.id = posts.author_id",
    ),
    "join to-one, outer": (
        lambda m: select(m.Post.id).join(m.Post.author, isouter=True),
        "SELECT posts.id FROM posts LEFT OUTER JOIN users ON users.id = posts.author_id",
        "",
        "",
    ),
    "join many-to-many": (
        lambda m: select(m.Post.id).join(m.Post.tags),
        (
            "SELECT posts.id FROM posts JOIN (post_tags AS post_tags_1 JOIN tags ON tags.id = post_tags_1.tag_id)"
            " ON posts.id = post_tags_1.post_id"
        ),
        "",
        "SELECT posts.id FROM posts INNER JOIN (post_tags AS post_tags_1 INNER JOIN tags ON tags.id = post_tags_1.tag_id) ON posts.id = post_tags_1.post_id",
    ),
    "join with criteria": (
        lambda m: select(m.User.id).join(m.User.posts.and_(m.Post.title == "x")),
        "SELECT users.id FROM users JOIN posts ON users.id = posts.author_id AND posts.title = ?",
        "SELECT users.id FROM users JOIN posts ON users.id = posts.author_id AND posts.title = $1::VARCHAR",
        "SELECT users.id FROM users INNER JOIN posts ON users.id = posts.author_id AND posts.title = ?",
    ),
    "join to itself": (
        lambda m: let(
            lambda c: select(m.Node.id, c.id).join(m.Node.children.of_type(c)), aliased(m.Node, name="c")
        ),
        "SELECT nodes.id, c.id AS id_1 FROM nodes JOIN nodes AS c ON nodes.id = c.parent_id",
        "",
        "SELECT nodes.id, c.id AS id_1 FROM nodes INNER JOIN nodes AS c ON nodes.id = c.parent_id",
    ),
    "join from an alias": (
        lambda m: let(lambda n: select(n.id).join(n.parent.of_type(m.Node)), aliased(m.Node, name="n")),
        "SELECT n.id FROM nodes AS n JOIN nodes ON nodes.id = n.parent_id",
        "",
        "SELECT n.id FROM nodes AS n INNER JOIN nodes ON nodes.id = n.parent_id",
    ),
    "join composite": (
        lambda m: select(m.Order.region).join(m.Order.items),
        "SELECT orders.region FROM orders JOIN items ON orders.region = items.region AND orders.number = items.number",
        "",
        "SELECT orders.region FROM orders INNER JOIN items ON orders.region = items.region AND orders.number = items.number",
    ),
    "any": (
        lambda m: select(m.User.id).where(m.User.posts.any(m.Post.title == "x")),
        "SELECT users.id FROM users WHERE EXISTS (SELECT 1 FROM posts WHERE users.id = posts.author_id AND posts.title = ?)",
        (
            "SELECT users.id FROM users WHERE EXISTS (SELECT 1 FROM posts WHERE users.id = posts.author_id"
            " AND posts.title = $1::VARCHAR)"
        ),
        "",
    ),
    "any, many-to-many": (
        lambda m: select(m.Post.id).where(~m.Post.tags.any()),
        (
            "SELECT posts.id FROM posts WHERE NOT (EXISTS (SELECT 1 FROM tags, post_tags"
            " WHERE posts.id = post_tags.post_id AND tags.id = post_tags.tag_id))"
        ),
        "",
        "",
    ),
    "any of itself": (
        lambda m: select(m.Node.id).where(m.Node.children.any(m.Node.id > m.Node.parent_id)),
        (
            "SELECT nodes.id FROM nodes WHERE EXISTS (SELECT 1 FROM nodes AS nodes_1 WHERE nodes.id = nodes_1.parent_id"
            " AND nodes_1.id > nodes_1.parent_id)"
        ),
        "",
        "",
    ),
    "has": (
        lambda m: select(m.Post.id).where(m.Post.author.has()),
        "SELECT posts.id FROM posts WHERE EXISTS (SELECT 1 FROM users WHERE users.id = posts.author_id)",
        "",
        "",
    ),
    "to-one is an object": (
        lambda m: select(m.Post.id).where(m.Post.author == m.User(id=1)),
        "SELECT posts.id FROM posts WHERE posts.author_id = ?",
        "SELECT posts.id FROM posts WHERE posts.author_id = $1::INTEGER",
        "",
    ),
    "to-one is not an object": (
        lambda m: select(m.Post.id).where(m.Post.author != m.User(id=1)),
        "SELECT posts.id FROM posts WHERE posts.author_id != ? OR posts.author_id IS NULL",
        "SELECT posts.id FROM posts WHERE posts.author_id != $1::INTEGER OR posts.author_id IS NULL",
        "",
    ),
    "to-one is None": (
        lambda m: select(m.Post.id).where(m.Post.author == None),  # noqa: E711
        "SELECT posts.id FROM posts WHERE posts.author_id IS NULL",
        "",
        "",
    ),
    "contains": (
        lambda m: select(m.User.id).where(m.User.posts.contains(m.Post(id=1, author_id=7))),
        "SELECT users.id FROM users WHERE users.id = ?",
        "SELECT users.id FROM users WHERE users.id = $1::INTEGER",
        "",
    ),
    "contains, many-to-many": (
        lambda m: select(m.Post.id).where(m.Post.tags.contains(m.Tag(id=1))),
        (
            "SELECT posts.id FROM posts WHERE EXISTS (SELECT 1 FROM tags, post_tags"
            " WHERE posts.id = post_tags.post_id AND tags.id = post_tags.tag_id AND tags.id = ?)"
        ),
        (
            "SELECT posts.id FROM posts WHERE EXISTS (SELECT 1 FROM tags, post_tags"
            " WHERE posts.id = post_tags.post_id AND tags.id = post_tags.tag_id AND tags.id = $1::INTEGER)"
        ),
        "",
    ),
    "joinedload to-one": (
        lambda m: select(m.Post).options(joinedload(m.Post.author)),
        (
            "SELECT posts.id, posts.title, posts.author_id, users_1.id AS id_1, users_1.name FROM posts"
            " LEFT OUTER JOIN users AS users_1 ON users_1.id = posts.author_id"
        ),
        "",
        "",
    ),
    "joinedload inner": (
        lambda m: select(m.Post).options(joinedload(m.Post.author, innerjoin=True)),
        (
            "SELECT posts.id, posts.title, posts.author_id, users_1.id AS id_1, users_1.name FROM posts"
            " JOIN users AS users_1 ON users_1.id = posts.author_id"
        ),
        "",
        "SELECT posts.id, posts.title, posts.author_id, users_1.id AS id_1, users_1.name FROM posts INNER JOIN users AS users_1 ON users_1.id = posts.author_id",
    ),
    "joinedload to-many": (
        lambda m: select(m.User).options(joinedload(m.User.posts)),
        (
            "SELECT users.id, users.name, posts_1.id AS id_1, posts_1.title, posts_1.author_id FROM users"
            " LEFT OUTER JOIN posts AS posts_1 ON users.id = posts_1.author_id ORDER BY posts_1.id"
        ),
        "",
        "",
    ),
    "joinedload many-to-many": (
        lambda m: select(m.Post).options(joinedload(m.Post.tags)),
        (
            "SELECT posts.id, posts.title, posts.author_id, tags_1.id AS id_1, tags_1.name FROM posts LEFT OUTER JOIN"
            " (post_tags AS post_tags_1 JOIN tags AS tags_1 ON tags_1.id = post_tags_1.tag_id)"
            " ON posts.id = post_tags_1.post_id"
        ),
        "",
        "SELECT posts.id, posts.title, posts.author_id, tags_1.id AS id_1, tags_1.name FROM posts LEFT OUTER JOIN (post_tags AS post_tags_1 INNER JOIN tags AS tags_1 ON tags_1.id = post_tags_1.tag_id) ON posts.id = post_tags_1.post_id",
    ),
    "joinedload with a limit": (
        lambda m: select(m.User).options(joinedload(m.User.posts)).limit(1),
        "SELECT users.id, users.name FROM users LIMIT ? OFFSET ?",
        "SELECT users.id, users.name FROM users LIMIT $1::INTEGER",
        "SELECT users.id, users.name FROM users LIMIT ?",
    ),
    "load_only": (
        lambda m: select(m.Post).options(load_only(m.Post.title)),
        "SELECT posts.id, posts.title FROM posts",
        "",
        "",
    ),
    "update in step is plain without objects": (
        lambda m: update(m.User).where(m.User.id == 1).values(name="x"),
        "UPDATE users SET name=? WHERE users.id = ?",
        "UPDATE users SET name=$1::VARCHAR WHERE users.id = $2::INTEGER",
        "",
    ),
    "returning a class": (
        lambda m: insert(m.Tag).values(name="x").returning(m.Tag),
        "INSERT INTO tags (name) VALUES (?) RETURNING id, name",
        "INSERT INTO tags (name) VALUES ($1::VARCHAR) RETURNING tags.id, tags.name",
        "INSERT INTO tags (name) VALUES (?) RETURNING tags.id, tags.name",
    ),
}


@pytest.fixture(scope="module")
def postgresql() -> Database:
    """A PostgreSQL database that nobody connects to: it is asked for texts only."""
    return Database("postgresql+psycopg://nobody@localhost/none")


@pytest.fixture(scope="module")
def mariadb() -> Database:
    """The same of MariaDB."""
    return Database("mariadb+pymysql://nobody@localhost/none")


@pytest.mark.parametrize("name", CLAUSES)
def test_a_clause_is_written_so(
    models: Any, sqlite: Database, postgresql: Database, mariadb: Database, name: str
) -> None:
    make, on_sqlite, on_postgresql, on_mariadb = CLAUSES[name]

    assert lines(sqlite.plan(make(models)).sql) == on_sqlite
    assert lines(postgresql.plan(make(models)).sql) == (on_postgresql or on_sqlite)
    assert lines(mariadb.plan(make(models)).sql) == (on_mariadb or on_sqlite)
    with sqlite.session() as session:
        session.execute(make(models)).all()


def test_the_clauses_run_on_servers(models: Any, database_url: str) -> None:
    with Database(database_url) as db:
        db.create_all(models.Base)
        for make, *_texts in CLAUSES.values():
            with db.session() as session:
                session.execute(make(models)).all()


# ---------------------------------------------------------------- what sessions send

LOADS: dict[str, tuple[Callable[[Any, Any], Any], str, str, str | list[str]]] = {
    "members": (
        lambda m, s: s.get(m.User, 1).posts,
        (
            "SELECT posts.id, posts.title, posts.author_id FROM posts"
            " WHERE posts.author_id IN (SELECT anon_1.value FROM json_each(?) AS anon_1) ORDER BY posts.id"
        ),
        "SELECT posts.id, posts.title, posts.author_id FROM posts WHERE posts.author_id = ANY ($1::INTEGER[]) ORDER BY posts.id",
        "SELECT posts.id, posts.title, posts.author_id FROM posts WHERE posts.author_id IN (?) ORDER BY posts.id",
    ),
    "members, many-to-many": (
        lambda m, s: s.get(m.Post, 1).tags,
        (
            "SELECT post_tags.post_id, tags.id, tags.name FROM tags JOIN post_tags ON tags.id = post_tags.tag_id"
            " WHERE post_tags.post_id IN (SELECT anon_1.value FROM json_each(?) AS anon_1)"
        ),
        (
            "SELECT post_tags.post_id, tags.id, tags.name FROM tags JOIN post_tags ON tags.id = post_tags.tag_id"
            " WHERE post_tags.post_id = ANY ($1::INTEGER[])"
        ),
        "SELECT post_tags.post_id, tags.id, tags.name FROM tags INNER JOIN post_tags ON tags.id = post_tags.tag_id WHERE post_tags.post_id IN (?)",
    ),
    "members, composite": (
        lambda m, s: s.get(m.Order, ("eu", 1)).items,
        (
            "SELECT items.id, items.region, items.number FROM items WHERE (items.region, items.number) IN"
            " (SELECT json_extract(anon_1.value, '$[0]') AS json_extract_1, json_extract(anon_1.value, '$[1]') AS json_extract_2"
            " FROM json_each(?) AS anon_1)"
        ),
        (
            "SELECT items.id, items.region, items.number FROM items WHERE (items.region, items.number) IN"
            " (SELECT anon_1.f0, anon_1.f1 FROM unnest($1::TEXT[], $2::INTEGER[]) AS anon_1(f0, f1))"
        ),
        "SELECT items.id, items.region, items.number FROM items WHERE (items.region, items.number) IN ((?, ?))",
    ),
    "target": (
        lambda m, s: s.get(m.Post, 1).author,
        "SELECT users.id, users.name FROM users WHERE users.id IN (SELECT anon_1.value FROM json_each(?) AS anon_1)",
        "SELECT users.id, users.name FROM users WHERE users.id = ANY ($1::INTEGER[])",
        "SELECT users.id, users.name FROM users WHERE users.id IN (?)",
    ),
    "by key": (
        lambda m, s: s.get(m.Order, ("us", 9)),
        "SELECT orders.region, orders.number FROM orders WHERE orders.region = ? AND orders.number = ?",
        "SELECT orders.region, orders.number FROM orders WHERE orders.region = $1::VARCHAR AND orders.number = $2::INTEGER",
        "SELECT orders.region, orders.number FROM orders WHERE orders.region = ? AND orders.number = ?",
    ),
    "selectinload with criteria": (
        lambda m, s: s.scalars(
            select(m.User).options(selectinload(m.User.posts.and_(m.Post.title != "x")))
        ).all(),
        (
            "SELECT posts.id, posts.title, posts.author_id FROM posts WHERE posts.author_id IN"
            " (SELECT anon_1.value FROM json_each(?) AS anon_1) AND posts.title != ? ORDER BY posts.id"
        ),
        (
            "SELECT posts.id, posts.title, posts.author_id FROM posts WHERE posts.author_id = ANY ($1::INTEGER[])"
            " AND posts.title != $2::VARCHAR ORDER BY posts.id"
        ),
        "SELECT posts.id, posts.title, posts.author_id FROM posts WHERE posts.author_id IN (?) AND posts.title != ? ORDER BY posts.id",
    ),
    "update in step": (
        lambda m, s: (s.get(m.User, 1), s.execute(update(m.User).values(name="x"))),
        "UPDATE users SET name=? RETURNING id, name",
        "UPDATE users SET name=$1::VARCHAR RETURNING users.id, users.name",
        [
            "SELECT users.id FROM users FOR UPDATE",
            "UPDATE users SET name=?",
            "SELECT users.id, users.name FROM users WHERE users.id IN (?)",
        ],
    ),
    "delete in step": (
        lambda m, s: (s.get(m.Tag, 100), s.execute(delete(m.Tag).where(m.Tag.id == 99))),
        "DELETE FROM tags WHERE tags.id = ? RETURNING id",
        "DELETE FROM tags WHERE tags.id = $1::INTEGER RETURNING tags.id",
        ["SELECT tags.id FROM tags WHERE tags.id = ? FOR UPDATE", "DELETE FROM tags WHERE tags.id = ?"],
    ),
    "update by key": (
        lambda m, s: s.execute(update(m.Tag), [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
        "UPDATE tags SET name=? WHERE tags.id = ?",
        "UPDATE tags SET name=$1::VARCHAR WHERE tags.id = $2::INTEGER",
        "UPDATE tags SET name=? WHERE tags.id = ?",
    ),
}


def fill_small(session: Any, m: Any) -> None:
    session.execute(insert(m.User), [{"id": 1, "name": "a"}])
    session.execute(insert(m.Post), [{"id": 1, "title": "p", "author_id": 1}])
    session.execute(insert(m.Tag), [{"id": 100, "name": "t"}, {"id": 101, "name": "u"}])
    session.execute(insert(m.Order), [{"region": "eu", "number": 1}])


@pytest.mark.parametrize("name", LOADS)
def test_a_session_sends(models: Any, database_url: str, name: str) -> None:
    work, *texts = LOADS[name]
    with Database(database_url) as db:
        db.create_all(models.Base)
        with db.session() as session:
            fill_small(session, models)
            session.commit()
            with counted(db) as seen:
                work(models, session)

    expected = texts[SERVERS.index(database_url.partition(":")[0])]
    for text in [expected] if isinstance(expected, str) else expected:
        assert text in map(lines, seen)


# ---------------------------------------------------------------- what a flush sends

FLUSHES: dict[str, tuple[Callable[[Any, Any], Any], list[str], list[str], list[str]]] = {
    "new object": (
        lambda m, s: s.add(m.Tag(name="a")),
        ["INSERT INTO tags (name) VALUES (?) RETURNING id"],
        ["INSERT INTO tags (name) VALUES ($1) RETURNING id"],
        ["INSERT INTO tags (name) VALUES (?) RETURNING id"],
    ),
    "new objects": (
        lambda m, s: s.add_all([m.Tag(name="a"), m.Tag(name="b")]),
        ["INSERT INTO tags (name) VALUES (?), (?) RETURNING id"],
        [
            (
                "INSERT INTO tags (name) SELECT r.f0 FROM unnest($1::TEXT[]) WITH ORDINALITY AS r(f0, place)"
                " ORDER BY r.place RETURNING id"
            )
        ],
        ["INSERT INTO tags (name) VALUES (?), (?) RETURNING id"],
    ),
    "changed object": (
        lambda m, s: setattr(s.get(m.User, 1), "name", "x"),
        ["UPDATE users SET name = ? WHERE id = ?"],
        ["UPDATE users SET name = $1 WHERE id = $2"],
        ["UPDATE users SET name = ? WHERE id = ?"],
    ),
    "changed objects": (
        lambda m, s: [setattr(tag, "name", "x") for tag in s.scalars(select(m.Tag))],
        ["UPDATE tags SET name = ? WHERE id = ?"],
        [
            (
                "UPDATE tags AS t SET name = r.f1 FROM unnest($1::INTEGER[], $2::TEXT[]) AS r(f0, f1)"
                " WHERE t.id = r.f0"
            )
        ],
        [
            "UPDATE tags AS t JOIN (WITH r(f0, f1) AS (VALUES (?, ?), (?, ?)) SELECT * FROM r) AS r ON t.id = r.f0 SET t.name = r.f1"
        ],
    ),
    "new association": (
        lambda m, s: (post := s.get(m.Post, 1)).tags.extend(s.scalars(select(m.Tag))) or s.flush() or post,
        ["INSERT INTO post_tags (post_id, tag_id) VALUES (?, ?), (?, ?)"],
        [
            (
                "INSERT INTO post_tags (post_id, tag_id) SELECT r.f0, r.f1 FROM unnest($1::INTEGER[], $2::INTEGER[])"
                " WITH ORDINALITY AS r(f0, f1, place) ORDER BY r.place"
            )
        ],
        ["INSERT INTO post_tags (post_id, tag_id) VALUES (?, ?), (?, ?)"],
    ),
    "deleted object with a composite key": (
        lambda m, s: s.delete(s.get(m.Order, ("eu", 1))),
        ["DELETE FROM orders WHERE region = ? AND number = ?"],
        ["DELETE FROM orders WHERE region = $1 AND number = $2"],
        ["DELETE FROM orders WHERE region = ? AND number = ?"],
    ),
    "deleted objects": (
        lambda m, s: [s.delete(tag) for tag in s.scalars(select(m.Tag))],
        ["DELETE FROM post_tags WHERE tag_id = ?", "DELETE FROM tags WHERE id = ?"],
        [
            "DELETE FROM post_tags AS t USING unnest($1::INTEGER[]) AS r(f0) WHERE t.tag_id = r.f0",
            "DELETE FROM tags AS t USING unnest($1::INTEGER[]) AS r(f0) WHERE t.id = r.f0",
        ],
        ["DELETE FROM post_tags WHERE tag_id IN (?, ?)", "DELETE FROM tags WHERE id IN (?, ?)"],
    ),
}


@pytest.mark.parametrize("name", FLUSHES)
def test_a_flush_sends(models: Any, database_url: str, name: str) -> None:
    work, *texts = FLUSHES[name]
    with Database(database_url) as db:
        db.create_all(models.Base)
        with db.session() as session:
            fill_small(session, models)
            session.commit()
            with counted(db) as seen:
                work(models, session)
                session.flush()

    changes = [lines(sql) for sql in seen if not sql.startswith(("SELECT", "BEGIN"))]
    assert changes == texts[SERVERS.index(database_url.partition(":")[0])]
