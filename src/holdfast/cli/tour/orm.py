"""The same tables with SQLAlchemy's ORM as it is out of the box: what the tour compares with.

The classes are mapped onto the very tables of `models`, so both sides read the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.orm import Session

from . import models

__all__ = ["Author", "Package", "Session", "open_engine"]

registry = orm.registry()
package, author, needs = models.Package.__table__, models.Author.__table__, models.package_needs


class Author:
    pass


class Package:
    pass


registry.map_imperatively(Author, author)
registry.map_imperatively(
    Package,
    package,
    properties={
        "authors": orm.relationship(Author, secondary=models.package_authors),
        "needs": orm.relationship(
            Package,
            secondary=needs,
            primaryjoin=package.c.id == needs.c.package_id,
            secondaryjoin=package.c.id == needs.c.needed_id,
            order_by=package.c.name,
        ),
    },
)


@contextmanager
def open_engine(url: sa.URL, heard: Callable[[str], None]) -> Iterator[sa.Engine]:
    """An engine of SQLAlchemy; ``heard`` is told each statement that it sends."""
    engine = sa.create_engine(url)

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard(statement)

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield engine
    finally:
        engine.dispose()
