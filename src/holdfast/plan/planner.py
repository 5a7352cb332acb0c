"""SELECT → plan: which columns each entity needs, what is joined for them, and what the rows will hold.

Compiling happens once per form of statement, so this file may take its time and spell things out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause

from holdfast.errors import InvalidRequestError
from holdfast.model import Direction, Mapper, Relation, join_condition, mapper_of_entity
from holdfast.query import ALIAS_NAME, LoadTree, TreeOption, entity_column, load_tree

from .bind import make_bind
from .plan import ColumnSlot, EntitySlot, JoinSlot, Plan, Slot
from .types import has_binary_form, result_processor

_JOINED = ("joined", "inner")
_STATEMENTS = ("selectin", "subquery", "immediate")


def compile_statement(statement: Any, dialect: Dialect, column_keys: Sequence[str] | None = None) -> Any:
    if not hasattr(statement, "_compiler"):
        raise InvalidRequestError(
            f"{type(statement).__name__} is not a statement.",
            mend='Pass select(...), insert(...), update(...), delete(...), or text("...").',
        )
    if isinstance(statement, sa.schema.ExecutableDDLElement):
        return statement.compile(dialect=dialect)
    return dialect.statement_compiler(dialect, statement, column_keys=column_keys)


def entity_of(element: Any) -> Mapper | None:
    """The mapper an element of a SELECT stands for, if it stands for one."""
    marked = getattr(element, "_annotations", None) and isinstance(element, FromClause)
    return mapper_of_entity(element) if marked else None


class Planner:
    """Makes the plan of one SELECT; lives for that long."""

    def __init__(self, statement: Any, dialect: Dialect, listed: Sequence[Any]) -> None:
        self.statement = statement
        self.dialect = dialect
        self.listed = listed
        self.options = getattr(statement, "_with_options", ())
        self.columns: list[Any] = []
        self.slots: list[Slot] = []
        self.keys: list[str] = []
        self.elements: list[Any] = []
        self.joined: list[tuple[Any, Any, Any, bool]] = []
        self.order: list[Any] = []

    def plan(self) -> Plan:
        if isinstance(self.statement, sa.CompoundSelect):
            return self._finish(self.statement)
        raw = self.statement._raw_columns
        _check_options(self.options, raw)
        plain = self._is_plain(raw)
        for element in raw:
            self.add(element, plain)
        if not any(isinstance(slot, EntitySlot) for slot in self.slots):
            return self._finish(self.statement)
        return self._finish(self._rewritten())

    def _is_plain(self, raw: Sequence[Any]) -> bool:
        """Whether each row stands for one object and nothing limits or groups the rows.

        The statement that loads a relation has the parent's key beside the object.
        """
        s = self.statement
        return (
            (len(raw) == 1 or any(isinstance(option, TreeOption) for option in self.options))
            and s._limit_clause is None
            and s._offset_clause is None
            and s._fetch_clause is None
            and not _is_distinct(s)
            and not s._group_by_clauses
            and s._for_update_arg is None
        )

    def add(self, element: Any, plain: bool) -> None:
        mapper = entity_of(element)
        if mapper is not None:
            tree = load_tree(self.options, element, mapper)
            nullable = self._may_be_null(element)
            self.slots.append(self._entity(mapper, element, tree, nullable, plain, (mapper,)))
            self._name(element._annotations.get(ALIAS_NAME) or mapper.name)
            self.elements.append(mapper.class_)
        elif isinstance(element, FromClause) and not isinstance(element, FunctionElement):
            for column in element.c:
                self._column(column)
        else:
            self._column(element)

    def _may_be_null(self, element: Any) -> bool:
        s = self.statement
        return not (
            len(s._raw_columns) == 1
            and not s._setup_joins
            and not s._from_obj
            and hash(element)
            == hash(
                entity_of(element).table  # type: ignore[union-attr]
            )
        )

    def _column(self, element: Any) -> None:
        type_ = getattr(element, "type", None)
        processor = None if type_ is None else result_processor(type_, self.dialect)
        self.slots.append(ColumnSlot(len(self.columns), processor, type_ is None or type_.hashable))
        self.columns.append(element)
        self.elements.append(element)
        self._name(_column_name(element))

    def _name(self, name: str) -> None:
        """Names that come twice are numbered, as SQLAlchemy does: ``id``, ``id_1``."""
        taken = self.keys.count(name) and sum(key.startswith(name + "_") for key in self.keys) + 1
        self.keys.append(f"{name}_{taken}" if taken else name)

    def _entity(
        self,
        mapper: Mapper,
        source: FromClause,
        tree: LoadTree,
        nullable: bool,
        plain: bool,
        path: tuple[Mapper, ...],
    ) -> EntitySlot:
        needed = self._needed(mapper, tree, plain, path)
        names = tuple(name for name in mapper.columns if name in needed or tree.wants(mapper, name))
        slot = EntitySlot(
            mapper,
            len(self.columns),
            names,
            tuple(result_processor(mapper.columns[name].type, self.dialect) for name in names),
            nullable,
            tree,
        )
        self.columns.extend(entity_column(source, mapper.columns[name]) for name in names)
        for relation in mapper.relations.values():
            branch = tree.branch(relation)
            if branch.strategy not in _JOINED or not self._can_join(relation, plain, tree, path):
                continue
            inner = branch.strategy == "inner" and not nullable
            target = relation.target.table.alias()
            self._join(relation, source, target, branch.criteria, inner)
            child = self._entity(relation.target, target, branch.tree, True, plain, (*path, relation.target))
            slot.joins.append(JoinSlot(relation, child))
        return slot

    def _needed(self, mapper: Mapper, tree: LoadTree, plain: bool, path: tuple[Mapper, ...]) -> set[str]:
        """Columns that the statements for named relations start from, though nobody asked for them."""
        return {
            mapper.attributes[local]
            for relation, branch in tree.branches
            if branch.strategy in _STATEMENTS
            or (branch.strategy in _JOINED and not self._can_join(relation, plain, tree, path))
            for local, _ in relation.pairs
        }

    def _can_join(self, relation: Relation, plain: bool, tree: LoadTree, path: tuple[Mapper, ...]) -> bool:
        """What cannot be joined is loaded with one more statement instead.

        A joined collection multiplies rows, so LIMIT, DISTINCT and grouping would count the wrong thing; a
        model that says ``lazy="joined"`` on a cycle would join for ever.
        """
        if self.statement._group_by_clauses or _is_distinct(self.statement):
            return False
        if self.statement._for_update_arg is not None:
            return False
        return (plain or not relation.uselist) and (tree.names(relation) or relation.target not in path)

    def _join(self, relation: Relation, source: Any, target: Any, criteria: Any, inner: bool) -> None:
        on: Any
        if relation.direction is Direction.MANY_TO_MANY:
            assert relation.secondary is not None
            secondary = relation.secondary.alias()
            first, on = join_condition(relation, source, target, secondary)
            right: Any = secondary.join(target, sa.and_(on, *adapt(criteria, relation.target, target)))
            on = first
        else:
            on, _ = join_condition(relation, source, target, None)
            right = target
            if criteria:
                on = sa.and_(on, *adapt(criteria, relation.target, target))
        self.joined.append((source, right, on, not inner))
        self.order.extend(adapt(relation.order_by, relation.target, target))

    def _rewritten(self) -> Any:
        """The statement with its entities spelled out as columns and its eager joins added."""
        spelled = self.statement._clone()
        spelled._raw_columns = list(self.columns)
        spelled = (
            spelled._reset_memoizations() or spelled if hasattr(spelled, "_reset_memoizations") else spelled
        )
        sources = [e for e in self.statement._raw_columns if entity_of(e) is not None]
        if not spelled._from_obj and not spelled._setup_joins:
            spelled = sa.Select.select_from(spelled, *[e for e in sources if self._needs_from(e)])
        for source, right, on, isouter in self.joined:
            spelled = sa.Select.join_from(spelled, source, right, on, isouter=isouter)
        if self.order:
            spelled = sa.Select.order_by(spelled, *self.order)
        return spelled

    def _needs_from(self, source: Any) -> bool:
        return any(j[0] is source for j in self.joined)

    def _finish(self, statement: Any) -> Plan:
        compiled = compile_statement(statement, self.dialect)
        plan = Plan(compiled.string, make_bind(compiled, self.listed), "rows")
        plan.refreshes = getattr(self.statement, "_for_update_arg", None) is not None
        plan.writes = plan.refreshes or changes_data(self.statement)
        if not self.slots:
            describe_columns(plan, compiled)
            return plan
        types = [entry.type for entry in compiled._result_columns]
        if len(types) != len(self.columns):
            raise InvalidRequestError(
                "A text column in a SELECT must be one column.",
                mend='Write each as its own literal_column("..."), or use text("...").columns(...).',
            )
        plan.binary = all(has_binary_form(t, self.dialect) for t in types)
        plan.slots = tuple(self.slots)
        plan.width = len(types)
        plan.unique = any(_multiplies(slot) for slot in plan.entities)
        name_rows(plan, self.keys, self.elements)
        return plan


def _is_distinct(statement: Any) -> bool:
    """DISTINCT, and PostgreSQL's DISTINCT ON."""
    return bool(statement._distinct) or getattr(statement, "_pre_columns_clause", None) is not None


