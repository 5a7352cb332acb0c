"""Names of SQLAlchemy's ORM that Holdfast does not have yet.

Each can be imported, so that a model file loads up to the line that uses it, and refuses when used.
"""

from __future__ import annotations

from typing import Any, NoReturn

from .messages import later, mistake


def column_property(*args: Any, **options: Any) -> NoReturn:
    """Refuse: a column computed by an expression comes in a later release."""
    raise later(
        "column_property()",
        write="select(User, (User.first + User.last).label('full'))  # ask for the expression in the statement",
    )


def hybrid_property(function: Any = None, *args: Any, **options: Any) -> NoReturn:
    """Refuse: a property that is also an expression comes in a later release."""
    raise later("hybrid_property", write="@property  # and write the expression in the statement")


hybrid_method = hybrid_property


def composite(*args: Any, **options: Any) -> NoReturn:
    """Refuse: a value made of several columns comes in a later release."""
    raise later("composite()", write="@property  # that makes the value from the columns")


def synonym(name: str, *args: Any, **options: Any) -> NoReturn:
    """Refuse: a second name for an attribute comes in a later release."""
    raise later(
        "synonym()", write=f"mapped_column({name!r})  # gives an attribute another name than its column"
    )


def association_proxy(*args: Any, **options: Any) -> NoReturn:
    """Refuse: a view through a relation comes in a later release."""
    raise later("association_proxy()", write="@property  # that reads through the relation")


def query_expression(*args: Any, **options: Any) -> NoReturn:
    """Refuse: an attribute filled by a query comes in a later release."""
    raise later("query_expression()", write="select(User, expression.label('name'))")


def deferred(*args: Any, **options: Any) -> NoReturn:
    """Refuse: say it in `mapped_column`."""
    raise mistake("deferred() is not part of Holdfast", write="mapped_column(..., deferred=True)")


def backref(name: str, **options: Any) -> NoReturn:
    """Refuse: both sides are written."""
    raise mistake(
        "backref() makes an attribute that no type checker can see",
        write="relationship(back_populates=...)",
        instead="on each of the two classes",
    )


def declarative_base(*args: Any, **options: Any) -> NoReturn:
    """Refuse: a base is a class."""
    raise mistake("declarative_base() is not part of Holdfast", write="class Base(DeclarativeBase): pass")


class MappedAsDataclass:
    """Refuse: models that are dataclasses come in a later release."""

    def __init_subclass__(cls, **options: Any) -> NoReturn:
        raise later("MappedAsDataclass", write="class Base(DeclarativeBase): pass")


class DynamicMapped:
    """Refuse: collections that are queries come in a later release."""

    def __class_getitem__(cls, item: Any) -> NoReturn:
        raise later(f"{cls.__name__}[...]", write="Mapped[list[...]]  # and select() for a part of it")


class WriteOnlyMapped(DynamicMapped):
    """Refuse: collections that are only written come in a later release."""
