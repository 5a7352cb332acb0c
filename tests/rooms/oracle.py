"""One shop, declared and filled alike under Holdfast and under SQLAlchemy's ORM, to compare what they answer.

A *form* is a function of a `Side` that makes a statement; both libraries run it on the same data, and `plain` says
the answers in words that do not depend on the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

import holdfast
from holdfast import Database
from holdfast.observe import StatementStarted
from tests.rooms.model_files import load, load_both

SHOP = """
class Loud(TypeDecorator[str]):
    impl = String(50)
    cache_ok = True
    def process_bind_param(self, value, dialect):
        return None if value is None else value.lower()
    def process_result_value(self, value, dialect):
        return None if value is None else value.upper()

class Kind(enum.Enum):
    plain = "p"
    gold = "g"

fans = Table("fans", Base.metadata,
    Column("fan_id", ForeignKey("users.id"), primary_key=True),
    Column("idol_id", ForeignKey("users.id"), primary_key=True))

post_tags = Table("post_tags", Base.metadata,
    Column("post_id", ForeignKey("posts.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True))

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    email: Mapped[Optional[str]] = mapped_column(String(100), unique=True)
    age: Mapped[Optional[int]]
    score: Mapped[Optional[Decimal]] = mapped_column(Numeric(10, 2))
    rate: Mapped[Optional[float]]
    active: Mapped[bool] = mapped_column(default=True)
    joined: Mapped[Optional[date]]
    kind: Mapped[Kind] = mapped_column(default=Kind.plain)
    shout: Mapped[Optional[str]] = mapped_column(Loud)
    meta: Mapped[Optional[dict[str, Any]]] = mapped_column(JSON)
    bio: Mapped[Optional[str]] = mapped_column(Text, deferred=True)
    motto: Mapped[Optional[str]] = mapped_column("motto_text", String(50), default=lambda: "none", onupdate=lambda: "moved")
    posts: Mapped[List["Post"]] = relationship(back_populates="author", order_by="Post.id", foreign_keys="Post.author_id")
    edited: Mapped[List["Post"]] = relationship(back_populates="editor", order_by="Post.id.desc()", foreign_keys="Post.editor_id")
    published: Mapped[List["Post"]] = relationship(viewonly=True, order_by="Post.id",
        primaryjoin="and_(User.id == foreign(Post.author_id), Post.published)")
    profile: Mapped[Optional["Profile"]] = relationship(back_populates="user")
    idols: Mapped[List["User"]] = relationship(secondary=fans, back_populates="fans", order_by="User.id",
        primaryjoin="User.id == fans.c.fan_id", secondaryjoin="User.id == fans.c.idol_id")
    fans: Mapped[List["User"]] = relationship(secondary=fans, back_populates="idols", order_by="User.id",
        primaryjoin="User.id == fans.c.idol_id", secondaryjoin="User.id == fans.c.fan_id")

class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    published: Mapped[bool] = mapped_column(default=False)
    likes: Mapped[int] = mapped_column(default=0)
    author_id: Mapped[Optional[int]] = mapped_column(ForeignKey("users.id"))
    editor_id: Mapped[Optional[int]] = mapped_column(ForeignKey("users.id"))
    author: Mapped[Optional[User]] = relationship(back_populates="posts", foreign_keys=[author_id])
    editor: Mapped[Optional[User]] = relationship(back_populates="edited", foreign_keys=[editor_id])
    tags: Mapped[List["Tag"]] = relationship(secondary=post_tags, back_populates="posts", order_by="Tag.id")

class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    posts: Mapped[List[Post]] = relationship(secondary=post_tags, back_populates="tags", order_by="Post.id")

class Profile(Base):
    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), unique=True)
    user: Mapped[User] = relationship(back_populates="profile")

class Node(Base):
    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    parent_id: Mapped[Optional[int]] = mapped_column(ForeignKey("nodes.id"))
    parent: Mapped[Optional["Node"]] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[List["Node"]] = relationship(back_populates="parent", order_by="Node.id")

class Order(Base):
    __tablename__ = "orders"
    region: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[Optional[str]] = mapped_column(String(50))
    items: Mapped[List["Item"]] = relationship(back_populates="order", order_by="Item.id")

class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[Optional[str]] = mapped_column(String(10))
    number: Mapped[Optional[int]]
    sku: Mapped[str] = mapped_column(String(20))
    order: Mapped[Optional[Order]] = relationship(back_populates="items")
    __table_args__ = (ForeignKeyConstraint(["region", "number"], ["orders.region", "orders.number"]),)

class Country(Base):
    __tablename__ = "countries"
    code: Mapped[str] = mapped_column(String(3), primary_key=True)
    cities: Mapped[List["City"]] = relationship(back_populates="country", order_by="City.id")

class City(Base):
    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    code: Mapped[Optional[str]] = mapped_column(ForeignKey("countries.code"))
    country: Mapped[Optional[Country]] = relationship(back_populates="cities")
"""

NAMES = (
    *(
        "aliased",
        "joinedload",
        "selectinload",
        "subqueryload",
        "lazyload",
        "defaultload",
        "noload",
        "raiseload",
    ),
    *("load_only", "defer", "undefer"),
)


class Side:
    """One of the two libraries: its models, its loader options, its ``select``."""

    def __init__(self, library: Any, models: Any, select: Any) -> None:
        self.__dict__.update(vars(models))
        self.__dict__.update({name: getattr(library, name) for name in NAMES})
        self.select = select
        self.ours = library is holdfast
        self.models = models

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def sides(source: str = SHOP) -> tuple[Side, Side]:
    """Load a model file under both libraries."""
    ours, theirs = load_both(source)
    return Side(holdfast, ours, holdfast.select), Side(orm, theirs, sa.select)


def our_side(source: str) -> Side:
    return Side(holdfast, load(source), holdfast.select)


def fill(engine: sa.Engine, side: Side) -> None:
    """Create the shop's tables and rows with plain Core."""
    from datetime import date
    from decimal import Decimal

    side.Base.metadata.create_all(engine)
    kind = side.Kind
    users = [
        {
            "id": 1,
            "name": "Ada",
            "email": "ada@x.de",
            "age": 36,
            "score": Decimal("10.50"),
            "rate": 1.5,
            "active": True,
            "joined": date(2020, 1, 1),
            "kind": kind.gold,
            "shout": "hey",
            "meta": {"a": [1, 2], "b": {"c": "x"}},
            "bio": "long",
        },
        {
            "id": 2,
            "name": "Bob",
            "email": "bob@x.de",
            "age": 20,
            "score": Decimal("7.25"),
            "rate": 0.5,
            "active": False,
            "joined": date(2021, 5, 1),
            "kind": kind.plain,
            "shout": None,
            "meta": {"a": []},
            "bio": None,
        },
        {
            "id": 3,
            "name": "Cyd",
            "email": None,
            "age": None,
            "score": None,
            "rate": None,
            "active": True,
            "joined": None,
            "kind": kind.plain,
            "shout": "ho",
            "meta": None,
            "bio": "short",
        },
        {
            "id": 4,
            "name": "Dan",
            "email": "dan@x.de",
            "age": 36,
            "score": Decimal("0.00"),
            "rate": 2.0,
            "active": True,
            "joined": date(2020, 1, 1),
            "kind": kind.gold,
            "shout": "x",
            "meta": {"b": {"c": "y"}},
            "bio": "",
        },
    ]
    posts = [
        {
            "id": i,
            "title": f"P{i}",
            "published": i % 2 == 0,
            "likes": i * 3 % 7,
            "author_id": [1, 1, 2, None, 4, 1][i - 1],
            "editor_id": [2, None, 2, 1, None, 4][i - 1],
        }
        for i in range(1, 7)
    ]
    rows = {
        "users": users,
        "posts": posts,
        "tags": [{"id": i, "name": f"t{i}"} for i in range(1, 5)],
        "post_tags": [
            {"post_id": p, "tag_id": t} for p, t in [(1, 1), (1, 2), (2, 2), (3, 1), (3, 3), (6, 2)]
        ],
        "profiles": [{"id": 1, "text": "one", "user_id": 1}, {"id": 2, "text": "four", "user_id": 4}],
        "fans": [{"fan_id": a, "idol_id": b} for a, b in [(1, 2), (1, 3), (2, 3), (3, 3), (4, 1)]],
        "nodes": [
            {"id": i, "name": f"n{i}", "parent_id": p}
            for i, p in enumerate([None, 1, 1, 2, 2, 3, 6, None], 1)
        ],
        "orders": [{"region": r, "number": n, "note": f"{r}{n}"} for r in ("eu", "us") for n in (1, 2)],
        "items": [
            {"id": i, "region": r, "number": n, "sku": f"s{i}"}
            for i, (r, n) in enumerate(
                [("eu", 1), ("eu", 1), ("us", 1), ("eu", 2), (None, 1), ("us", None)], 1
            )
        ],
        "countries": [{"code": c} for c in ("de", "fr", "it")],
        "cities": [{"id": i, "name": f"c{i}", "code": c} for i, c in enumerate(["de", "de", "fr", None], 1)],
    }
    with engine.begin() as connection:
        for table in side.Base.metadata.sorted_tables:
            connection.execute(sa.insert(table), rows[table.name])
            if connection.dialect.name == "postgresql" and "id" in table.c:
                connection.execute(sa.text(f"SELECT setval('{table.name}_id_seq', 1000)"))
    if engine.dialect.name == "mariadb":  # after all, for it commits
        with engine.begin() as connection:
            for table in side.Base.metadata.sorted_tables:
                if "id" in table.c:
                    connection.execute(sa.text(f"ALTER TABLE {table.name} AUTO_INCREMENT = 1001"))


def engine_of(url: str) -> sa.Engine:
    """SQLAlchemy's own engine on a test database."""
    scheme, _, rest = url.partition("://")
    driver = {"postgresql": "+psycopg", "mariadb": "+pymysql"}.get(scheme, "")
    return sa.create_engine(f"{scheme}{driver}://{rest}", poolclass=sa.NullPool)


def let(make: Callable[..., Any], *values: Any) -> Any:
    """Name values inside an expression."""
    return make(*values)


def plain(value: Any) -> Any:
    """An answer in words that do not depend on the library; types are told apart."""
    mapped = getattr(type(value), "__mapper__", None)
    if mapped is not None:
        names = [c.key for c in type(value).__table__.primary_key]
        return (type(value).__name__, *(getattr(value, name) for name in names))
    if isinstance(value, sa.Row):
        return ("row", *(plain(v) for v in value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if hasattr(value, "value") and hasattr(value, "name"):
        return f"enum {value.name}"
    return (type(value).__name__, value)


def names(result: Any) -> set[str]:
    """The keys that a program can lean on: those of bare expressions and of unnamed aliases are nobody's."""
    keys = list(result.keys())
    return {key for key in keys if key and not key.startswith(("_no_label", "anon_"))}


@contextmanager
def counted(db: Any) -> Iterator[list[str]]:
    """The statements a block sends."""
    seen: list[str] = []
    remove = db.observers.add(
        lambda event: seen.append(event.sql) if isinstance(event, StatementStarted) else None
    )
    try:
        yield seen
    finally:
        remove()


class Pair:
    """The shop on one database, under both libraries."""

    def __init__(self, url: str, source: str = SHOP) -> None:
        self.ours, self.theirs = sides(source)
        self.url = url
        self.engine = engine_of(url)
        fill(self.engine, self.theirs)
        self.db = Database(url)

    def ask_ours(self, work: Callable[[Side, Any], Any]) -> Any:
        with self.db.session() as session:
            return work(self.ours, session)

    def ask_theirs(self, work: Callable[[Side, Any], Any]) -> Any:
        with orm.Session(self.engine) as session:
            return work(self.theirs, session)

    def same(self, work: Callable[[Side, Any], Any]) -> Any:
        """Do the same work under both and compare what it answers; nothing is committed."""
        expected = self.ask_theirs(work)
        found = self.ask_ours(work)
        assert found == expected
        return found

    def close(self) -> None:
        self.db.close()
        self.engine.dispose()
