"""Loading at once what options or the model want: one statement per relation and level, after the rows came.

What the model wants (``lazy="selectin"`` and its kin) stops where it would come back to a class it came from, as
SQLAlchemy's does; otherwise two classes that refer to each other would load the whole database.  What an option
names is always loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from holdfast.model import Mapper, Relation
from holdfast.native import unique
from holdfast.plan import EntitySlot, Plan, entity_of
from holdfast.query import Branch, LoadTree, load_tree
from holdfast.steps import Operation

from . import loading

if TYPE_CHECKING:
    from .asking import Asking

EAGER = ("selectin", "subquery", "immediate", "noload", "joined", "inner")
"""Strategies that act with the rows; a join that could not be made is a statement instead."""

Chain = tuple[Mapper, ...]


def has_loads(slots: Sequence[Any]) -> bool:
    """Whether rows bring more statements with them; worked out once per plan."""
    return any(isinstance(slot, EntitySlot) and _wants(slot) for slot in slots)


def _wants(slot: EntitySlot) -> bool:
    if slot.wants is None:
        joined = {join.relation for join in slot.joins}
        slot.wants = any(
            relation not in joined and slot.tree.branch(relation).strategy in EAGER
            for relation in slot.mapper.relations.values()
        ) or any(_wants(join.entity) for join in slot.joins)
    return slot.wants


def load_planned(
    core: Asking, plan: Plan, out: Sequence[Any], statement: Any, chain: Chain
) -> Operation[None]:
    """Load what each entity of a result wants; ``chain`` are the classes it was reached from."""
    for place, slot in enumerate(plan.slots):
        if not isinstance(slot, EntitySlot) or not _wants(slot):
            continue
        objects = out if len(plan.slots) == 1 else [row[place] for row in out]
        tree = slot.tree
        if statement is not None and tree.has_criteria:  # its values, not those of the first of its form
            tree = _tree_again(statement, place) or tree
        yield from _load_slot(core, slot, objects, tree, chain)


def _load_slot(
    core: Asking, slot: EntitySlot, objects: Sequence[Any], tree: LoadTree, chain: Chain
) -> Operation[None]:
    once = unique(objects)
    if not once:
        return
    here = (*chain, slot.mapper)
    for relation, branch in _relations_of(slot, tree, here):
        yield from loading.load_relation(
            core, slot.mapper, once, relation, branch, bool(branch.criteria), chain=here
        )
        if branch.tree.branches:
            yield from _deepen(core, relation, once, branch.tree, here)
    for join in slot.joins:
        if _wants(join.entity):
            targets = [target for parent in once for target in held(parent, join.relation)]
            yield from _load_slot(core, join.entity, targets, tree.branch(join.relation).tree, here)


def _relations_of(slot: EntitySlot, tree: LoadTree, chain: Chain) -> Sequence[tuple[Relation, Branch]]:
    """What to load for the objects of a slot; worked out once for each way that leads to it."""
    known = slot.loads.get(chain) if tree is slot.tree else None
    if known is None:
        joined = {join.relation for join in slot.joins}
        known = [
            (relation, branch)
            for relation in slot.mapper.relations.values()
            if relation not in joined
            and (branch := tree.branch(relation)).strategy in EAGER
            and _goes_on(tree, relation, branch, chain)
        ]
        if tree is slot.tree:
            slot.loads[chain] = known
    return known


def _goes_on(tree: LoadTree, relation: Relation, branch: Branch, chain: Chain) -> bool:
    return branch.strategy == "noload" or tree.names(relation) or relation.target not in chain


def _deepen(
    core: Asking, relation: Relation, parents: Sequence[Any], tree: LoadTree, chain: Chain
) -> Operation[None]:
    """What lies behind a relation that was loaded already, and so brought no rows to hang it on."""
    for inner, branch in tree.branches:
        if branch.strategy in EAGER:
            targets = unique(t for o in parents for t in held(o, relation))
            if targets:
                yield from loading.load_relation(
                    core, relation.target, targets, inner, branch, False, chain=chain
                )
                yield from _deepen(core, inner, targets, branch.tree, chain)


def _tree_again(statement: Any, place: int) -> LoadTree | None:
    """The options of the entity at a place in the rows, with this statement's values."""
    seen = 0
    for element in getattr(statement, "_raw_columns", ()):
        mapper = entity_of(element)
        if mapper is None and isinstance(element, sa.FromClause):
            seen += len(element.c)
            continue
        if seen == place and mapper is not None:
            return load_tree(statement._with_options, element, mapper)
        seen += 1
    return None


def held(instance: Any, relation: Relation) -> list[Any]:
    """The objects a relation holds now, without loading it."""
    value = instance.__dict__.get(relation.name)
    if value is None:
        return []
    return list(value) if relation.uselist else [value]
