"""What a relation leads to, read from the annotation and the argument."""

from __future__ import annotations

import collections.abc
from typing import TYPE_CHECKING, Any, get_args, get_origin

from .annotations import NOT_MAPPED, Forward, mapped_argument, without_none
from .mapper import Mapper
from .messages import did_you_mean, later, mistake, nearest
from .names import evaluate
from .relationships import Relationship, collection_of

if TYPE_CHECKING:
    from .registry import Declared, Registry

LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.Collection,
    collections.abc.Iterable,
    collections.abc.MutableSequence,
)
SETS = (set, collections.abc.Set, collections.abc.MutableSet)


class Shape:
    """What an annotation says: one or many, in which collection, of what."""

    __slots__ = ("collection", "hint", "uselist")

    def __init__(
        self, hint: Any = None, uselist: bool | None = None, collection: type[Any] | None = None
    ) -> None:
        self.hint = hint
        self.uselist = uselist
        self.collection = collection


def shape_of(owner: Declared, name: str) -> Shape:
    """Read ``Mapped[list["Post"]]``, ``Mapped["Post | None"]``; no annotation says nothing."""
    annotation, scope = owner.annotations.get(name, (None, None))
    if annotation is None or scope is None:
        return Shape()
    where = f"{owner.mapper.name}.{name}"
    hint = mapped_argument(annotation, scope, where=where)
    if hint is NOT_MAPPED:
        if owner.allows_unmapped:
            return Shape()
        raise mistake(
            f"{where}: the annotation lacks Mapped", write=f'{name}: Mapped[list["..."]] = relationship()'
        )
    inner = without_none(hint)
    origin = get_origin(inner)
    if origin is None:
        return Shape(inner, uselist=False)
    if origin in SETS:
        return Shape(get_args(inner)[0], uselist=True, collection=set)
    if origin in LISTS:
        return Shape(get_args(inner)[0], uselist=True, collection=list)
    if origin is dict or (isinstance(origin, type) and issubclass(origin, collections.abc.Mapping)):
        raise later(f"{where}: a dict as collection", write="Mapped[list[...]]")
    if isinstance(origin, type) and issubclass(origin, Forward):
        return Shape(origin, uselist=False)
    raise later(f"{where}: the collection {inner}", write="Mapped[list[...]]")


def target_of(registry: Registry, owner: Declared, name: str, declared: Relationship[Any]) -> Any:
    """Answer (mapper, uselist, collection class) of a relation; None where nothing is said."""
    where = f"{owner.mapper.name}.{name}"
    shape = shape_of(owner, name)
    if declared.argument is not None:
        target = _from_argument(registry, where, declared.argument)
    elif shape.hint is not None:
        target = _from_hint(registry, where, shape.hint)
    else:
        raise mistake(
            f"{where} does not say what it leads to", write=f'{name}: Mapped[list["..."]] = relationship()'
        )
    uselist = declared.get("uselist")
    uselist = shape.uselist if uselist is None or shape.uselist is False else bool(uselist)
    collection = declared.get("collection_class")
    collection = shape.collection if collection is None else collection_of(where, collection)
    return mapped(registry, where, target), uselist, collection


def _from_argument(registry: Registry, where: str, argument: Any) -> Any:
    if isinstance(argument, str):
        return _from_text(registry, where, argument)
    if isinstance(argument, type):
        return argument
    found = argument() if callable(argument) else argument
    return _from_text(registry, where, found) if isinstance(found, str) else found


def _from_text(registry: Registry, where: str, text: str) -> Any:
    if all(part.isidentifier() for part in text.split(".")):
        return registry.class_named(text, where)
    return evaluate(registry, where, text)


def _from_hint(registry: Registry, where: str, hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Forward):
        return registry.class_named(hint.path, where)
    found = getattr(hint, "__name__", None)
    own = registry.classes.get(found or "")
    if own and hint not in own and hint not in registry.declared and len(own) == 1:
        return own[0]  # the module has another thing of that name; the model is meant
    return hint


def mapped(registry: Registry, where: str, target: Any) -> Mapper:
    """Answer the mapper of a target, or raise that it is not a mapped class."""
    declared = vars(target).get("__declared__") if isinstance(target, type) else None
    if declared is not None:
        return declared.mapper  # type: ignore[no-any-return]
    shown = getattr(target, "__name__", repr(target))
    near = did_you_mean(shown, registry.classes)
    guess = nearest(shown, registry.classes) or next(iter(registry.classes), "Class")
    raise mistake(f"{where}: {shown} is not a mapped class{near}", write=f'relationship("{guess}")')
