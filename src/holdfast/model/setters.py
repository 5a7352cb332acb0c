"""What an assignment does: remember what was, and keep relations in step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.errors import SessionInUse
from holdfast.native import AttributeSetter, Initializer

from .batch import BATCH, MISSING, UNHELD
from .mapper import Mapper, Relation
from .sides import (
    cascade,
    check_target,
    link_back,
    make_collection,
    note,
    previous_target,
    read_missing,
    release,
    unlink_back,
    wrong_target,
)
from .tracking import Tracked


def install(mapper: Mapper) -> None:
    """Give the class the setters of its columns and relations; call it when relations are complete."""
    for name in mapper.columns:
        mapper.setters[name] = _mutable_setter(name) if name in mapper.mutable else _column_setter(name)
    for name, relation in mapper.relations.items():
        mapper.setters[name] = _collection_setter(relation) if relation.uselist else _target_setter(relation)
    mapper.collections = tuple(name for name, relation in mapper.relations.items() if relation.uselist)
    mapper.class_.__setters__ = mapper.setters
    theirs: Any = mapper.class_.__setattr__
    if theirs is Tracked.__setattr__:
        plain = frozenset(mapper.columns) - mapper.mutable
        quick: Any = AttributeSetter(plain, _attribute_setter(mapper), BATCH, MISSING, mapper.collections)
        type.__setattr__(mapper.class_, "__setattr__", quick)
    inherited: Any = mapper.class_.__init__
    if inherited is Tracked.__init__:
        type.__setattr__(mapper.class_, "__init__", Initializer(mapper.columns, inherited))


def _attribute_setter(mapper: Mapper) -> Callable[[Any, str, Any], None]:
    """``__setattr__`` of one class, for what `AttributeSetter` leaves to it."""
    setters, set_other = mapper.setters, object.__setattr__

    def set_attribute(self: Any, name: str, value: Any) -> None:
        setter = setters.get(name)
        if setter is None:
            set_other(self, name, value)
        else:
            setter(self, value)

    return set_attribute


def _column_setter(name: str) -> Callable[[Any, Any], None]:
    def set_column(instance: Any, value: Any) -> None:
        values = instance.__dict__
        batch = values.get(BATCH)
        if batch is not None:
            session = batch.session or UNHELD
            if session.flushing:
                raise SessionInUse
            session.note_change(instance, name)
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
        check_target(relation, value)
        old = previous_target(instance, relation)
        if old is value and name in instance.__dict__:
            return
        note(instance, name)
        instance.__dict__[name] = value
        if old is not None and old is not MISSING:
            unlink_back(relation, old, instance)
            release(relation, instance, old)
        if value is not None:
            link_back(relation, value, instance)
            cascade(relation, instance, value)

    return set_target


def _collection_setter(relation: Relation) -> Callable[[Any, Any], None]:
    name = relation.name

    def set_collection(instance: Any, value: Any) -> None:
        if value is None:
            raise wrong_target(relation, "None", "[]")
        items = list(value)
        for item in items:
            check_target(relation, item, many=True)
        values = instance.__dict__
        old = values[name] if name in values else read_missing(instance, name)
        if old is value:
            return
        note(instance, name)
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
