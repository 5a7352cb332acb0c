"""Loader options: what a statement says about loading relations and columns.

An option is a list of directions, each a path of relations and what to do at its end.  `load_tree` folds the
options of a statement into one tree per entity, which is all that planning and loading ever read.
A tree is immutable and hashes by what it says, so a plan can be kept under it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy.sql.base import ExecutableOption
from sqlalchemy.sql.cache_key import HasCacheKey
from sqlalchemy.sql.roles import ExecutableOptionRole
from sqlalchemy.sql.selectable import FromClause

from holdfast.errors import InvalidRequestError
from holdfast.model import Mapper, Relation, RelationAttribute


@dataclass(frozen=True, slots=True)
class Direction:
    """One thing an option says: at the end of ``path``, do ``action`` with ``detail``.

    ``action`` is ``load`` (detail: the strategy), ``only``, ``defer``, ``undefer`` (detail: columns), or
    ``all`` (detail: the strategy of every relation not named).
    """

    path: tuple[Relation, ...]
    action: str
    detail: Any
    criteria: tuple[ColumnElement[bool], ...] = ()

    def under(self, path: tuple[Relation, ...]) -> Direction:
        return replace(self, path=path + self.path)


class LoaderOption(ExecutableOption, HasCacheKey, ExecutableOptionRole):
    """What `joinedload` and its kin return; pass it to ``select(...).options(...)``, or chain from it."""

    inherit_cache = False
    _is_has_cache_key = True
    _traverse_internals: list[Any] = []  # noqa: RUF012 - SQLAlchemy's name and shape

    def __init__(
        self, root: FromClause | None, path: tuple[Relation, ...], directions: tuple[Direction, ...]
    ) -> None:
        self.root = root
        self.path = path
        self.directions = directions

    def _gen_cache_key(self, am: Any, bindparams: list[Any]) -> tuple[Any, ...]:
        root = None if self.root is None else self.root._gen_cache_key(am, bindparams)
        said = tuple(
            (d.path, d.action, d.detail, tuple(c._gen_cache_key(am, bindparams) for c in d.criteria))
            for d in self.directions
        )
        return (LoaderOption, root, said)

    def _then(self, attribute: Any, strategy: str) -> Self:
        relation, criteria = _relation_of(attribute)
        if self.path and relation.parent is not self.path[-1].target:
            raise InvalidRequestError(
                f"{relation.parent.name}.{relation.name} does not continue "
                f"{self.path[-1].parent.name}.{self.path[-1].name}, which leads to {self.path[-1].target.name}.",
                mend=f"Chain a relationship of {self.path[-1].target.name}.",
            )
        path = (*self.path, relation)
        direction = Direction(path, "load", strategy, criteria)
        return type(self)(self.root, path, (*self.directions, direction))

    def _columns(self, action: str, attributes: tuple[Any, ...]) -> Self:
        direction = Direction(self.path, action, _columns_of(attributes))
        return type(self)(self.root, self.path, (*self.directions, direction))

    def selectinload(self, attribute: Any) -> Self:
        """Load the next relation of the path with one more statement."""
        return self._then(attribute, "selectin")

    def subqueryload(self, attribute: Any) -> Self:
        """Load the next relation of the path with one more statement (see `subqueryload`)."""
        return self._then(attribute, "subquery")

    def joinedload(self, attribute: Any, innerjoin: bool = False) -> Self:
        """Load the next relation of the path by a join."""
        return self._then(attribute, "inner" if innerjoin else "joined")

    def lazyload(self, attribute: Any) -> Self:
        """Load the next relation of the path at the first touch, for all siblings."""
        return self._then(attribute, "batch")

    def defaultload(self, attribute: Any) -> Self:
        """Name the next relation of the path and leave its loading as the model says."""
        return self._then(attribute, "default")

    def noload(self, attribute: Any) -> Self:
        """Leave the next relation of the path empty."""
        return self._then(attribute, "noload")

    def raiseload(self, attribute: Any, sql_only: bool = False) -> Self:
        """Refuse to load the next relation of the path (``"*"``: every relation not named)."""
        strategy = "raise_on_sql" if sql_only else "raise"
        if isinstance(attribute, str) and attribute == "*":
            direction = Direction(self.path, "all", strategy)
            return type(self)(self.root, self.path, (*self.directions, direction))
        return self._then(attribute, strategy)

    def load_only(self, *attributes: Any) -> Self:
        """Load these columns (and the key) of the object the path leads to, and no others."""
        return self._columns("only", attributes)

    def defer(self, *attributes: Any) -> Self:
        """Leave these columns out until they are touched."""
        return self._columns("defer", attributes)

    def undefer(self, *attributes: Any) -> Self:
        """Load these deferred columns at once; ``"*"`` means all."""
        return self._columns("undefer", attributes)

    def options(self, *options: LoaderOption) -> Self:
        """Apply several options to the object the path leads to."""
        inner = tuple(d.under(self.path) for option in options for d in option.directions)
        return type(self)(self.root, self.path, self.directions + inner)


Load = LoaderOption


def option_form_of(option: Any) -> tuple[Any, ...] | None:
    """What tells an option from others; None where values are part of it, or an alias."""
    if type(option) is not LoaderOption or not (option.root is None or isinstance(option.root, Table)):
        return None
    form: list[Any] = [LoaderOption, option.root]
    for said in option.directions:
        if said.criteria:
            return None
        form += (said.path, said.action, said.detail)
    return tuple(form)


def _relation_of(attribute: Any) -> tuple[Relation, tuple[ColumnElement[bool], ...]]:
    if not isinstance(attribute, RelationAttribute):
        raise InvalidRequestError(
            f"A loader option needs a relationship, not {type(attribute).__name__}.",
            mend="Write it with the class attribute, as in selectinload(User.posts).",
        )
    return attribute.relation, attribute.extra


def _columns_of(attributes: tuple[Any, ...]) -> tuple[Any, ...]:
    for attribute in attributes:
        if attribute != "*" if isinstance(attribute, str) else not isinstance(attribute, Column):
            raise InvalidRequestError(
                f"load_only, defer and undefer need column attributes, not {attribute!r}.",
                mend="Write them with the class attribute, as in load_only(User.name).",
            )
    return tuple(
        a if isinstance(a, str) else (a.table, a.name if a.table is None else a.key) for a in attributes
    )


def _load(attribute: Any, strategy: str) -> LoaderOption:
    """The option that begins with a relation; an option is a value, so the attribute keeps it."""
    relation, criteria = _relation_of(attribute)
    made: LoaderOption | None = attribute.memo.get(strategy)
    if made is None:
        path = (relation,)
        made = LoaderOption(attribute.source, path, (Direction(path, "load", strategy, criteria),))
        attribute.memo[strategy] = made
    return made


def _start_columns(attributes: tuple[Any, ...]) -> LoaderOption:
    root = next((a.table for a in attributes if isinstance(a, Column)), None)
    return LoaderOption(root, (), ())


def selectinload(attribute: Any) -> LoaderOption:
    """Load a relation with one more statement, sent right after the first: ``selectinload(User.posts)``."""
    return _load(attribute, "selectin")


def subqueryload(attribute: Any) -> LoaderOption:
    """Load a relation with one more statement.

    Keys of the parents are sent as one array, so it costs what `selectinload` costs and gives the same.
    """
    return _load(attribute, "subquery")


def joinedload(attribute: Any, innerjoin: bool = False) -> LoaderOption:
    """Load a relation in the same statement, by an outer join (inner, if every parent has a target)."""
    return _load(attribute, "inner" if innerjoin else "joined")


def lazyload(attribute: Any) -> LoaderOption:
    """Load a relation at the first touch, for all siblings: the default."""
    return _load(attribute, "batch")


def defaultload(attribute: Any) -> LoaderOption:
    """Name a relation to say something about what lies behind it."""
    return _load(attribute, "default")


def noload(attribute: Any) -> LoaderOption:
    """Leave a relation empty."""
    return _load(attribute, "noload")


def raiseload(attribute: Any, sql_only: bool = False) -> LoaderOption:
    """Refuse to load a relation; ``raiseload("*")`` refuses all that are not named.

    With ``sql_only`` a target that the identity map holds is still given.
    """
    if isinstance(attribute, str) and attribute == "*":
        return LoaderOption(None, (), ()).raiseload(attribute, sql_only)
    return _load(attribute, "raise_on_sql" if sql_only else "raise")


def load_only(*attributes: Any) -> LoaderOption:
    """Load these columns and the key; others at their first touch, for all siblings."""
    return _start_columns(attributes).load_only(*attributes)


def defer(*attributes: Any) -> LoaderOption:
    """Leave these columns out until they are touched."""
    return _start_columns(attributes).defer(*attributes)


def undefer(*attributes: Any) -> LoaderOption:
    """Load columns that the model defers; ``undefer("*")`` means all."""
    return _start_columns(attributes).undefer(*attributes)


# ---------------------------------------------------------------- the tree


@dataclass(frozen=True, slots=True)
class Branch:
    """What is said of one relation: the strategy, extra criteria, and what lies behind it."""

    strategy: str
    criteria: tuple[ColumnElement[bool], ...]
    tree: LoadTree


@dataclass(frozen=True, slots=True)
class LoadTree:
    """All that options say of one kind of object."""

    branches: tuple[tuple[Relation, Branch], ...] = ()
    only: frozenset[str] | None = None
    defer: frozenset[str] = frozenset()
    undefer: frozenset[str] = frozenset()
    others: str | None = None

    def branch(self, relation: Relation) -> Branch:
        """What to do about a relation: what an option says, else what the model says."""
        for known, branch in self.branches:
            if known is relation:
                return branch
        return Branch(self.others or relation.lazy, (), PLAIN)

    def names(self, relation: Relation) -> bool:
        """Whether an option says something of the relation."""
        return any(known is relation for known, _ in self.branches)

    def wants(self, mapper: Mapper, name: str) -> bool:
        """Whether a column is loaded with the object."""
        if name in mapper.primary_key or (mapper.version is not None and name == mapper.version.name):
            return True
        if self.only is not None:
            return name in self.only
        if name in self.defer:
            return False
        return name not in mapper.deferred or name in self.undefer or "*" in self.undefer

    @property
    def has_criteria(self) -> bool:
        return any(b.criteria or b.tree.has_criteria for _, b in self.branches)


PLAIN = LoadTree()


class TreeOption(ExecutableOption, ExecutableOptionRole):
    """A tree that is folded already: what the statement of a relation carries."""

    def __init__(self, tree: LoadTree) -> None:
        self.tree = tree


def load_tree(options: Iterable[Any], entity: FromClause, mapper: Mapper) -> LoadTree:
    """Fold the options that concern an entity into a tree."""
    options = tuple(options)
    for option in options:
        if isinstance(option, TreeOption):
            return option.tree
    directions = [
        d
        for option in options
        if isinstance(option, LoaderOption) and (option.root is None or _same(option.root, entity))
        for d in option.directions
    ]
    return _fold(directions, mapper) if directions else PLAIN


def _same(root: FromClause, entity: FromClause) -> bool:
    return hash(root) == hash(entity)


def _fold(directions: list[Direction], mapper: Mapper) -> LoadTree:
    here = [d for d in directions if not d.path]
    deeper: dict[Relation, list[Direction]] = {}
    for d in directions:
        if d.path:
            deeper.setdefault(d.path[0], []).append(replace(d, path=d.path[1:]))
    branches = tuple((relation, _branch(relation, said)) for relation, said in deeper.items())
    only = [names for d in here if d.action == "only" for names in _names(d.detail, mapper)]
    return LoadTree(
        branches=branches,
        only=frozenset(only) if any(d.action == "only" for d in here) else None,
        defer=frozenset(n for d in here if d.action == "defer" for n in _names(d.detail, mapper)),
        undefer=frozenset(n for d in here if d.action == "undefer" for n in _names(d.detail, mapper)),
        others=next((d.detail for d in reversed(here) if d.action == "all"), None),
    )


def _branch(relation: Relation, said: list[Direction]) -> Branch:
    """The last strategy said wins; ``default`` says nothing."""
    loads = [d for d in said if not d.path and d.action == "load" and d.detail != "default"]
    rest = [d for d in said if d.path or d.action != "load"]
    strategy = loads[-1].detail if loads else relation.lazy
    criteria = loads[-1].criteria if loads else ()
    return Branch(strategy, criteria, _fold(rest, relation.target) if rest else PLAIN)


def _names(columns: tuple[Any, ...], mapper: Mapper) -> list[str]:
    by_key = {column.key: name for name, column in mapper.columns.items()}
    names = []
    for column in columns:
        if column == "*":
            names.append("*")
        elif column[1] in by_key:
            names.append(by_key[column[1]])
        elif column[1] in mapper.columns:
            names.append(column[1])
        else:
            raise InvalidRequestError(
                f"{column[1]!r} is no column of {mapper.name}.", mend=f"Name a column of {mapper.name}."
            )
    return names
