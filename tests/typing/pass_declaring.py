"""What a declared model is to a type checker."""

import enum
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, assert_type

from sqlalchemy import (
    BinaryExpression,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    MetaData,
    Select,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    update,
)

from holdfast.model import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    Mapper,
    declared_attr,
    foreign,
    mapped_column,
    mapper_of,
    relationship,
    remote,
)


class Base(DeclarativeBase):
    metadata = MetaData()
    type_annotation_map = {dict[str, Any]: String}


class Color(enum.Enum):
    red = "red"


intpk = Annotated[int, mapped_column(primary_key=True)]

post_tags = Table(
    "post_tags",
    Base.metadata,
    Column("post_id", ForeignKey("posts.id")),
    Column("tag_id", ForeignKey("tags.id")),
)


class Timestamps:
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))


class Named:
    @declared_attr.directive
    @classmethod
    def __tablename__(cls) -> str:
        return cls.__name__.lower()

    @declared_attr
    def owner_id(cls) -> Mapped[int]:  # noqa: N805
        return mapped_column(ForeignKey("users.id"))

    @declared_attr
    def owner(cls) -> Mapped["User"]:  # noqa: N805
        return relationship()


class User(Timestamps, Base):
    __tablename__ = "users"
    __table_args__ = (Index("ix", "name"), UniqueConstraint("name"), {"comment": "people"})

    id: Mapped[intpk]
    name: Mapped[str] = mapped_column(String(50), unique=True)
    age: Mapped[int | None]
    color: Mapped[Color]
    kind: Mapped[Literal["a", "b"]]
    key: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    money: Mapped[Decimal]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    posts: Mapped[list["Post"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[intpk]
    title: Mapped[str] = mapped_column()
    published: Mapped[bool] = mapped_column(default=False)
    author_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    author: Mapped[User] = relationship(
        back_populates="posts", primaryjoin=lambda: foreign(Post.author_id) == remote(User.id)
    )
    tags: Mapped[set["Tag"]] = relationship(secondary=post_tags)
    reviewer: Mapped["User | None"] = relationship(foreign_keys=[author_id], viewonly=True)
    __table_args__ = (Index("ix_title", func.lower(title)), Index("ix_author", author_id.desc()))


class Tag(Named, Base):
    id: Mapped[intpk]
    name: Mapped[str]


alice = User(name="Alice", posts=[])
post = Post(title="x", author=alice)

assert_type(alice.id, int)
assert_type(alice.name, str)
assert_type(alice.age, int | None)
assert_type(alice.color, Color)
assert_type(alice.kind, Literal["a", "b"])
assert_type(alice.key, uuid.UUID)
assert_type(alice.money, Decimal)
assert_type(alice.data, dict[str, Any])
assert_type(alice.created_at, datetime)
assert_type(alice.posts, list[Post])
assert_type(post.author, User)
assert_type(post.tags, set[Tag])
assert_type(post.reviewer, User | None)
assert_type(Tag().owner_id, int)
assert_type(Tag().owner, User)
alice.posts.append(post)
alice.name = "Bob"
alice.age = None
alice.age = User.age + 1
del alice.age

assert_type(User.id, InstrumentedAttribute[int])
assert_type(User.name, InstrumentedAttribute[str])
assert_type(User.posts, InstrumentedAttribute[list[Post]])
assert_type(User.name == "x", ColumnElement[bool])
assert_type(User.age.is_(None), BinaryExpression[bool])
assert_type(User.id.in_([1, 2]), BinaryExpression[bool])
assert_type(User.name.ilike("a%"), BinaryExpression[bool])
assert_type(User.name + "x", ColumnElement[str])
assert_type(User.posts.any(Post.published), ColumnElement[bool])
assert_type(User.posts.any(title="x"), ColumnElement[bool])
assert_type(Post.author.has(User.name == "x"), ColumnElement[bool])
assert_type(User.posts.contains(post), ColumnElement[bool])
assert_type(Post.author == alice, ColumnElement[bool])
assert_type(Post.author.is_(None), BinaryExpression[bool])
assert_type(User.posts.and_(Post.published), InstrumentedAttribute[list[Post]])
assert_type(Tag.owner_id, InstrumentedAttribute[int])

assert_type(select(User), Select[User])
assert_type(select(User.name, User.age), Select[str, int | None])
assert_type(select(User.name, func.count()), Select[str, int])
assert_type(select(User, Post.title), Select[User, str])
select(User).where(User.name == "x", User.posts.any()).order_by(User.name.desc(), User.age).group_by(
    User.name
)
select(func.count()).select_from(User).join(Post, Post.author_id == User.id)
select(User).join(User.posts)
insert(User).values(name="x").returning(User.id)
insert(User).values({User.name: "x"})
update(User).where(User.id == 1).values(name=User.name + "x").returning(User)
delete(User).where(User.id == 1)

assert_type(User.__table__, Table)
assert_type(Base.metadata, MetaData)
assert_type(mapper_of(User), Mapper)
