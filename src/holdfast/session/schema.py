"""Creating and dropping tables, as operations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import MetaData

from holdfast.plan import EXISTING, Backend, create_statements, drop_statements
from holdfast.steps import Operation, command, fetch


def create_all(backend: Backend, metadata: MetaData) -> Operation[None]:
    """Create the tables, types and indexes that are not there, in one transaction where DDL can be in one."""
    yield from _run(backend, metadata, create_statements)


def drop_all(backend: Backend, metadata: MetaData) -> Operation[None]:
    """Drop the tables and types that are there, in one transaction where DDL can be in one."""
    yield from _run(backend, metadata, drop_statements)


def _run(backend: Backend, metadata: MetaData, statements: Any) -> Operation[None]:
    if not backend.capabilities.ddl_transactional:
        yield from _send(backend, metadata, statements)
        return
    yield from command("BEGIN")
    try:
        yield from _send(backend, metadata, statements)
    except BaseException:
        yield from command("ROLLBACK", cleanup=True)
        raise
    yield from command("COMMIT")


def _send(backend: Backend, metadata: MetaData, statements: Any) -> Operation[None]:
    rows = yield from fetch(EXISTING[backend.capabilities.server])
    for sql in statements(metadata, backend.dialect, {(row[0], row[1]) for row in rows}):
        yield from command(sql)
