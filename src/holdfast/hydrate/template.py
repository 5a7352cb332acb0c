"""The row function: from the driver's rows to tracked objects, written out for each plan.

The readable form of what is generated, for a class with columns ``id`` and ``name``::

    def hydrate(rows, session, refresh):
        batch = session.new_batch(mapper, tree)         # the siblings of this result
        for id, name in rows:
            member = identity.get(id)                   # weak references by key
            if member is None or (user := member()) is None:
                user = new(User)
                user.__dict__.update(id=id, name=name, _holdfast=batch)
                identity[id] = member = ref(user)
                batch.members.append(member)
            else:
                meet(user, member, batch, ...)          # the session has it already: see meet.py
            emit(user)

Unrolled, because at a thousand rows a loop over columns costs more than the driver.
Where the session holds no object of the class yet, a shorter way does: objects and references are made for all rows at
once, by `native.make_objects` where that is compiled.
Print a real one with ``db.plan(statement).source``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import repeat
from operator import itemgetter
from typing import Any
from weakref import ref

from holdfast.model import BATCH, RAW
from holdfast.native import COMPILED, make_objects
from holdfast.plan import ColumnSlot, EntitySlot, JoinSlot, Plan

from .meet import meet, start_collection
from .siblings import new_siblings

RowFunction = Callable[[Any, Any, bool], list[Any]]

MANY = 200
"""From so many rows on, the garbage collector waits until they are objects."""


def hydrate(plan: Plan, rows: Any, session: Any, refresh: bool) -> list[Any]:
    """Make objects of rows; a list of rows is used up, so that the garbage collector need not look at it.

    A thousand new objects would make the collector look at the rows and at what is made of them while they are being
    made, and find nothing.  So it waits, which is a switch of the whole process and only thrown for this loop.
    """
    make: RowFunction = plan.hydrate or row_function(plan)
    waits = len(rows) >= MANY and gc.isenabled()
    if waits:
        gc.disable()
    try:
        made = make(rows, session, refresh)
        if type(rows) is list:
            rows.clear()
        return made
    finally:
        if waits:
            gc.enable()


def row_function(plan: Plan) -> RowFunction:
    """Make and keep the plan's row function."""
    writer = _Writer(plan)
    plan.source = writer.write()
    namespace = writer.names
    exec(compile(plan.source, "<holdfast row function>", "exec"), namespace)
    plan.hydrate = namespace["hydrate"]
    return plan.hydrate  # type: ignore[no-any-return]


