"""Tables, types and indexes as statements, for scripts and tests; migrations are another room's work."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.mock import MockConnection

_POSTGRESQL = (
    "SELECT table_schema, table_name FROM information_schema.tables "
    "UNION ALL SELECT n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
    "WHERE t.typtype = 'e'"
)
_MYSQL = (
    "SELECT table_schema, table_name FROM information_schema.tables "
    "UNION ALL SELECT NULL, table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
)
EXISTING = {
    "sqlite": "SELECT NULL, name FROM sqlite_master WHERE type IN ('table', 'view')",
    "postgresql": f"WITH there (schema, name) AS ({_POSTGRESQL}) SELECT schema, name FROM there "
    "UNION ALL SELECT NULL, name FROM there WHERE schema = current_schema()",
    "mariadb": _MYSQL,
    "mysql": _MYSQL,
}
"""Per server: the schema and name of what is there already; without schema, what a plain name means."""

_TYPES = {"create_enum_type": True, "drop_enum_type": False}
"""Statements about types, and whether the type being there makes them needless."""


_COMMITS = re.compile(
    r"(?:\s+|--[^\n]*\n|\#[^\n]*\n|/\*(?!!).*?\*/)*"
    r"(?:(?:CREATE|DROP)\s(?!(?:OR\s+REPLACE\s+)?TEMPORARY\s)"
    r"|(?:ALTER|RENAME|TRUNCATE|GRANT|REVOKE|ANALYZE|OPTIMIZE|REPAIR|CHECK|LOCK|UNLOCK|FLUSH|INSTALL|UNINSTALL)\s)",
    re.IGNORECASE | re.DOTALL,
)


def commits_what_is_open(sql: str) -> bool:
    """Whether a server without transactions for DDL commits before this statement; temporary tables are apart.

    https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
    """
    return _COMMITS.match(sql) is not None


def create_statements(
    metadata: MetaData, dialect: Dialect, existing: set[tuple[str | None, str]]
) -> list[str]:
    """The statements that create what is not there yet, in foreign-key order."""
    missing = [t for t in metadata.sorted_tables if (t.schema, t.name) not in existing]
    return _statements("create_all", metadata, missing, dialect, existing)


def drop_statements(metadata: MetaData, dialect: Dialect, existing: set[tuple[str | None, str]]) -> list[str]:
    """The statements that drop what is there."""
    present = [t for t in metadata.sorted_tables if (t.schema, t.name) in existing]
    return _statements("drop_all", metadata, present, dialect, existing)


def _statements(
    verb: str,
    metadata: MetaData,
    tables: list[Table],
    dialect: Dialect,
    existing: set[tuple[str | None, str]],
) -> list[str]:
    collected: list[str] = []

    def collect(element: Any, *_: Any, **__: Any) -> None:
        if element.__visit_name__ in _TYPES:
            name = (element.element.schema, element.element.name)
            if (name in existing) is _TYPES[element.__visit_name__]:
                return
        collected.append(str(element.compile(dialect=dialect)).strip())

    getattr(metadata, verb)(MockConnection(dialect, collect), tables=tables, checkfirst=False)
    return collected
