"""What a user declares: columns, relations, mixins, and the mappers made of them."""

from .attributes import ColumnAttribute, RelationAttribute
from .base import DeclarativeBase
from .batch import BATCH, CHANGED, DETACHED, MISSING, RAW, Batch, note_detached
from .columns import InstrumentedAttribute, Mapped, MappedColumn, mapped_column
from .comparing import EntityColumn, form_of, order_form_of
from .joins import foreign, join_condition, remote
from .later import (
    DynamicMapped,
    MappedAsDataclass,
    WriteOnlyMapped,
    association_proxy,
    backref,
    column_property,
    composite,
    declarative_base,
    deferred,
    hybrid_method,
    hybrid_property,
    query_expression,
    synonym,
)
from .mapper import ENTITY, Direction, Mapper, Relation, Version
from .mixins import declared_attr
from .registry import Registry, configure, is_mapped, mapper_of, mapper_of_entity
from .relationships import Relationship, relationship
from .setters import install
from .sides import (
    InstrumentedList,
    InstrumentedSet,
    collection_maker,
    contains,
    make_collection,
    read_missing,
)
from .tracking import Tracked, unknown_attribute
from .types import AwareDateTime, NaiveDateTime
from .versioned import Versioned

registry = Registry

__all__ = [
    "BATCH",
    "CHANGED",
    "DETACHED",
    "ENTITY",
    "MISSING",
    "RAW",
    "AwareDateTime",
    "Batch",
    "ColumnAttribute",
    "DeclarativeBase",
    "Direction",
    "EntityColumn",
    "DynamicMapped",
    "InstrumentedAttribute",
    "InstrumentedList",
    "InstrumentedSet",
    "Mapped",
    "MappedAsDataclass",
    "MappedColumn",
    "Mapper",
    "NaiveDateTime",
    "Registry",
    "Relation",
    "RelationAttribute",
    "Relationship",
    "Tracked",
    "Version",
    "Versioned",
    "WriteOnlyMapped",
    "association_proxy",
    "backref",
    "column_property",
    "composite",
    "configure",
    "contains",
    "declarative_base",
    "declared_attr",
    "deferred",
    "foreign",
    "form_of",
    "hybrid_method",
    "hybrid_property",
    "install",
    "is_mapped",
    "join_condition",
    "collection_maker",
    "make_collection",
    "mapped_column",
    "mapper_of",
    "mapper_of_entity",
    "note_detached",
    "order_form_of",
    "query_expression",
    "read_missing",
    "registry",
    "relationship",
    "remote",
    "synonym",
    "unknown_attribute",
]
