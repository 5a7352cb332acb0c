"""Holdfast: the data layer of a Python backend.

Models, queries, sessions and transactions on PostgreSQL, MariaDB and SQLite, blocking and async, from one declaration.
Names and meanings are those of SQLAlchemy 2.0's ORM; statements are SQLAlchemy Core's.
"""

from sqlalchemy import delete, insert, update

from .doors import AsyncDatabase, AsyncSession, Database, Session
from .model import (
    AwareDateTime,
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    NaiveDateTime,
    Versioned,
    declared_attr,
    foreign,
    mapped_column,
    relationship,
    remote,
)
from .query import (
    Load,
    Select,
    aliased,
    defaultload,
    defer,
    joinedload,
    lazyload,
    load_only,
    noload,
    raiseload,
    select,
    selectinload,
    subqueryload,
    undefer,
)

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Names of SQLAlchemy's ORM that come in a later release: what they make says so."""
    from . import model

    if name in LATER:
        return getattr(model, name)
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")


LATER = (
    "DynamicMapped",
    "MappedAsDataclass",
    "WriteOnlyMapped",
    "association_proxy",
    "backref",
    "column_property",
    "composite",
    "declarative_base",
    "deferred",
    "hybrid_method",
    "hybrid_property",
    "query_expression",
    "synonym",
)

__all__ = [
    "AsyncDatabase",
    "AsyncSession",
    "AwareDateTime",
    "Database",
    "DeclarativeBase",
    "InstrumentedAttribute",
    "Load",
    "Mapped",
    "NaiveDateTime",
    "Select",
    "Session",
    "Versioned",
    "aliased",
    "declared_attr",
    "defaultload",
    "defer",
    "delete",
    "foreign",
    "insert",
    "joinedload",
    "lazyload",
    "load_only",
    "mapped_column",
    "noload",
    "raiseload",
    "relationship",
    "remote",
    "select",
    "selectinload",
    "subqueryload",
    "undefer",
    "update",
]
