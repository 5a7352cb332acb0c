"""Relations in memory: both sides kept in step, and the collections that tell of their changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from weakref import ref

from holdfast.errors import DetachedInstanceError, SessionInUse, WrongType

from .batch import BATCH, MISSING, RAW, UNHELD, session_of
from .mapper import Direction, Mapper, Relation


def read_missing(instance: Any, name: str) -> Any:
    """Answer an attribute that is not in the instance's ``__dict__``."""
    values = instance.__dict__
    raw = values.get(RAW + name, MISSING)
    batch = values.get(BATCH)
    if raw is not MISSING:
        value = values[name] = copy.deepcopy(raw)
        if batch is not None and batch.session is not None:
            batch.session.note_read(instance, name)
        return value
    mapper = type(instance).__dict__.get("__mapper__") or type(instance)._configure()
    if batch is None or batch.pending:
        return _absent(instance, mapper, name)
    if batch.session is None or batch.session.closed:
        raise DetachedInstanceError(model=mapper.name, name=name)
    return batch.session.load_missing(instance, mapper, name)


def _absent(instance: Any, mapper: Mapper, name: str) -> Any:
    relation = mapper.relations.get(name)
    if relation is None or not relation.uselist:
        return None
    collection = instance.__dict__[name] = make_collection(instance, relation)
    return collection


def check_target(relation: Relation, value: Any, many: bool = False) -> None:
    if isinstance(value, relation.target.class_) or (value is None and not many):
        return
    raise wrong_target(relation, type(value).__name__, f"{relation.target.name}(...)")


def wrong_target(relation: Relation, given: str, wanted: str) -> WrongType:
    place = f"{relation.parent.name}.{relation.name}"
    return WrongType(
        f"{place} takes {relation.target.name} objects, not {given}",
        mend=f"Give it {wanted}.",
        field=place,
    )


def note(instance: Any, name: str) -> None:
    batch = instance.__dict__.get(BATCH)
    if batch is not None:
        session = batch.session or UNHELD
        if session.flushing:
            raise SessionInUse
        session.note_change(instance, name)


def previous_target(instance: Any, relation: Relation) -> Any:
    """The target before a change, as far as it must be known."""
    values = instance.__dict__
    if relation.name in values:
        return values[relation.name]
    session = session_of(instance)
    if session is None or values[BATCH].pending:
        return None
    if relation.direction is Direction.MANY_TO_ONE:
        return _known_target(session, instance, relation) if relation.back is not None else None
    return session.load_replaced(instance, relation.name)  # its foreign key must be emptied


def _known_target(session: Any, instance: Any, relation: Relation) -> Any:
    """The old target, if the session has it; it is put in its place, so that the change remembers it."""
    found = session.peek(instance, relation)
    if found is not None:
        instance.__dict__[relation.name] = found
    return found


def link_back(relation: Relation, target: Any, instance: Any) -> None:
    """``instance.relation`` now holds ``target``: say so on the target's side."""
    back = relation.back
    if back is None:
        return
    values = target.__dict__
    if not back.uselist:
        old = (
            previous_target(target, back)
            if back.direction is Direction.MANY_TO_ONE
            else values.get(back.name)
        )
        if old is instance:
            return
        note(target, back.name)
        values[back.name] = instance
        if old is not None and old is not MISSING:
            _drop(relation, old, target)
            release(back, target, old)
        return
    collection = values.get(back.name)
    if collection is None:
        batch = values.get(BATCH)
        if batch is not None and not batch.pending:
            return  # not loaded: it will be loaded with this change already flushed
        collection = values[back.name] = make_collection(target, back)
    if not contains(collection, instance):
        note(target, back.name)
        collection.put(instance)


def unlink_back(relation: Relation, target: Any, instance: Any) -> None:
    """``instance.relation`` no longer holds ``target``: say so on the target's side."""
    if relation.back is not None:
        _drop(relation.back, target, instance)


def _drop(relation: Relation, owner: Any, item: Any) -> None:
    values = owner.__dict__
    if relation.name not in values and relation.direction is Direction.MANY_TO_ONE:
        held = previous_target(owner, relation)
    else:
        held = values.get(relation.name)
    if held is not None and not relation.uselist:
        if held is item:
            note(owner, relation.name)
            values[relation.name] = None
    elif held is not None and contains(held, item):
        note(owner, relation.name)
        held.take(item)
    release(relation, owner, item)


def cascade(relation: Relation, instance: Any, target: Any) -> None:
    """Bring a new target into the session of the object that now holds it."""
    session = session_of(instance)
    if session is not None and "save-update" in relation.cascade and not relation.viewonly:
        session.cascade_add(target)


def release(relation: Relation, instance: Any, target: Any) -> None:
    """Tell the session that an owning relation let go of a target."""
    if "delete-orphan" in relation.cascade:
        session = session_of(instance) or session_of(target)
        if session is not None:
            session.released(relation, target)


def contains(collection: Any, item: Any) -> bool:
    """Whether the very object is there; a model's own ``__eq__`` is nobody's business here."""
    if isinstance(collection, set):
        return item in collection
    return any(held is item for held in collection)


# ---------------------------------------------------------------- collections


def make_collection(owner: Any, relation: Relation, items: Any = ()) -> Any:
    """A tracked list or set of a relation, filled without telling anybody."""
    return collection_maker(relation)(owner, items)


