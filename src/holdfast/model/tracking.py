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

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from holdfast.errors import DetachedInstanceError, UnknownAttribute

from .batch import BATCH, CHANGED, DETACHED, RAW
from .mapper import Mapper
from .sides import InstrumentedList, InstrumentedSet, make_collection


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
        values.pop(CHANGED, None)
        if values.pop(BATCH, None) is not None:
            values[RAW] = True
        for name in [n for n in values if n.startswith(RAW) and n != RAW]:
            values.setdefault(name[len(RAW) :], values.pop(name))
        return {
            name: list(value)
            if isinstance(value, InstrumentedList)
            else set(value)
            if isinstance(value, InstrumentedSet)
            else value
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

    def __getattribute__(self, name: str) -> Any:
        # not __getattr__: Python would first look in vain and make an error of it, which costs as much as all of this
        instance = _instance_of(self)
        if name in instance.__dict__ and name in instance.__setters__:
            return _ready(instance, name)
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        mapper = instance.__mapper__
        if name not in mapper.relations and name not in mapper.columns:
            raise unknown_attribute(mapper, name)
        batch = instance.__dict__.get(BATCH)
        if batch is None or batch.pending:
            return _ready(instance, name)
        if batch.session is None or batch.session.closed:
            raise DetachedInstanceError(model=mapper.name, name=name)
        return batch.session.await_missing(instance, mapper, name)


_instance_of: Callable[[AwaitableAttrs], Any] = AwaitableAttrs.__dict__["_instance"].__get__


async def _ready(instance: Any, name: str) -> Any:
    return getattr(instance, name)


def unknown_attribute(mapper: Mapper, name: str) -> UnknownAttribute:
    """The error for a name that a model does not declare, with the nearest that it does."""
    known = [*mapper.columns, *mapper.relations]
    near = get_close_matches(name, known, 1)
    mend = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known)}."
    return UnknownAttribute(model=mapper.name, name=name, mend=mend)
