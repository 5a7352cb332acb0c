"""What a statement over models is to a type checker."""

from typing import assert_type

from sqlalchemy import ForeignKey, func

from holdfast import (
    DeclarativeBase,
    Mapped,
    Select,
    aliased,
    delete,
    insert,
    joinedload,
    mapped_column,
    relationship,
    select,
    selectinload,
    update,
)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    age: Mapped[int | None]
    posts: Mapped[list["Post"]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    published: Mapped[bool]
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")


assert_type(select(User), Select[User])
assert_type(select(User.name, func.count(Post.id)), Select[str, int])
assert_type(select(User, Post.title), Select[User, str])
assert_type(select(User.age), Select[int | None])
assert_type(select(User).where(User.name == "x").order_by(User.id).limit(3), Select[User])
assert_type(select(User).join(User.posts, isouter=True).where(Post.published), Select[User])
assert_type(select(User).join(Post, Post.author_id == User.id), Select[User])
assert_type(select(User).options(selectinload(User.posts), joinedload(User.posts)), Select[User])
select(Post).options(joinedload(Post.author)).where(Post.author.has(User.name == "Alice"))
select(User).where(User.posts.any(Post.published))

other = aliased(User)
select(User).join(other, other.id == User.id + 1)

insert(User).values(name="x").returning(User)
update(User).where(User.id == 1).values(name="y")
delete(User).where(User.age.is_(None))