def _check_options(options: Sequence[Any], raw: Sequence[Any]) -> None:
    """Tell of an option that is about a class the statement does not select."""
    known = {hash(element) for element in raw if entity_of(element) is not None}
    for option in options:
        root = getattr(option, "root", None)
        if root is not None and hash(root) not in known:
            raise InvalidRequestError(
                f"An option begins at {getattr(root, 'name', root)}, which the statement does not select as a class",
                mend="Begin it at a class or alias of the select(...), and chain from there.",
            )


def _column_name(element: Any) -> str:
    """What SQLAlchemy's ORM names a column: its key or label, a function's name, the text itself."""
    if isinstance(element, FunctionElement):
        return str(getattr(element, "name", "_no_label"))
    return getattr(element, "_proxy_key", None) or getattr(element, "text", None) or "_no_label"


def adapt(expressions: Sequence[Any], mapper: Mapper, target: FromClause) -> list[Any]:
    """Expressions on a mapped table, said of an alias of it."""
    from sqlalchemy.sql.util import ClauseAdapter

    adapter = ClauseAdapter(target)
    return [adapter.traverse(e) for e in expressions]


def _multiplies(slot: EntitySlot) -> bool:
    return any(j.relation.uselist or _multiplies(j.entity) for j in slot.joins)


def changes_data(statement: Any) -> bool:
    """Whether a SELECT holds an INSERT, UPDATE or DELETE in a CTE."""
    return any(isinstance(element, UpdateBase) for element in visitors.iterate(statement))


def name_rows(plan: Plan, names: Sequence[str], elements: Sequence[Any] = ()) -> None:
    plan.keys = tuple(names)
    if len(elements) == len(names):
        plan.lookups = tuple((element,) for element in elements)


def describe_columns(plan: Plan, compiled: SQLCompiler) -> None:
    """Rows of plain columns, as the compiler lists them."""
    entries = compiled._result_columns
    plan.slots = tuple(
        ColumnSlot(index, result_processor(entry.type, compiled.dialect), entry.type.hashable)
        for index, entry in enumerate(entries)
    )
    plan.width = len(entries)
    plan.binary = bool(entries) and all(has_binary_form(e.type, compiled.dialect) for e in entries)
    name_rows(plan, [entry.keyname for entry in entries])
