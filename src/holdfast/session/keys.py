"""Statements that select by keys, and how the keys become parameters.

Keys travel as one array where the server has them (PostgreSQL), as one JSON array on SQLite, and otherwise as an IN list in
chunks the server allows.  One key alone, of ``session.get``, is a plain parameter of a statement that is ready.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from holdfast.model import Mapper
from holdfast.plan import Backend, Plan, bind_processor, build_plan
from holdfast.steps import Operation, fetch

if TYPE_CHECKING:
    from .asking import Asking

KEYS = "holdfast_keys"


class Loader:
    """A ready statement that selects by keys; how keys become parameters is settled here, once.

    ``base`` are its parameters where it has others besides the keys, which then go to ``places``.
    """

    __slots__ = ("base", "places", "plan", "processors", "sql", "style", "width")

    def __init__(self, plan: Plan, style: str, processors: list[Any]) -> None:
        self.plan = plan
        self.style = style
        self.processors = processors
        self.width = len(processors)
        self.sql = plan.sql
        self.base: list[Any] | None = None
        self.places: list[int] = []

    def find_places(self) -> None:
        """Bind once with marks for the keys, and see where they arrive."""
        names = [KEYS] if self.style == "json" else [f"{KEYS}{n}" for n in range(self.width)]
        marks = [_Mark() for _ in names]
        self.sql, bound = self.plan.bind((), dict(zip(names, marks, strict=True)))
        if list(bound) != marks:
            self.base = list(bound)
            self.places = [self.base.index(mark) for mark in marks]

    def parameters(self, keys: list[Any]) -> list[Any]:
        """All parameters, of the keys' arrays."""
        if self.base is None:
            return keys
        filled = self.base.copy()
        for place, value in zip(self.places, keys, strict=True):
            filled[place] = value
        return filled


class _Mark:
    """Stands for keys; it is equal to nothing but itself."""


class _Keys(sa.types.TypeDecorator[Any]):
    """An array parameter that the driver's own encoder makes, and no SQLAlchemy processor touches."""

    impl = sa.ARRAY
    cache_ok = True

    def bind_processor(self, dialect: Any) -> None:
        return None


def key_style(columns: Sequence[Any], backend: Backend) -> str:
    """How the keys of these columns are sent: ``array``, ``json`` or ``list``."""
    if backend.capabilities.array_parameters:
        return "array"
    if backend.capabilities.json_each and all(_json_able(c.type, backend) for c in columns):
        return "json"
    return "list"


def _json_able(type_: Any, backend: Backend) -> bool:
    impl = type_.dialect_impl(backend.dialect)
    if isinstance(impl, sa.types.TypeDecorator):
        impl = impl.impl_instance
    return isinstance(impl, (sa.Integer, sa.String, sa.Uuid)) and not isinstance(impl, sa.LargeBinary)


def key_condition(columns: Sequence[Any], style: str, backend: Backend) -> Any:
    """``columns`` are among the keys."""
    if style == "json":
        value = sa.func.json_each(sa.bindparam(KEYS, type_=sa.String)).table_valued("value").c.value
        if len(columns) == 1:
            return columns[0].in_(sa.select(value))
        parts = [sa.func.json_extract(value, sa.literal_column(f"'$[{n}]'")) for n in range(len(columns))]
        return sa.tuple_(*columns).in_(sa.select(*parts))
    if style == "list":
        left = columns[0] if len(columns) == 1 else sa.tuple_(*columns)
        return left.in_(sa.bindparam(KEYS, expanding=True))
    arrays = [
        sa.bindparam(f"{KEYS}{n}", type_=_Keys(_array_item(c.type, backend))) for n, c in enumerate(columns)
    ]
    if len(columns) == 1:
        return columns[0] == sa.any_(arrays[0])
    rows = sa.func.unnest(*arrays).table_valued(*(f"f{n}" for n in range(len(columns)))).render_derived()
    return sa.tuple_(*columns).in_(sa.select(*rows.c))


