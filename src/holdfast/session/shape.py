"""What a flush must know of a mapped class, worked out once per class and backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column

from holdfast.model import Mapper
from holdfast.plan import Backend

from .validate import Check, column_check, null_check


class Shape:
    """How rows of a mapped class are written.

    ``sent`` are the attributes a row may carry.  ``generated`` are those the server fills when the row leaves them
    out; ``inline`` those it fills from an SQL default of the column.  ``defaults`` are filled here.
    ``renewed`` are those the server changes at an update, and ``updates`` those changed here.
    """

    def __init__(self, mapper: Mapper, backend: Backend) -> None:
        self.mapper = mapper
        self.sent: list[str] = []
        self.generated: set[str] = set()
        self.inline: dict[str, str] = {}
        self.defaults: dict[str, Callable[[], Any]] = {}
        self.updates: dict[str, Callable[[], Any]] = {}
        self.inline_updates: dict[str, Any] = {}
        self.renewed: list[str] = []
        self.computed: list[str] = []
        for name, column in mapper.columns.items():
            self._column(name, column, backend)
        self.left_out = [name for name in self.sent if name in self.generated]
        self.checks: dict[str, Check] = {}
        self.null_checks: dict[str, Check | None] = {}
        self.wide = backend.capabilities.server == "sqlite"

    def _column(self, name: str, column: Column[Any], backend: Backend) -> None:
        if column.computed is not None:
            self.computed.append(name)
            self.renewed.append(name)
            return
        self.sent.append(name)
        autoincrement = column is self.mapper.table._autoincrement_column
        if column.server_default is not None or column.identity is not None or autoincrement:
            self.generated.add(name)
        default: Any = column.default
        if default is not None:
            if default.is_clause_element:
                self.generated.add(name)
                self.inline[name] = _literal(default.arg, backend)
            elif default.is_sequence:
                self.generated.add(name)
                self.inline[name] = _literal(default.next_value(), backend)
            else:
                self.generated.discard(name)
                self.defaults[name] = _maker(default)
        if column.server_onupdate is not None:
            self.renewed.append(name)
        version = self.mapper.version
        is_version = version is not None and name == version.name
        if is_version and version.generate is None and name not in self.renewed:  # type: ignore[union-attr]
            self.renewed.append(name)
        onupdate: Any = column.onupdate
        if onupdate is not None and not is_version:
            if onupdate.is_clause_element:
                self.inline_updates[name] = onupdate.arg
                self.renewed.append(name)
            else:
                self.updates[name] = _maker(onupdate)

    def validate(self, name: str, values: Sequence[Any]) -> None:
        """Raise the typed error of the first value of a column that cannot be written."""
        self.check(name)(values)
        self.judge_missing(name, values)

    def judge_missing(self, name: str, values: Sequence[Any]) -> None:
        """Raise where a required value is missing."""
        check = self.null_check(name)
        if check is not None:
            check(values)

    def check(self, name: str) -> Check:
        check = self.checks.get(name)
        if check is None:
            check = self.checks[name] = column_check(self.mapper, name, self.wide)
        return check

    def null_check(self, name: str) -> Check | None:
        if name not in self.null_checks:
            self.null_checks[name] = null_check(self.mapper, name)
        return self.null_checks[name]


def _maker(default: Any) -> Callable[[], Any]:
    argument = default.arg
    if default.is_callable:
        return lambda: argument(None)
    return lambda: argument


def _literal(expression: Any, backend: Backend) -> str:
    compiled = backend.dialect.statement_compiler(
        backend.dialect, expression, compile_kwargs={"literal_binds": True}
    )
    return str(compiled)


def shape_of(mapper: Mapper, backend: Backend) -> Shape:
    shape: Shape | None = backend.memo.get(("shape", mapper))
    if shape is None:
        shape = backend.memo[("shape", mapper)] = Shape(mapper, backend)
    return shape
