"""Statements made ready to send: SQL text, parameters, the shape of rows; and the cache that keeps them."""

from .backend import ArrayEncoder, Backend, plain_arrays
from .build import build_plan
from .cache import PlanCache
from .change import column_values, touched_columns
from .ddl import EXISTING, commits_what_is_open, create_statements, drop_statements
from .plan import ColumnSlot, EntitySlot, JoinSlot, Plan, Slot
from .planner import adapt, entity_of
from .types import Processor, bind_processor, has_binary_form, result_processor

__all__ = [
    "EXISTING",
    "ArrayEncoder",
    "Backend",
    "ColumnSlot",
    "EntitySlot",
    "JoinSlot",
    "Plan",
    "PlanCache",
    "Processor",
    "Slot",
    "adapt",
    "bind_processor",
    "column_values",
    "commits_what_is_open",
    "create_statements",
    "drop_statements",
    "build_plan",
    "entity_of",
    "has_binary_form",
    "plain_arrays",
    "result_processor",
    "touched_columns",
]
