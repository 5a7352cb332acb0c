"""The models of the snippets on these pages, and a database with two users.  The pages include this file."""

# ruff: noqa: F403, F405, INP001 - a page's names are all of these, and more
from datetime import UTC, datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, Text, text, update

from holdfast import *
from holdfast.errors import *

__all__ = ["BigInteger", "Text", "text", "update"]


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    __table_args__ = (CheckConstraint("age >= 0", name="age_not_negative"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(50), default="")
    age: Mapped[int | None]
    bio: Mapped[str | None]
    joined_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    posts: Mapped[list["Post"]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")


def prepare(url: str) -> tuple[Database, Session]:
    db = Database(url)
    db.create_all(Base)
    with db.begin() as session:
        ann = User(email="ann@example.com", name="Ann", age=50)
        session.add_all([ann, User(email="ben@example.com", name="Ben")])
    return db, db.session()
