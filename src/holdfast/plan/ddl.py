"""Tables, types and indexes as statements, for scripts and tests; migrations are another room's work."""

from __future__ import annotations

from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.mock import MockConnection

EXISTING = {
    "sqlite": "SELECT NULL, name FROM sqlite_master WHERE type IN ('table', 'view')",
    "postgresql": "SELECT table_schema, table_name FROM information_schema.tables "
    "UNION ALL SELECT n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
    "WHERE t.typtype = 'e'",
}
"""Per server: the schema and name of what is there already."""

_DEFAULT_SCHEMA = {"postgresql": "public"}


def create_statements(metadata: MetaData, dialect: Dialect, existing: set[tuple[str | None, str]]) -> list[str]:
    """The statements that create what is not there yet, in foreign-key order."""
    schema = _DEFAULT_SCHEMA.get(dialect.name)
    missing = [t for t in metadata.sorted_tables if (t.schema or schema, t.name) not in existing]
    return _statements("create_all", metadata, missing, dialect, existing)


def drop_statements(metadata: MetaData, dialect: Dialect, existing: set[tuple[str | None, str]]) -> list[str]:
    """The statements that drop what is there."""
    schema = _DEFAULT_SCHEMA.get(dialect.name)
    present = [t for t in metadata.sorted_tables if (t.schema or schema, t.name) in existing]
    return _statements("drop_all", metadata, present, dialect, None)


def _statements(
    verb: str, metadata: MetaData, tables: list[Table], dialect: Dialect, existing: set[Any] | None
) -> list[str]:
    collected: list[str] = []

    def collect(element: Any, *_: Any, **__: Any) -> None:
        if existing is not None and element.__visit_name__ == "create_enum_type":
            if (element.element.schema or _DEFAULT_SCHEMA.get(dialect.name), element.element.name) in existing:
                return
        collected.append(str(element.compile(dialect=dialect)).strip())

    getattr(metadata, verb)(MockConnection(dialect, collect), tables=tables, checkfirst=False)
    return collected
