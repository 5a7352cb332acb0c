"""From a class body to a mapped class: table, mapper, and the descriptors on the class."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column

from .attributes import ColumnAttribute, Entity, RelationAttribute
from .body import Body
from .mapper import ENTITY, Mapper
from .messages import later, mistake
from .registry import Declared, Registry, mapper_of, relation_of
from .versioned import VERSION_ARGS, find_version

IGNORED_MAPPER_ARGS = frozenset({"eager_defaults", "confirm_deleted_rows", "batch", "passive_updates"})


class PendingSetters(dict[str, Any]):
    """Stands for the setters of a class that is not configured: the first use configures it."""

    def __init__(self, cls: type[Any]) -> None:
        super().__init__()
        self.cls = cls

    def get(self, name: str, default: Any = None) -> Any:
        """Answer the setter of an attribute, after configuring."""
        return mapper_of(self.cls).setters.get(name, default)


def declare(cls: Any, registry: Registry, top: type[Any]) -> None:
    """Map a class: make its table and mapper, and put descriptors on it.  Raises `ModelError`."""
    _refuse_inheritance(cls)
    _refuse_mapper_args(cls)
    cls.__evaluated__ = {}
    body = Body(cls, registry, top)
    columns = body.columns()
    table = body.table(columns)
    mapper = _mapper(cls, table, body)
    declared = Declared(registry, mapper)
    declared.relationships, declared.annotations = body.relationships, body.annotations
    declared.copies, declared.hints, declared.allows_unmapped = body.copies, body.hints, body.allows_unmapped
    _dress(cls, declared)
    registry.add(declared)


def _dress(cls: Any, declared: Declared) -> None:
    """Put the descriptors on the class."""
    del cls.__evaluated__
    for name, column in declared.mapper.columns.items():
        setattr(cls, name, ColumnAttribute(name, column))
    for name in declared.relationships:
        setattr(cls, name, RelationAttribute(cls, name, relation_of))
    cls.__table__ = declared.mapper.table
    cls.__declared__ = declared
    cls.__clause_element__ = Entity(declared.mapper)
    cls.__setters__ = PendingSetters(cls)


def _mapper(cls: type[Any], table: Any, body: Body) -> Mapper:
    names = {column: name for name, column in body.named.items()}
    columns: dict[str, Column[Any]] = {names.get(c) or str(c.key): c for c in table.c}
    attributes = {column: name for name, column in columns.items()}
    if not len(table.primary_key.columns):
        raise mistake(
            f"{cls.__name__} has no primary key", write="id: Mapped[int] = mapped_column(primary_key=True)"
        )
    deferred = frozenset(n for n, column in columns.items() if column in body.deferred)
    key = tuple(attributes[column] for column in table.primary_key.columns)
    mapper = Mapper(cls, table, columns, key, table, attributes, deferred)
    mapper.version = find_version(cls, body.copies, mapper)
    mapper.entity = table._annotate({ENTITY: mapper})
    return mapper


def _refuse_inheritance(cls: type[Any]) -> None:
    for base in cls.__mro__[1:]:
        if "__declared__" in vars(base):
            raise later(
                f"inheritance of mapped classes ({cls.__name__} from {base.__name__})",
                write=f"class {cls.__name__}(Base): __tablename__ = ...",
            )


def _refuse_mapper_args(cls: Any) -> None:
    written = getattr(cls, "__mapper_args__", None) or {}
    for name in written:
        if name not in IGNORED_MAPPER_ARGS | VERSION_ARGS:
            raise later(f"{cls.__name__}.__mapper_args__[{name!r}]")
