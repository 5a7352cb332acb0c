"""The statements of a flush: one per table and kind of change, whatever the number of rows.

Values arrive by column.  A server with array parameters (PostgreSQL) takes each column as one array, so that
the SQL text, the plan and the number of parameters do not depend on the number of rows.  Elsewhere rows go
in chunks.
Measured, 1,000 rows of 8 columns: arrays 5.9 ms, multi-row VALUES 10.4 ms, ``executemany`` 12.2 ms (psycopg);
SQLite: VALUES in chunks of 50 to 1,000 3.7 ms, one by one 6.4 ms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column, String, Table
from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeEngine

from holdfast.errors import HoldfastError, WrongType
from holdfast.plan import Backend, Processor, bind_processor, has_binary_form, result_processor
from holdfast.steps import Operation, execute, execute_each, execute_many, fetch

from .chunks import chunks
from .joined import delete_listed, inserted_rows, keys_now, rows_of, update_joined

_NONE = type(None)
KEPT = 100
"""Up to so many rows the text of a statement is kept; a longer one is put together again."""

Columns = Sequence[Column[Any]]
Values = Sequence[Sequence[Any]]
"""Values by column: one sequence for each column, all of one length."""


class Writer:
    """Writes rows of one database; its SQL is kept in the backend."""

    __slots__ = ("arrays", "backend", "dialect", "memo", "numbered")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.dialect = backend.dialect
        self.memo = backend.memo
        self.arrays = backend.capabilities.array_parameters
        self.numbered = self.dialect.paramstyle.startswith("numeric")

    # ------------------------------------------------------------ insert

    def insert(
        self,
        table: Table,
        columns: Columns,
        values: Values,
        count: int,
        returning: Columns = (),
        inline: Sequence[tuple[Column[Any], str]] = (),
    ) -> Operation[list[Any]]:
        """Insert rows; answer one row of ``returning`` for each, in order.

        ``inline`` are columns whose value is an SQL expression, the same for all rows.
        """
        shape = (table, tuple(columns), tuple(returning), tuple(text for _, text in inline))
        if count > 1 and self._can_array(columns):
            sql = self._sql(("insert array", *shape), lambda: self._insert_array(*shape[:3], inline))
            params = [self._encode(c, v) for c, v in zip(columns, values, strict=True)]
            return (yield from self.send(sql, params, returning))
        if not columns and not inline and self.arrays and count > 1:
            sql = self._sql(("insert empty", *shape), lambda: self._insert_empty(table, returning))
            return (yield from self.send(sql, [count], returning))
        rows = self.as_rows(columns, values, count)
        out: list[Any] = []
        known = self.backend.capabilities
        told = shape[2] if known.returning else ()
        together = bool(columns or inline) or known.empty_rows
        for chunk in chunks(rows, len(columns), known) if together else ([row] for row in rows):
            sql = self._insert_sql((*shape[:2], told, shape[3]), len(chunk), inline)
            rows_told = yield from self.send(sql, [value for row in chunk for value in row], told)
            if returning and not told:
                place = len(out)
                given = [column[place : place + len(chunk)] for column in values]
                rows_told = yield from inserted_rows(self, table, columns, given, len(chunk), returning)
            out += rows_told
        return out

    def _insert_sql(self, shape: tuple[Any, ...], rows: int, inline: Any) -> str:
        table, columns, returning, _ = shape
        if rows > KEPT:
            return self._insert_values(rows, table, columns, returning, inline)
        key = ("insert", rows, *shape)
        return self._sql(key, lambda: self._insert_values(rows, table, columns, returning, inline))

    def send(self, sql: str, params: Sequence[Any], returning: Columns) -> Operation[list[Any]]:
        if not returning:
            yield from execute(sql, params)
            return []
        binary = all(has_binary_form(c.type, self.dialect) for c in returning)
        rows = yield from fetch(sql, params, binary=binary)
        processors = [result_processor(c.type, self.dialect) for c in returning]
        if not any(processors):
            return list(rows)
        return [[p(v) if p else v for p, v in zip(processors, row, strict=True)] for row in rows]

    def _insert_array(self, table: Table, columns: Columns, returning: Columns, inline: Any) -> str:
        names = [self.name(c) for c in columns] + [self.name(c) for c, _ in inline]
        arrays = ", ".join(f"${n}::{self._cast(c.type)}[]" for n, c in enumerate(columns, 1))
        fields = [f"r.f{n}" for n in range(len(columns))] + [text for _, text in inline]
        aliases = ", ".join(f"f{n}" for n in range(len(columns)))
        return (
            f"INSERT INTO {self.table(table)} ({', '.join(names)}) "
            f"SELECT {', '.join(fields)} FROM unnest({arrays}) WITH ORDINALITY AS r({aliases}, place) "
            f"ORDER BY r.place{self._returning(returning)}"
        )

    def _insert_empty(self, table: Table, returning: Columns) -> str:
        """Rows of which nothing is given: a SELECT of no columns leaves them all to the server."""
        rows = "SELECT FROM generate_series(1, $1::integer)"
        return f"INSERT INTO {self.table(table)} {rows}{self._returning(returning)}"

    def _insert_values(
        self, rows: int, table: Table, columns: Columns, returning: Columns, inline: Any
    ) -> str:
        names = [self.name(c) for c in columns] + [self.name(c) for c, _ in inline]
        if not names and not self.backend.capabilities.empty_rows:
            return f"INSERT INTO {self.table(table)} DEFAULT VALUES{self._returning(returning)}"
        tuples = self._tuples(rows, len(columns), [text for _, text in inline])
        return f"INSERT INTO {self.table(table)} ({', '.join(names)}) VALUES {tuples}{self._returning(returning)}"

    def _tuples(self, rows: int, width: int, inline: list[str]) -> str:
        if not self.numbered:  # every row reads the same
            return ", ".join([f"({', '.join(['?'] * width + inline)})"] * rows)
        place = self._placeholders()
        return ", ".join(f"({', '.join([next(place) for _ in range(width)] + inline)})" for _ in range(rows))

    # ------------------------------------------------------------ update

    def update(
        self,
        table: Table,
        keys: Columns,
        key_values: Values,
        columns: Columns,
        values: Values,
        returning: Columns = (),
        *,
        width: int | None = None,
    ) -> Operation[tuple[int, list[Any]]]:
        """Update rows found by their keys; answer how many were found, and one row of ``returning`` for each.

        With ``returning`` rows come in any order, the keys first.  The first ``width`` of the keys are enough to say
        which row.
        """
        count = len(key_values[0])
        every = (*keys, *columns)
        shape = (table, tuple(keys), tuple(columns), tuple(returning))
        wanted = (*keys, *returning) if returning else ()
        if count > 1 and self._can_array(every):
            sql = self._sql(("update array", *shape), lambda: self._update_array(*shape))
            params = [self._encode(c, v) for c, v in zip(every, (*key_values, *values), strict=True)]
            if wanted:
                rows = yield from self.send(sql, params, wanted)
                return len(rows), rows
            return (yield from execute(sql, params)), []
        known = self.backend.capabilities
        if wanted and not known.update_returning:
            found, _ = yield from self.update(table, keys, key_values, columns, values)
            now = keys_now(keys[: width or len(keys)], key_values, columns, values)
            return found, (yield from rows_of(self, table, *now, wanted)) if found == count else []
        if count > 1 and known.values_table is not None:
            return (
                yield from update_joined(self, shape, self.as_rows(every, (*key_values, *values), count))
            ), []
        sql = self._sql(("update", *shape), lambda: self._update_one(*shape))
        rows = self.as_rows((*columns, *keys), (*values, *key_values), count)
        if wanted:
            out: list[Any] = []
            for row in rows:
                out += yield from self.send(sql, row, wanted)
            return len(out), out
        if count == 1:
            return (yield from execute(sql, rows[0])), []
        return (yield from self._many(sql, rows)), []

    def _update_array(self, table: Table, keys: Columns, columns: Columns, returning: Columns) -> str:
        every = (*keys, *columns)
        arrays = ", ".join(f"${n}::{self._cast(c.type)}[]" for n, c in enumerate(every, 1))
        aliases = ", ".join(f"f{n}" for n in range(len(every)))
        sets = ", ".join(f"{self.name(c)} = r.f{n + len(keys)}" for n, c in enumerate(columns))
        found = " AND ".join(f"t.{self.name(c)} = r.f{n}" for n, c in enumerate(keys))
        out = self._returning((*keys, *returning) if returning else (), "t.")
        return f"UPDATE {self.table(table)} AS t SET {sets} FROM unnest({arrays}) AS r({aliases}) WHERE {found}{out}"

    def _update_one(self, table: Table, keys: Columns, columns: Columns, returning: Columns) -> str:
        place = self._placeholders()
        sets = ", ".join(f"{self.name(c)} = {next(place)}" for c in columns)
        found = " AND ".join(f"{self.name(c)} = {next(place)}" for c in keys)
        out = self._returning((*keys, *returning) if returning else ())
        return f"UPDATE {self.table(table)} SET {sets} WHERE {found}{out}"

    # ------------------------------------------------------------ delete

    def delete(self, table: Table, keys: Columns, values: Values, count: int) -> Operation[int]:
        """Delete rows found by their keys; answer how many were found."""
        shape = (table, tuple(keys))
        if count > 1 and self._can_array(keys):
            sql = self._sql(("delete array", *shape), lambda: self._delete_array(*shape))
            return (yield from execute(sql, [self._encode(c, v) for c, v in zip(keys, values, strict=True)]))
        rows = self.as_rows(keys, values, count)
        if count > 1 and self.backend.capabilities.values_table is not None:
            return (yield from delete_listed(self, table, keys, rows))
        return (yield from self.delete_each(table, keys, rows))

    def delete_each(self, table: Table, keys: Columns, rows: list[Sequence[Any]]) -> Operation[int]:
        """Delete rows one by one, in order."""
        shape = (table, tuple(keys))
        sql = self._sql(("delete", *shape), lambda: self._delete_one(*shape))
        if len(rows) == 1:
            return (yield from execute(sql, rows[0]))
        return (yield from self._many(sql, rows))

    def _many(self, sql: str, rows: list[Sequence[Any]]) -> Operation[int]:
        """Rows that cannot go as arrays; how many were found must be known."""
        send = execute_many if self.backend.capabilities.counts_many else execute_each
        return (yield from send(sql, rows))

    def _delete_array(self, table: Table, keys: Columns) -> str:
        arrays = ", ".join(f"${n}::{self._cast(c.type)}[]" for n, c in enumerate(keys, 1))
        aliases = ", ".join(f"f{n}" for n in range(len(keys)))
        found = " AND ".join(f"t.{self.name(c)} = r.f{n}" for n, c in enumerate(keys))
        return f"DELETE FROM {self.table(table)} AS t USING unnest({arrays}) AS r({aliases}) WHERE {found}"

    def _delete_one(self, table: Table, keys: Columns) -> str:
        place = self._placeholders()
        found = " AND ".join(f"{self.name(c)} = {next(place)}" for c in keys)
        return f"DELETE FROM {self.table(table)} WHERE {found}"

    # ------------------------------------------------------------ pieces

    def _sql(self, key: Any, make: Any) -> str:
        sql = self.memo.get(key)
        if sql is None:
            sql = self.memo[key] = make()
        return sql  # type: ignore[no-any-return]

    def _can_array(self, columns: Columns) -> bool:
        """``unnest`` flattens arrays of arrays, so array columns go as rows."""
        return self.arrays and bool(columns) and not any(_is_array(c.type, self.dialect) for c in columns)

    def _encode(self, column: Column[Any], values: Sequence[Any]) -> Any:
        key = ("encode", column)
        encode = self.memo.get(key)
        if encode is None:
            encode = self.memo[key] = self.backend.array_encoder(column.type)
        return _bound(column, encode, values)

    def as_rows(self, columns: Columns, values: Values, count: int) -> list[Sequence[Any]]:
        if not columns:
            return [()] * count
        processed: list[Sequence[Any]] = []
        for column, column_values in zip(columns, values, strict=True):
            processor = bind_processor(column.type, self.dialect)
            bound = column_values if processor is None else _bound(column, _each(processor), column_values)
            if _is_json(column.type) and not all(isinstance(value, (str, _NONE)) for value in bound):
                _bound(column, _each(self.dialect._json_serializer or json.dumps), column_values)
            processed.append(bound)
        return list(zip(*processed, strict=True))

    def _placeholders(self) -> Any:
        number = 0
        while True:
            number += 1
            yield f"${number}" if self.numbered else "?"

    def table(self, table: Table) -> str:
        return self.dialect.identifier_preparer.format_table(table)

    def name(self, column: Column[Any]) -> str:
        return self.dialect.identifier_preparer.format_column(column)

    def _returning(self, columns: Columns, prefix: str = "") -> str:
        if not columns:
            return ""
        return " RETURNING " + ", ".join(f"{prefix}{self.name(c)}" for c in columns)

    def _cast(self, type_: TypeEngine[Any]) -> str:
        """The type as a cast says it.  A cast to VARCHAR(5) would cut a longer value in silence; text does not."""
        impl = type_.dialect_impl(self.dialect)
        inner = impl.impl_instance if isinstance(impl, sqltypes.TypeDecorator) else impl
        if isinstance(inner, sqltypes.Enum):
            return self.dialect.type_compiler_instance.process(inner) if inner.native_enum else "TEXT"
        if isinstance(inner, String):
            return "TEXT"
        return self.dialect.type_compiler_instance.process(inner)


def _each(processor: Processor) -> Callable[[Sequence[Any]], list[Any]]:
    """A processor for a whole column; None is NULL, for JSON too."""
    return lambda values: [None if value is None else processor(value) for value in values]


def _bound(column: Column[Any], encode: Callable[[Sequence[Any]], Any], values: Sequence[Any]) -> Any:
    """A column's values as parameters; what the type refuses becomes an error without the value."""
    refused: Exception
    try:
        return encode(values)
    except HoldfastError:
        raise
    except Exception as error:
        refused = error
    raise WrongType(
        f"{column.table.name}.{column.name} was given a value that its type {column.type!r} cannot store",
        mend="Convert it first; a JSON column takes dicts, lists, texts, numbers, booleans and None.",
        table=column.table.name,
        column=column.name,
        orig=refused,
    )


def _is_json(type_: TypeEngine[Any]) -> bool:
    """Psycopg's values are serialized only when they are sent: too late to say which column it was."""
    return isinstance(type_, sqltypes.JSON)


def _is_array(type_: TypeEngine[Any], dialect: Any) -> bool:
    impl = type_.dialect_impl(dialect)
    inner = impl.impl_instance if isinstance(impl, sqltypes.TypeDecorator) else impl
    return isinstance(inner, sqltypes.ARRAY) or inner.__visit_name__ in ("ARRAY", "tuple")