def _array_item(type_: Any, backend: Backend) -> Any:
    """Text keys are compared as text: a cast to VARCHAR(5) would cut a longer key in silence."""
    impl = type_.dialect_impl(backend.dialect)
    if isinstance(impl, sa.String) and not isinstance(impl, sa.Enum):
        return sa.Text()
    return type_


def fetch_by_keys(core: Asking, loader: Loader, keys: list[Any]) -> Operation[Sequence[Any]]:
    """Fetch rows whose columns are among the keys; a key is a value, or a tuple for several columns."""
    plan, backend = loader.plan, core.backend
    if loader.style == "array":
        split = [keys] if loader.width == 1 else list(zip(*keys, strict=True))
        params = [encode(values) for encode, values in zip(loader.processors, split, strict=True)]
        return (yield from fetch(loader.sql, loader.parameters(params), binary=plan.binary))
    if loader.style == "json":
        params = [json.dumps(_written(loader, keys))]
        return (yield from fetch(loader.sql, loader.parameters(params), binary=plan.binary))
    rows: list[Any] = []
    size = max(1, (backend.capabilities.max_bound_values - 50) // loader.width)
    for start in range(0, len(keys), size):
        sql, bound = plan.bind((), {KEYS: keys[start : start + size]})
        rows += yield from fetch(sql, bound, binary=plan.binary)
    return rows


def _written(loader: Loader, keys: list[Any]) -> list[Any]:
    """Keys as the database has them."""
    if not any(loader.processors):
        return keys
    if loader.width == 1:
        return [loader.processors[0](key) for key in keys]
    return [[v if p is None else p(v) for p, v in zip(loader.processors, key, strict=True)] for key in keys]


def make_loader(statement: Any, columns: Sequence[Any], style: str, backend: Backend) -> Loader:
    plan = build_plan(statement, backend.dialect, ())
    processors: list[Any] = [
        backend.array_encoder(c.type) if style == "array" else bind_processor(c.type, backend.dialect)
        for c in columns
    ]
    loader = Loader(plan, style, processors)
    if style != "list":
        loader.find_places()
    return loader


# ---------------------------------------------------------------- one object by key


class KeyLoader:
    """The ready statement of ``session.get``: nothing is built, nothing looked up."""

    __slots__ = ("bind", "plan")

    def __init__(self, mapper: Mapper, backend: Backend) -> None:
        columns = [mapper.columns[name] for name in mapper.primary_key]
        names = [f"k{n}" for n in range(len(columns))]
        params = [sa.bindparam(name, type_=c.type) for name, c in zip(names, columns, strict=True)]
        statement = sa.select(mapper.entity).where(*(c == p for c, p in zip(columns, params, strict=True)))
        self.plan = build_plan(statement, backend.dialect, ())
        processors = [bind_processor(c.type, backend.dialect) for c in columns]
        self.bind = _key_binder(self.plan, names, processors)


def _key_binder(
    plan: Plan, names: list[str], processors: list[Any]
) -> Callable[[Any], tuple[str, Sequence[Any]]]:
    """From a key to SQL and parameters; joins of the model may have parameters besides the key."""
    sql, single, many = plan.sql, processors[0], len(names) > 1
    if len(plan.bind((), dict.fromkeys(names))[1]) != len(names):
        return lambda key: plan.bind((), dict(zip(names, key if many else (key,), strict=True)))
    if many:
        return lambda key: (sql, [p(k) if p else k for p, k in zip(processors, key, strict=True)])
    if single is None:
        return lambda key: (sql, (key,))
    return lambda key: (sql, (single(key),))


def key_loader(backend: Backend, mapper: Mapper) -> KeyLoader:
    """Find or make the loader of a class."""
    loader: KeyLoader | None = backend.memo.get(mapper)
    if loader is None:
        loader = backend.memo[mapper] = KeyLoader(mapper, backend)
    return loader