class _Writer:
    """Writes one row function; ``names`` are the values its source refers to."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.head: list[str] = []
        self.body: list[str] = []
        self.names: dict[str, Any] = {
            "ref": ref,
            "meet": meet,
            "start_collection": start_collection,
            "append": list.append,
        }
        self.entities = 0

    def write(self) -> str:
        plan = self.plan
        results = [self._slot(slot) for slot in plan.slots]
        row = results[0] if len(results) == 1 else f"({', '.join(results)})"
        if plan.unique:
            self._emit_once(results, row)
        else:
            self.body.append(f"emit({row})")
        variables = ", ".join(f"c{i}" for i in range(plan.width)) + ("," if plan.width == 1 else "")
        lines = [
            "def hydrate(rows, session, refresh):",
            *("    " + line for line in self.head),
            *("    " + line for line in self._all_new(variables)),
            "    out = []; emit = out.append",
            f"    for {variables} in rows:",
            *("        " + line for line in self.body),
            "    return out",
        ]
        return "\n".join(lines) + "\n"

    def _all_new(self, variables: str) -> list[str]:
        """The shorter way, for plans whose rows are one object each and are told apart by one key."""
        slots = self.plan.slots
        if len(slots) != 1 or not isinstance(slots[0], EntitySlot):
            return []
        slot = slots[0]
        keys = [slot.index(name) for name in slot.mapper.primary_key]
        if slot.nullable or slot.joins or len(keys) != 1:
            return []
        if COMPILED:
            make = self._made_at_once(slot, keys[0])
        elif not self._processor(slot, keys[0]):
            make = self._made_in_loop(slot, keys, variables)
        else:
            return []
        return [
            "if not i0 and len(rows) > 1:",
            *("    " + line for line in make),
            "    # the same object twice: the long way",
        ]

    def _made_at_once(self, slot: EntitySlot, key: int) -> list[str]:
        processors = tuple(slot.processors)
        self.names.update(
            new_siblings=new_siblings,
            make_objects=make_objects,
            stored=tuple([_stored(slot, name) for name in slot.names]),
            processors=processors if any(processors) else None,
        )
        return [
            "members = new_siblings()",
            f"made = make_objects(class0, rows, stored, processors, {BATCH!r}, b0, {key}, members, i0)",
            "if made is not None:",
            "    b0.members = members",
            "    return made",
        ]

    def _made_in_loop(self, slot: EntitySlot, keys: list[int], variables: str) -> list[str]:
        self.names.update(repeat=repeat, key_of=itemgetter(keys[0]))
        return [
            "made = list(map(new0, repeat(class0, len(rows))))",
            f"for o0, ({variables}) in zip(made, rows):",
            *("    " + line for line in self._made(0, slot, keys)[1:]),
            "members = list(map(ref, made))",
            "found = dict(zip(map(key_of, rows), members))",
            "if len(found) == len(made):",
            "    i0.update(found); b0.members = members",
            "    return made",
        ]

    def _emit_once(self, results: list[str], row: str) -> None:
        """Joined collections repeat their owner; each combination of owners is one result."""
        self.head.append("emitted = set()")
        identity = ", ".join(
            f"id({result})" if isinstance(slot, EntitySlot) else result
            for slot, result in zip(self.plan.slots, results, strict=True)
        )
        self.body += [
            f"combination = ({identity},)",
            "if combination not in emitted:",
            "    emitted.add(combination)",
            f"    emit({row})",
        ]

    def _slot(self, slot: EntitySlot | ColumnSlot) -> str:
        if isinstance(slot, EntitySlot):
            return self._entity(slot, self.body)
        if slot.processor is None:
            return f"c{slot.index}"
        self.names[f"p{slot.index}"] = slot.processor
        return f"p{slot.index}(c{slot.index})"

    def _entity(self, slot: EntitySlot, out: list[str]) -> str:
        k = self.entities
        self.entities += 1
        self._prepare(k, slot)
        block: list[str] = []
        keys = [slot.index(name) for name in slot.mapper.primary_key]
        block += [f"c{i} = p{i}(c{i})" for i in keys if self._processor(slot, i)]
        key = f"c{keys[0]}" if len(keys) == 1 else f"({', '.join(f'c{i}' for i in keys)})"
        block += [
            f"r{k} = get{k}({key})",
            f"if r{k} is None or (o{k} := r{k}()) is None:",
            *("    " + line for line in self._fresh(k, slot, key, keys)),
            f"elif o{k}.__dict__[{BATCH!r}] is not b{k} or refresh:",
            f"    meet(o{k}, r{k}, b{k}, names{k}, {self._values(slot, keys)}, refresh)",
        ]
        for join in slot.joins:
            self._join(k, join, block)
        if slot.nullable:
            absent = " and ".join(f"c{i} is None" for i in keys)
            out += [f"if {absent}:", f"    o{k} = None", "else:"]
            out += ["    " + line for line in block]
        else:
            out += block
        return f"o{k}"

    def _prepare(self, k: int, slot: EntitySlot) -> None:
        self.names.update(
            {
                f"class{k}": slot.mapper.class_,
                f"new{k}": slot.mapper.class_.__new__,
                f"mapper{k}": slot.mapper,
                f"tree{k}": slot.tree,
                f"names{k}": slot.names,
            }
        )
        self.head += [
            f"b{k} = session.new_batch(mapper{k}, tree{k}); join{k} = b{k}.members.append",
            f"i{k} = session.identity(mapper{k}); get{k} = i{k}.get",
        ]

    def _processor(self, slot: EntitySlot, index: int) -> bool:
        processor = slot.processors[index - slot.first]
        if processor is not None:
            self.names[f"p{index}"] = processor
        return processor is not None

    def _value(self, slot: EntitySlot, index: int, keys: list[int]) -> str:
        if index not in keys and self._processor(slot, index):
            return f"p{index}(c{index})"
        return f"c{index}"

    def _values(self, slot: EntitySlot, keys: list[int]) -> str:
        values = [self._value(slot, slot.first + n, keys) for n in range(len(slot.names))]
        return f"({', '.join(values)},)"

    def _made(self, k: int, slot: EntitySlot, keys: list[int]) -> list[str]:
        lines = [f"o{k} = new{k}(class{k})", f"d = o{k}.__dict__"]
        for n, name in enumerate(slot.names):
            lines.append(f"d[{_stored(slot, name)!r}] = {self._value(slot, slot.first + n, keys)}")
        return [*lines, f"d[{BATCH!r}] = b{k}"]

    def _fresh(self, k: int, slot: EntitySlot, key: str, keys: list[int]) -> list[str]:
        return [*self._made(k, slot, keys), f"i{k}[{key}] = r{k} = ref(o{k}); join{k}(r{k})"]

    def _join(self, parent: int, join: JoinSlot, out: list[str]) -> None:
        """A relation in the same row: the target, then its place in the parent."""
        relation = join.relation
        child = self._entity(join.entity, out)
        if not relation.uselist:
            out.append(
                f"if {relation.name!r} not in o{parent}.__dict__: o{parent}.__dict__[{relation.name!r}] = {child}"
            )
            return
        k = child[1:]
        self.names[f"relation{k}"] = relation
        self.head.append(f"lists{k} = {{}}; seen{k} = set()")
        out += [
            f"l = lists{k}.get(id(o{parent}))",
            f"if l is None: l = lists{k}[id(o{parent})] = start_collection(o{parent}, relation{k})",
            f"if {child} is not None and (id(o{parent}), id({child})) not in seen{k}:",
            f"    seen{k}.add((id(o{parent}), id({child}))); l.put({child})",
        ]


def _stored(slot: EntitySlot, name: str) -> str:
    """Where an instance keeps an attribute: raw, where it can change in place."""
    return RAW + name if name in slot.mapper.mutable else name
