"""The model, declared with SQLAlchemy's ORM; ``model_holdfast.py`` differs only in its import and base."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, ForeignKey, String, Text
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(AsyncAttrs, DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "bench_users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(50))
    age: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    score: Mapped[float]
    active: Mapped[bool]
    note: Mapped[str | None] = mapped_column(Text)
    posts: Mapped[list["Post"]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "bench_posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    published: Mapped[bool]
    author_id: Mapped[int] = mapped_column(ForeignKey("bench_users.id"), index=True)
    author: Mapped[User] = relationship(back_populates="posts")


class Signup(Base):
    __tablename__ = "bench_signups"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(50))
    age: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    score: Mapped[float]
    active: Mapped[bool]
    note: Mapped[str | None] = mapped_column(Text)


class Member(Base):
    __tablename__ = "bench_members"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(50))
    age: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    score: Mapped[float]
    active: Mapped[bool]
    note: Mapped[str | None] = mapped_column(Text)


def make_signups(people: list[tuple[Any, ...]]) -> list[Signup]:
    return [
        Signup(email=email, name=name, age=age, created_at=moment, score=score, active=active, note=note)
        for email, name, age, moment, score, active, note in people
    ]


def change(members: list[Member], turn: int) -> None:
    for member in members:
        member.name = f"Turn {turn} of {member.id}"
        member.score = member.id + turn / 2
