"""The oracle's models, declared twice from one text: once with Holdfast, once with SQLAlchemy's ORM.

Every row that objects stand for has a ``label``, unique in its table, so that generated keys may differ.
"""

import uuid
from types import SimpleNamespace
from typing import Any, Optional

import sqlalchemy.orm
from sqlalchemy import JSON, Column, Computed, ForeignKey, ForeignKeyConstraint, String, Table
from sqlalchemy.ext.mutable import MutableDict

import holdfast


def declare(library: Any, json: Any) -> SimpleNamespace:
    """Declare all models with a library's names; ``json`` is its type for a value that changes in place."""
    Mapped, mapped_column, relationship = library.Mapped, library.mapped_column, library.relationship

    class Base(library.DeclarativeBase):  # type: ignore[name-defined,misc]
        pass

    owner_tags = Table(
        "owner_tags",
        Base.metadata,
        Column("owner_id", ForeignKey("owners.id"), primary_key=True),
        Column("tag_code", ForeignKey("tags.code", onupdate="CASCADE"), primary_key=True),
    )

    class Badge(Base):
        """A string key that may change; nobody knows from here who wears it."""

        __tablename__ = "badges"
        code: Mapped[str] = mapped_column(String(20), primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)

    class Tag(Base):
        __tablename__ = "tags"
        code: Mapped[str] = mapped_column(String(20), primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        owners: Mapped[list["Owner"]] = relationship(secondary=owner_tags, back_populates="tags")

    class Owner(Base):
        __tablename__ = "owners"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        number: Mapped[Optional[int]]  # noqa: UP045 - SQLAlchemy reads it at run time, and so do we
        doubled: Mapped[Optional[int]] = mapped_column(Computed("number * 2", persisted=True))  # noqa: UP045
        state: Mapped[str] = mapped_column(String(20), server_default="fresh")
        mood: Mapped[str] = mapped_column(String(20), default=lambda: "calm")
        edited: Mapped[Optional[str]] = mapped_column(String(20), onupdate=lambda: "edited")  # noqa: UP045
        data: Mapped[Optional[dict[str, Any]]] = mapped_column(json, default=dict)  # noqa: UP045
        badge_code: Mapped[Optional[str]] = mapped_column(ForeignKey("badges.code", onupdate="CASCADE"))  # noqa: UP045
        favorite_id: Mapped[Optional[int]] = mapped_column(ForeignKey("items.id"))  # noqa: UP045
        badge: Mapped[Optional[Badge]] = relationship()  # noqa: UP045
        items: Mapped[list["Item"]] = relationship(
            back_populates="owner", cascade="all, delete-orphan", foreign_keys="Item.owner_id"
        )
        loose: Mapped[list["Loose"]] = relationship(back_populates="owner")
        quiet: Mapped[list["Quiet"]] = relationship(
            back_populates="owner", cascade="all", passive_deletes=True
        )
        lone: Mapped[list["Lone"]] = relationship(cascade="all, delete-orphan")
        profile: Mapped[Optional["Profile"]] = relationship(
            back_populates="owner", cascade="all, delete-orphan"
        )
        tags: Mapped[list[Tag]] = relationship(secondary=owner_tags, back_populates="owners")
        favorite: Mapped[Optional["Item"]] = relationship(foreign_keys=[favorite_id], post_update=True)
        memberships: Mapped[list["Membership"]] = relationship(
            back_populates="owner", cascade="all, delete-orphan"
        )

    class Item(Base):
        """Owned: taken out of its owner's list, it is deleted."""

        __tablename__ = "items"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        owner_id: Mapped[Optional[int]] = mapped_column(ForeignKey("owners.id"))  # noqa: UP045
        owner: Mapped[Optional[Owner]] = relationship(back_populates="items", foreign_keys=[owner_id])  # noqa: UP045

    class Loose(Base):
        """Held without cascade: its owner gone, its key is emptied."""

        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        owner_id: Mapped[Optional[int]] = mapped_column(ForeignKey("owners.id"))  # noqa: UP045
        owner: Mapped[Optional[Owner]] = relationship(back_populates="loose")  # noqa: UP045

    class Quiet(Base):
        """The server deletes it with its owner."""

        __tablename__ = "quiet"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        owner_id: Mapped[Optional[int]] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))  # noqa: UP045
        owner: Mapped[Optional[Owner]] = relationship(back_populates="quiet")  # noqa: UP045

    class Lone(Base):
        """Owned, and does not know by whom."""

        __tablename__ = "lone"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"))

    class Profile(Base):
        __tablename__ = "profiles"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        owner_id: Mapped[Optional[int]] = mapped_column(ForeignKey("owners.id"))  # noqa: UP045
        owner: Mapped[Optional[Owner]] = relationship(back_populates="profile")  # noqa: UP045

    class Membership(Base):
        """An association with a row of its own."""

        __tablename__ = "memberships"
        owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"), primary_key=True)
        tag_code: Mapped[str] = mapped_column(ForeignKey("tags.code", onupdate="CASCADE"), primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        owner: Mapped[Owner] = relationship(back_populates="memberships")
        tag: Mapped[Tag] = relationship()

    class Node(Base):
        """A tree; keys are made in Python."""

        __tablename__ = "nodes"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        parent_id: Mapped[Optional[uuid.UUID]] = mapped_column(ForeignKey("nodes.id"))  # noqa: UP045
        parent: Mapped[Optional["Node"]] = relationship(back_populates="children", remote_side=[id])
        children: Mapped[list["Node"]] = relationship(back_populates="parent")

    class Branch(Base):
        """A tree that is deleted with its root."""

        __tablename__ = "branches"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        parent_id: Mapped[Optional[int]] = mapped_column(ForeignKey("branches.id"))  # noqa: UP045
        parent: Mapped[Optional["Branch"]] = relationship(back_populates="children", remote_side=[id])
        children: Mapped[list["Branch"]] = relationship(back_populates="parent", cascade="all")

    class Shelf(Base):
        """A key of two columns, which may change."""

        __tablename__ = "shelves"
        room: Mapped[str] = mapped_column(String(20), primary_key=True)
        place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        books: Mapped[list["Book"]] = relationship(back_populates="shelf")

    class Book(Base):
        __tablename__ = "books"
        __table_args__ = (
            ForeignKeyConstraint(
                ["shelf_room", "shelf_place"], ["shelves.room", "shelves.place"], onupdate="CASCADE"
            ),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column(String(20), unique=True)
        shelf_room: Mapped[Optional[str]] = mapped_column(String(20))  # noqa: UP045
        shelf_place: Mapped[Optional[int]]  # noqa: UP045
        shelf: Mapped[Optional[Shelf]] = relationship(back_populates="books")  # noqa: UP045

    classes = (Badge, Tag, Owner, Item, Loose, Quiet, Lone, Profile, Membership, Node, Branch, Shelf, Book)
    return SimpleNamespace(Base=Base, owner_tags=owner_tags, **{c.__name__: c for c in classes})


HOLDFAST = declare(holdfast, JSON)
SQLALCHEMY = declare(sqlalchemy.orm, MutableDict.as_mutable(JSON))

KINDS = (
    "Badge",
    "Tag",
    "Owner",
    "Item",
    "Loose",
    "Quiet",
    "Lone",
    "Profile",
    "Membership",
    "Node",
    "Branch",
    "Shelf",
    "Book",
)
