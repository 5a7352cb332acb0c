"""How an instance of a mapped class behaves: reads, writes, and the relations kept in step.

Reads are free: values lie in the instance's ``__dict__`` and the class attributes are non-data
descriptors, so Python finds a loaded value without calling us; only what is not loaded arrives in
`read_missing`.  Writes pass through ``Tracked.__setattr__``, which tells the session what the value
was before.

An instance carries one entry of ours in its ``__dict__``, its `Batch`: the siblings it was loaded with.
No batch: transient.  A batch without session: detached.  ``pending``: added, not yet inserted.

A value that can change in place (JSON, arrays) is kept raw under ``*name`` until it is first read; then the
reader gets a copy, and a flush compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import ref

from holdfast.errors import DetachedInstanceError, UnknownAttribute, WrongType

from .mapper import Direction, Mapper, Relation

BATCH = "_holdfast"
RAW = "*"


class _Missing:
    def __repr__(self) -> str:
        return "<not loaded>"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class SessionPort(Protocol):
    """What instances need of the session that holds them."""

    closed: bool
    dirty: dict[int, Any]

    def note_change(self, instance: Any, name: str) -> None:
        """Remember the value of an attribute before its first change."""

    def note_read(self, instance: Any, name: str) -> None:
        """Remember that a value that can change in place is now in somebody's hands."""

    def load_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """Load an attribute for the instance and its siblings; answer its value."""

    def peek(self, instance: Any, relation: Relation) -> Any:
        """Answer the to-one target if the identity map has it, else None."""

    def cascade_add(self, instance: Any) -> None:
        """Add an object that a change brought within reach."""

    def released(self, relation: Relation, instance: Any) -> None:
        """An object was taken out of a relation that owns it."""

    def await_missing(self, instance: Any, mapper: Mapper, name: str) -> Any:
        """Answer an awaitable for an attribute's value (async sessions only)."""


class Batch:
    """Objects of one class that came from one result: siblings, held weakly."""

    __slots__ = ("epoch", "forbidden", "mapper", "members", "options", "pending", "session")

    def __init__(self, mapper: Mapper | None, session: Any, epoch: int = 0, options: Any = None) -> None:
        self.mapper = mapper
        self.session = session
        self.epoch = epoch
        self.options = options
        self.pending = False
        self.members: list[ref[Any]] = []
        self.forbidden: frozenset[str] = frozenset()

    def alive(self) -> list[Any]:
        """The siblings that still exist and still belong to this batch."""
        found = []
        for member in self.members:
            instance = member()
            if instance is not None and instance.__dict__.get(BATCH) is self:
                found.append(instance)
        return found

    def __repr__(self) -> str:
        state = "detached" if self.session is None else "pending" if self.pending else "persistent"
        return f"<Batch of {len(self.members)} {self.mapper.name if self.mapper else '?'}, {state}>"


DETACHED = Batch(None, None)


def session_of(instance: Any) -> Any:
    """The open session that holds the object, if one does."""
    batch = instance.__dict__.get(BATCH)
    session = None if batch is None else batch.session
    return None if session is None or session.closed else session


