"""What of SQLAlchemy's own ORM strays into a model, and what is told.

A forgotten import would otherwise be passed over: the attribute would not be mapped, and nobody would say so.
"""

from __future__ import annotations

from typing import Any

from .messages import later, mistake

OURS = {
    "Mapped": "Mapped",
    "MappedColumn": "mapped_column",
    "RelationshipProperty": "relationship",
    "_declared_directive": "declared_attr",
    "_declared_attr_common": "declared_attr",
}
"""SQLAlchemy's class of a thing, and Holdfast's name for it."""

LATER = {
    "MappedSQLExpression": "column_property()",
    "ColumnProperty": "column_property()",
    "DynamicMapped": "DynamicMapped[...]",
    "WriteOnlyMapped": "WriteOnlyMapped[...]",
}


def refuse_stray(where: str, kind: Any) -> None:
    """Raise where a class is one of SQLAlchemy's ORM; ``where`` names the attribute."""
    if not isinstance(kind, type) or not _is_of_orm(kind):
        return
    for base in kind.__mro__:
        if base.__name__ in LATER and _is_of_orm(base):
            raise later(f"{where}: {LATER[base.__name__]}")
        if base.__name__ in OURS and _is_of_orm(base):
            ours = OURS[base.__name__]
            raise mistake(
                f"{where}: this {ours} is sqlalchemy.orm's, which Holdfast does not read",
                write=f"from holdfast import {ours}",
            )
    raise later(f"{where}: {kind.__name__} of sqlalchemy.orm")


def _is_of_orm(kind: type[Any]) -> bool:
    return kind.__module__.startswith("sqlalchemy.orm.")
