"""Model files loaded twice: under Holdfast, and under SQLAlchemy's ORM as the oracle.

A file imports from ``orm``; that word is all that differs.
"""

from __future__ import annotations

import itertools
import sys
from types import ModuleType
from typing import Any

from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from holdfast.model.joins import columns_in, is_marked

NUMBERS = itertools.count()

HEADER = """
from __future__ import annotations
import enum, uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, List, Literal, NewType, Optional, Set, Union
from typing_extensions import TypeAliasType
from sqlalchemy import *
from sqlalchemy.dialects.postgresql import ARRAY as PGARRAY, JSONB
from {library} import DeclarativeBase, Mapped, declared_attr, foreign, mapped_column, relationship, remote

convention = {{
    "ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}}

class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=convention)
    type_annotation_map = {{dict[str, Any]: JSON, list[str]: JSON, dict: JSON, list: JSON}}

"""


def load(
    source: str, library: str = "holdfast.model", header: str = HEADER, future: bool = True
) -> ModuleType:
    """Run a model file as a module of its own."""
    name = f"model_file_{next(NUMBERS)}"
    module = ModuleType(name)
    sys.modules[name] = module
    text = header.format(library=library) + source
    if not future:
        text = text.replace("from __future__ import annotations", "")
    exec(compile(text, name, "exec", dont_inherit=True), vars(module))
    return module


def load_both(source: str, future: bool = True) -> tuple[ModuleType, ModuleType]:
    """Answer the file under Holdfast and under SQLAlchemy's ORM, both configured."""
    ours, theirs = load(source, future=future), load(source, "sqlalchemy.orm", future=future)
    ours.Base.registry.configure()
    theirs.Base.registry.configure()
    return ours, theirs


def ddl(module: Any) -> dict[str, list[str]]:
    """Answer the DDL of a model file for each dialect, with instants written alike."""
    made: dict[str, list[str]] = {}
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        lines = made[dialect.name] = []
        for table in module.Base.metadata.sorted_tables:
            lines.append(
                str(CreateTable(table).compile(dialect=dialect)).replace("WITHOUT TIME", "WITH TIME")
            )
            indexes = sorted(table.indexes, key=lambda index: str(index.name))
            lines += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
    return made


def relations_of_orm(module: Any) -> dict[str, Any]:
    """Describe the relations of a model file under SQLAlchemy's ORM."""
    found = {}
    for mapper in module.Base.registry.mappers:
        for relation in mapper.relationships:
            second = relation.secondary_synchronize_pairs or ()
            found[f"{mapper.class_.__name__}.{relation.key}"] = {
                "direction": {"ONETOMANY": "one-to-many", "MANYTOONE": "many-to-one"}.get(
                    relation.direction.name, "many-to-many"
                ),
                "target": relation.mapper.class_.__name__,
                "uselist": bool(relation.uselist),
                "pairs": {frozenset((str(a), str(b))) for a, b in relation.synchronize_pairs}
                | {frozenset((str(a), str(b))) for a, b in second},
                "remote": {str(column) for column in relation.remote_side},
                "cascade": set(relation.cascade),
                "order_by": [str(part) for part in relation.order_by or ()],
                "back": {str(other) for other in relation._reverse_property},
                "collection": (relation.collection_class or list) if relation.uselist else None,
            }
    return found


def relations_of(module: Any) -> dict[str, Any]:
    """Describe the relations of a model file under Holdfast in the same words."""
    found = {}
    for mapper in module.Base.registry.mappers:
        for name, relation in mapper.relations.items():
            pairs = (*relation.pairs, *relation.parent_pairs, *relation.target_pairs)
            joins = [
                relation.primaryjoin,
                *([] if relation.secondaryjoin is None else [relation.secondaryjoin]),
            ]
            far = {str(c) for join in joins for c in columns_in(join) if is_marked(c, "remote")}
            if relation.secondary is not None:  # the oracle counts the table in the middle only
                far &= {str(column) for column in relation.secondary.c}
            back = relation.back
            found[f"{mapper.name}.{name}"] = {
                "direction": relation.direction.value,
                "target": relation.target.name,
                "uselist": relation.uselist,
                "pairs": {frozenset((str(a), str(b))) for a, b in pairs},
                "remote": far,
                "cascade": set(relation.cascade),
                "order_by": [str(part) for part in relation.order_by],
                "back": set() if back is None else {f"{back.parent.name}.{back.name}"},
                "collection": relation.collection if relation.uselist else None,
            }
    return found


__all__ = ["ddl", "load", "load_both", "orm", "relations_of", "relations_of_orm"]