class Tracked:
    """The behaviour of mapped instances; the declarative base inherits it.

    A subclass provides ``_configure()``, which completes the mappers and answers the class's own.
    """

    __setters__: ClassVar[dict[str, Callable[[Any, Any], None]]] = {}
    __mapper__: ClassVar[Mapper]

    if TYPE_CHECKING:

        @classmethod
        def _configure(cls) -> Mapper: ...

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        mapper = cls.__dict__.get("__mapper__") or cls._configure()
        if values.keys() <= mapper.columns.keys():  # nobody to tell, nothing to keep in step
            self.__dict__.update(values)
            return
        setters = mapper.setters
        for name, value in values.items():
            setter = setters.get(name)
            if setter is not None:
                setter(self, value)
            elif hasattr(cls, name):
                object.__setattr__(self, name, value)
            else:
                raise unknown_attribute(mapper, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setter = self.__setters__.get(name)
        if setter is None:
            object.__setattr__(self, name, value)
        else:
            setter(self, value)

    def __delattr__(self, name: str) -> None:
        setter = self.__setters__.get(name)
        if setter is None:
            object.__delattr__(self, name)
        else:
            relation = self.__mapper__.relations.get(name)
            setter(self, relation.collection() if relation is not None and relation.uselist else None)

    @property
    def awaitable_attrs(self) -> AwaitableAttrs:
        """Attributes to await: ``await user.awaitable_attrs.posts`` loads them for all siblings."""
        return AwaitableAttrs(self)

    def __repr__(self) -> str:
        values = self.__dict__
        mapper = type(self).__dict__.get("__mapper__")
        keys = "" if mapper is None else " ".join(f"{k}={values.get(k)!r}" for k in mapper.primary_key)
        return f"<{type(self).__name__} {keys}>"

    def __getstate__(self) -> dict[str, Any]:
        values = dict(self.__dict__)
        if values.pop(BATCH, None) is not None:
            values[RAW] = True
        for name in [n for n in values if n.startswith(RAW) and n != RAW]:
            values.setdefault(name[len(RAW) :], values.pop(name))
        return {
            name: list(value) if isinstance(value, InstrumentedList) else set(value) if isinstance(value, InstrumentedSet) else value
            for name, value in values.items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        mapper = type(self).__dict__.get("__mapper__") or type(self)._configure()
        was_persistent = state.pop(RAW, False)
        for name, value in state.items():
            relation = mapper.relations.get(name)
            if relation is not None and relation.uselist:
                value = make_collection(self, relation, value)
            self.__dict__[name] = value
        if was_persistent:
            self.__dict__[BATCH] = DETACHED


class AwaitableAttrs:
    """Proxy whose attributes are awaitables of the instance's attributes."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Any) -> None:
        self._instance = instance

    def __getattr__(self, name: str) -> Any:
        instance = self._instance
        mapper = instance.__mapper__
        if name not in mapper.relations and name not in mapper.columns:
            raise unknown_attribute(mapper, name)
        batch = instance.__dict__.get(BATCH)
        if name in instance.__dict__ or batch is None or batch.pending:
            return _ready(instance, name)
        if batch.session is None or batch.session.closed:
            raise DetachedInstanceError(model=mapper.name, name=name)
        return batch.session.await_missing(instance, mapper, name)


async def _ready(instance: Any, name: str) -> Any:
    return getattr(instance, name)


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


# ---------------------------------------------------------------- setters


def install(mapper: Mapper) -> None:
    """Give the class the setters of its columns and relations; call it when relations are complete."""
    for name in mapper.columns:
        mapper.setters[name] = _mutable_setter(name) if name in mapper.mutable else _column_setter(name)
    for name, relation in mapper.relations.items():
        mapper.setters[name] = _collection_setter(relation) if relation.uselist else _target_setter(relation)
    mapper.collections = tuple(name for name, relation in mapper.relations.items() if relation.uselist)
    mapper.class_.__setters__ = mapper.setters
    if "__setattr__" not in vars(mapper.class_):
        type.__setattr__(mapper.class_, "__setattr__", _attribute_setter(mapper))


def _attribute_setter(mapper: Mapper) -> Callable[[Any, str, Any], None]:
    """``__setattr__`` of one class: what `Tracked` does, with the commonest case, a column, written out."""
    setters, plain = mapper.setters, frozenset(mapper.columns) - mapper.mutable
    set_other = object.__setattr__

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if name in plain:
            values = self.__dict__
            batch = values.get(BATCH)
            if batch is not None and (session := batch.session) is not None:
                change = session.dirty.get(id(self))
                if change is None:
                    session.note_change(self, name)
                elif name not in change.originals:
                    change.originals[name] = values.get(name, MISSING)
            values[name] = value
        elif (setter := setters.get(name)) is not None:
            setter(self, value)
        else:
            set_other(self, name, value)

    return __setattr__


def _column_setter(name: str) -> Callable[[Any, Any], None]:
    def set_column(instance: Any, value: Any) -> None:
        values = instance.__dict__
        batch = values.get(BATCH)
        if batch is not None and batch.session is not None:
            batch.session.note_change(instance, name)
        values[name] = value

    return set_column


def _mutable_setter(name: str) -> Callable[[Any, Any], None]:
    set_column = _column_setter(name)

    def set_mutable(instance: Any, value: Any) -> None:
        set_column(instance, value)
        batch = instance.__dict__.get(BATCH)
        if batch is not None and batch.session is not None:
            batch.session.note_read(instance, name)

    return set_mutable


def _target_setter(relation: Relation) -> Callable[[Any, Any], None]:
    name = relation.name

    def set_target(instance: Any, value: Any) -> None:
        _check_target(relation, value)
        old = _previous_target(instance, relation)
        if old is value and name in instance.__dict__:
            return
        _note(instance, name)
        instance.__dict__[name] = value
        if isinstance(old, Tracked):
            unlink_back(relation, old, instance)
            release(relation, instance, old)
        if value is not None:
            link_back(relation, value, instance)
            cascade(relation, instance, value)

    return set_target


def _previous_target(instance: Any, relation: Relation) -> Any:
    """The target before a change, as far as it must be known."""
    values = instance.__dict__
    if relation.name in values:
        return values[relation.name]
    session = session_of(instance)
    if session is None or values[BATCH].pending:
        return None
    if relation.direction is Direction.MANY_TO_ONE:
        return _known_target(session, instance, relation) if relation.back is not None else None
    return read_missing(instance, relation.name)  # the old target's foreign key must be emptied


def _known_target(session: Any, instance: Any, relation: Relation) -> Any:
    """The old target, if the session has it; it is put in its place, so that the change remembers it."""
    found = session.peek(instance, relation)
    if found is not None:
        instance.__dict__[relation.name] = found
    return found


def _collection_setter(relation: Relation) -> Callable[[Any, Any], None]:
    name = relation.name

    def set_collection(instance: Any, value: Any) -> None:
        if value is None:
            raise _wrong_target(relation, "None", "[]")
        items = list(value)
        for item in items:
            _check_target(relation, item, many=True)
        values = instance.__dict__
        old = values[name] if name in values else read_missing(instance, name)
        if old is value:
            return
        _note(instance, name)
        before = list(old)
        values[name] = make_collection(instance, relation, items)
        kept = {id(item) for item in items}
        for item in before:
            if id(item) not in kept:
                unlink_back(relation, item, instance)
                release(relation, instance, item)
        known = {id(item) for item in before}
        for item in items:
            if id(item) not in known:
                link_back(relation, item, instance)
                cascade(relation, instance, item)

    return set_collection


def _check_target(relation: Relation, value: Any, many: bool = False) -> None:
    if isinstance(value, relation.target.class_) or (value is None and not many):
        return
    raise _wrong_target(relation, type(value).__name__, f"{relation.target.name}(...)")


def _wrong_target(relation: Relation, given: str, wanted: str) -> WrongType:
    place = f"{relation.parent.name}.{relation.name}"
    return WrongType(
        f"{place} takes {relation.target.name} objects, not {given}",
        mend=f"Give it {wanted}.",
        field=place,
    )


def unknown_attribute(mapper: Mapper, name: str) -> UnknownAttribute:
    """The error for a name that a model does not declare, with the nearest that it does."""
    known = [*mapper.columns, *mapper.relations]
    near = get_close_matches(name, known, 1)
    mend = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known)}."
    return UnknownAttribute(model=mapper.name, name=name, mend=mend)


def _note(instance: Any, name: str) -> None:
    session = session_of(instance)
    if session is not None:
        session.note_change(instance, name)


# ---------------------------------------------------------------- both sides of a relation


def link_back(relation: Relation, target: Any, instance: Any) -> None:
    """``instance.relation`` now holds ``target``: say so on the target's side."""
    back = relation.back
    if back is None:
        return
    values = target.__dict__
    if not back.uselist:
        old = _previous_target(target, back) if back.direction is Direction.MANY_TO_ONE else values.get(back.name)
        if old is instance:
            return
        _note(target, back.name)
        values[back.name] = instance
        if isinstance(old, Tracked):
            _drop(relation, old, target)
        return
    collection = values.get(back.name)
    if collection is None:
        batch = values.get(BATCH)
        if batch is not None and not batch.pending:
            return  # not loaded: it will be loaded with this change already flushed
        collection = values[back.name] = make_collection(target, back)
    if not contains(collection, instance):
        _note(target, back.name)
        collection.put(instance)


def unlink_back(relation: Relation, target: Any, instance: Any) -> None:
    """``instance.relation`` no longer holds ``target``: say so on the target's side."""
    if relation.back is not None:
        _drop(relation.back, target, instance)


def _drop(relation: Relation, owner: Any, item: Any) -> None:
    values = owner.__dict__
    if relation.name not in values and relation.direction is Direction.MANY_TO_ONE:
        held = _previous_target(owner, relation)
    else:
        held = values.get(relation.name)
    if held is None:
        return
    if not relation.uselist:
        if held is item:
            _note(owner, relation.name)
            values[relation.name] = None
    elif contains(held, item):
        _note(owner, relation.name)
        held.take(item)


def cascade(relation: Relation, instance: Any, target: Any) -> None:
    """Bring a new target into the session of the object that now holds it."""
    session = session_of(instance)
    if session is not None and "save-update" in relation.cascade and not relation.viewonly:
        session.cascade_add(target)


def release(relation: Relation, instance: Any, target: Any) -> None:
    """Tell the session that an owning relation let go of a target."""
    if "delete-orphan" in relation.cascade:
        session = session_of(instance)
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
    kind = InstrumentedSet if issubclass(relation.collection, set) else InstrumentedList
    collection = kind(items)
    collection.owned_by = ref(owner)
    collection.relation = relation
    return collection


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
            _check_target(self.relation, item, many=True)
        _note(self.owner, self.relation.name)

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
