"""What users ask with: ``select`` with relationship joins, ``aliased``, loader options."""

from .aliased import AliasedClass, aliased, entity_column
from .options import (
    PLAIN,
    Branch,
    Load,
    LoaderOption,
    LoadTree,
    TreeOption,
    defaultload,
    defer,
    joinedload,
    lazyload,
    load_only,
    load_tree,
    noload,
    raiseload,
    selectinload,
    subqueryload,
    undefer,
)
from .select import FromStatement, Select, select

__all__ = [
    "PLAIN",
    "AliasedClass",
    "Branch",
    "FromStatement",
    "Load",
    "LoadTree",
    "LoaderOption",
    "Select",
    "TreeOption",
    "aliased",
    "defaultload",
    "defer",
    "entity_column",
    "joinedload",
    "lazyload",
    "load_only",
    "load_tree",
    "noload",
    "raiseload",
    "select",
    "selectinload",
    "subqueryload",
    "undefer",
]
