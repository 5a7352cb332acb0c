"""Attributes that are not loaded: by touch, by path, and again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from holdfast.errors import (
    DetachedInstanceError,
    InvalidRequestError,
)
from holdfast.model import (
    BATCH,
    RAW,
    Batch,
    Mapper,
    Relation,
    RelationAttribute,
    mapper_of,
    unknown_attribute,
)
from holdfast.native import lacking, unique
from holdfast.query import PLAIN
from holdfast.steps import Operation

from . import eager, loading
from .asking import Asking
from .changes import forget_copy
from .locks import lock_options


class Reading(Asking):
    """A session that loads what its objects lack."""

    __slots__ = ()

    def load_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """Load what was touched, for all siblings, if the session may wait for it."""
        relation = mapper.relations.get(name)
        batch = instance.__dict__[BATCH]
        if relation is not None:
            if (
                relation.direction.value == "many-to-one"
                and relation.simple
                and self._from_identity(instance, relation)
            ):
                return instance.__dict__[name]
            strategy = self._branch(batch, relation).strategy
            if name in batch.forbidden:
                raise (
                    InvalidRequestError(
                        f"{mapper.name}.{name} is not loaded, and raiseload() forbids to load it",
                        mend=f"Plan it: .options(selectinload({mapper.name}.{name})).",
                    )
                    if strategy in ("raise", "raise_on_sql")
                    else loading.refused(mapper, name)
                )
        if self.touch is None:
            raise loading.refused(mapper, name)
        self.touch(self.load_attribute(instance, mapper, name))
        return instance.__dict__[name] if RAW + name not in instance.__dict__ else getattr(instance, name)

    def load_replaced(self, instance: Any, name: str) -> Any:
        """Load what an assignment replaces, without a flush: the objects at hand may be half made."""
        before, self.autoflush = self.autoflush, False
        try:
            return self.load_missing(instance, mapper_of(instance), name)
        finally:
            self.autoflush = before

    def await_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """An awaitable for an attribute's value; loads it for all siblings."""
        if self.awaiter is None:
            raise InvalidRequestError(
                "awaitable_attrs belongs to async sessions",
                mend=f"Write object.{name}: touching it loads it.",
            )
        return self.awaiter(self.load_attribute(instance, mapper, name), instance, name)

    def _from_identity(self, instance: Any, relation: Relation) -> bool:
        values = instance.__dict__
        if (
            relation.name in values[BATCH].forbidden
            and self._branch(values[BATCH], relation).strategy == "raise"
        ):
            return False
        locals_ = [relation.parent.attributes[local] for local, _ in relation.pairs]
        if any(name not in values for name in locals_):
            return False
        if any(values[name] is None for name in locals_):
            values[relation.name] = None
            return True
        found = self.peek(instance, relation)
        if found is not None:
            values[relation.name] = found
        return found is not None

    def _branch(self, batch: Batch, relation: Relation) -> Any:
        return (batch.options or PLAIN).branch(relation)

    def load_attribute(self, instance: Any, mapper: Mapper, name: str) -> Operation[None]:
        """Load an attribute for an object and its siblings."""
        self._check_usable()
        yield from self._autoflush()
        if self.scope is not None:
            yield from self.ensure_transaction()
        if name in instance.__dict__:
            return
        batch = instance.__dict__[BATCH]
        members = batch.alive()
        if not any(member is instance for member in members):
            members.append(instance)
        relation = mapper.relations.get(name)
        if relation is None:
            yield from loading.load_column(self, mapper, members, name)
            if name not in instance.__dict__ and RAW + name not in instance.__dict__:
                raise loading.row_gone(mapper)
            return
        branch = self._branch(batch, relation)
        yield from loading.load_relation(self, mapper, members, relation, branch, False)

    def load_relation(self, mapper: Mapper, instances: Sequence[Any], relation: Relation) -> Operation[None]:
        """Load a relation in the course of a flush."""
        wanting = lacking(instances, relation.name)
        if wanting:
            branch = PLAIN.branch(relation)
            yield from loading.load_relation(self, mapper, wanting, relation, branch, False)

    def load(self, objects: Any, path: Sequence[Any]) -> Operation[None]:
        """Load a path of relations for objects: one statement per step."""
        self._check_usable()
        yield from self._autoflush()
        if self.scope is not None:
            yield from self.ensure_transaction()
        here = _as_list(objects)
        for step, attribute in enumerate(path, 1):
            if not here:
                return
            mapper = mapper_of(here[0])
            if not all(map(self.holds, here)):
                raise DetachedInstanceError(model=mapper.name, name=str(attribute))
            if not isinstance(attribute, RelationAttribute):
                yield from self._load_columns(mapper, here, attribute)
                continue
            relation = attribute.relation
            if relation.parent is not mapper:
                raise InvalidRequestError(
                    f"{relation.parent.name}.{relation.name} is no relation of {mapper.name}",
                    mend=f"Begin the path with a relation of {mapper.name}.",
                )
            branch = replace(PLAIN.branch(relation), strategy="selectin", criteria=attribute.extra)
            yield from loading.load_relation(self, mapper, here, relation, branch, bool(attribute.extra))
            if step < len(path):
                here = unique(t for o in here for t in eager.held(o, relation))

    def _load_columns(self, mapper: Mapper, instances: list[Any], attribute: Any) -> Operation[None]:
        name = mapper.attributes.get(attribute)
        if name is None:
            raise InvalidRequestError(
                f"{attribute} is no attribute of {mapper.name}", mend=f"Name an attribute of {mapper.name}."
            )
        yield from loading.load_column(self, mapper, instances, name)

    def refresh(self, instance: Any, names: Iterable[str] | None = None, lock: Any = None) -> Operation[None]:
        """Read the object's row again; changes that were not flushed are lost."""
        self._check_usable()
        mapper = mapper_of(instance)
        if not self.holds(instance) or id(instance) in self.new:
            raise InvalidRequestError(
                f"This {mapper.name} has no row in this session",
                mend="Add it and flush first: session.flush().",
            )
        names, lock = None if names is None else list(names), lock_options(lock)
        relations = [mapper.relations[n] for n in names or mapper.relations if n in mapper.relations]
        unknown = [n for n in names or () if n not in mapper.columns and n not in mapper.relations]
        if unknown:
            raise unknown_attribute(mapper, unknown[0])
        self._discard_changes(instance, names)
        yield from self._autoflush()
        columns = tuple(n for n in names or () if n in mapper.columns)
        if columns and lock is None:
            yield from loading.load_columns(self, mapper, [instance], columns, again=True)
        elif names is None or columns:
            key = self.row_key(mapper, instance)
            found = yield from self._get_by_statement(mapper, key[0] if len(key) == 1 else key, (), lock)
            if found is None:
                raise loading.row_gone(mapper)
        for relation in relations:
            if names is not None:
                yield from loading.load_relation(
                    self, mapper, [instance], relation, PLAIN.branch(relation), True
                )
            else:
                instance.__dict__.pop(relation.name, None)

    def _discard_changes(self, instance: Any, names: Sequence[str] | None) -> None:
        """What was changed and not flushed goes back to what the row holds, before others are flushed."""
        for name in instance.__mapper__.mutable if names is None else names:
            forget_copy(instance, name)
        change = self.dirty.get(id(instance))
        if change is not None:
            change.take_back(names)
            if not change.originals:
                del self.dirty[id(instance)]


def _as_list(objects: Any) -> list[Any]:
    if hasattr(type(objects), "__mapper__"):
        return [objects]
    return unique(objects)