def collection_maker(relation: Relation) -> Callable[[Any, Any], Any]:
    """What makes the collections of a relation, of an owner and its items."""
    kind: Any = InstrumentedSet if issubclass(relation.collection, set) else InstrumentedList

    def make(owner: Any, items: Any) -> Any:
        collection = kind(items)
        collection.owned_by = ref(owner)
        collection.relation = relation
        return collection

    return make


class _Collection:
    """What both kinds share: telling the session before a change, and the other side after it.

    The owner is held weakly, so that a loaded graph is not a ring that only the garbage collector can free.
    """

    __slots__ = ()
    owned_by: ref[Any]
    relation: Relation

    @property
    def owner(self) -> Any:
        """The object whose relation this is."""
        owner = self.owned_by()
        if owner is None:
            raise DetachedInstanceError(
                f"The {self.relation.parent.name} of this collection is gone, so a change of it cannot be saved",
                mend=f"Keep the {self.relation.parent.name} in a variable while you change its {self.relation.name}.",
            )
        return owner

    def _before(self, *items: Any) -> None:
        for item in items:
            check_target(self.relation, item, many=True)
        note(self.owner, self.relation.name)

    def _added(self, item: Any) -> None:
        link_back(self.relation, item, self.owner)
        cascade(self.relation, self.owner, item)

    def _removed(self, item: Any) -> None:
        unlink_back(self.relation, item, self.owner)
        release(self.relation, self.owner, item)


class InstrumentedList(list[Any], _Collection):
    """The list of a to-many relation; changes to it are saved by the next flush."""

    __slots__ = ("owned_by", "relation")

    def put(self, item: Any) -> None:
        """Append without telling the other side."""
        list.append(self, item)

    def take(self, item: Any) -> None:
        """Remove the very object without telling the other side."""
        for index, held in enumerate(self):
            if held is item:
                list.__delitem__(self, index)
                return

    def append(self, item: Any) -> None:
        self._before(item)
        list.append(self, item)
        self._added(item)

    def extend(self, items: Any) -> None:
        for item in list(items):
            self.append(item)

    def insert(self, index: Any, item: Any) -> None:
        self._before(item)
        list.insert(self, index, item)
        self._added(item)

    def remove(self, item: Any) -> None:
        self._replace_at(slice(i := self.index(item), i + 1), [])

    def pop(self, index: Any = -1) -> Any:
        item = self[index]
        del self[index]
        return item

    def clear(self) -> None:
        self._replace_at(slice(None), [])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._replace_at(index, list(value) if isinstance(index, slice) else [value])

    def __delitem__(self, index: Any) -> None:
        self._replace_at(index, None)

    def __iadd__(self, items: Any) -> Any:  # type: ignore[misc]
        self.extend(items)
        return self

    def __imul__(self, times: Any) -> Any:  # type: ignore[misc]
        self._replace_at(slice(None), list(self) * times)
        return self

    def _replace_at(self, index: Any, items: list[Any] | None) -> None:
        self._before(*(items or ()))
        before = list(self)
        if items is None:
            list.__delitem__(self, index)
        elif isinstance(index, slice):
            list.__setitem__(self, index, items)
        else:
            list.__setitem__(self, index, items[0])
        kept, known = {id(item) for item in self}, {id(item) for item in before}
        for item in before:
            if id(item) not in kept:
                self._removed(item)
        for item in items or ():
            if id(item) not in known:
                self._added(item)

    def __reduce__(self) -> Any:
        return (list, (list(self),))


class InstrumentedSet(set[Any], _Collection):
    """The set of a to-many relation; changes to it are saved by the next flush."""

    __slots__ = ("owned_by", "relation")

    def put(self, item: Any) -> None:
        set.add(self, item)

    def take(self, item: Any) -> None:
        set.discard(self, item)

    def add(self, item: Any) -> None:
        if item not in self:
            self._before(item)
            set.add(self, item)
            self._added(item)

    def discard(self, item: Any) -> None:
        if item in self:
            self._before()
            set.discard(self, item)
            self._removed(item)

    def remove(self, item: Any) -> None:
        if item not in self:
            raise KeyError(item)
        self.discard(item)

    def pop(self) -> Any:
        item = next(iter(self))
        self.discard(item)
        return item

    def _become(self, items: set[Any]) -> None:
        for item in set(self) - items:
            self.discard(item)
        for item in items - set(self):
            self.add(item)

    def clear(self) -> None:
        self._become(set())

    def update(self, *others: Any) -> None:
        self._become(set(self).union(*others))

    def intersection_update(self, *others: Any) -> None:
        self._become(set(self).intersection(*others))

    def difference_update(self, *others: Any) -> None:
        self._become(set(self).difference(*others))

    def symmetric_difference_update(self, other: Any) -> None:
        self._become(set(self).symmetric_difference(other))

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def __iand__(self, other: Any) -> Any:  # type: ignore[misc]
        self.intersection_update(other)
        return self

    def __isub__(self, other: Any) -> Any:  # type: ignore[misc]
        self.difference_update(other)
        return self

    def __ixor__(self, other: Any) -> Any:  # type: ignore[misc]
        self.symmetric_difference_update(other)
        return self

    def __reduce__(self) -> Any:
        return (set, (set(self),))
