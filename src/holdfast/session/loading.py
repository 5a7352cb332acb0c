"""Loading relations and columns for all siblings at once: one statement per level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import sqlalchemy as sa

from holdfast.errors import AttributeNotLoaded, InvalidRequestError, RelationNotLoaded
from holdfast.hydrate import renew
from holdfast.model import (
    RAW,
    Direction,
    InstrumentedList,
    Mapper,
    Relation,
    collection_maker,
    join_condition,
    make_collection,
)
from holdfast.native import group, lacking, unique, values_at
from holdfast.plan import Backend, adapt
from holdfast.query import PLAIN, Branch, LoadTree, TreeOption
from holdfast.steps import Operation

from .unflushed import catch_up

if TYPE_CHECKING:
    from .asking import Asking

from .keys import Loader, fetch_by_keys, key_condition, key_style, make_loader

# ---------------------------------------------------------------- relations


def load_relation(
    core: Asking,
    mapper: Mapper,
    instances: Sequence[Any],
    relation: Relation,
    branch: Branch,
    renew: bool,
    *,
    chain: tuple[Mapper, ...] = (),
) -> Operation[None]:
    """Load a relation for all objects that lack it (``renew``: for all); ``chain`` is how they were reached."""
    chain = chain or (mapper,)
    name = relation.name
    wanting = list(instances) if renew else lacking(instances, name)
    if not wanting:
        return
    if branch.strategy == "noload":
        for instance in wanting:
            instance.__dict__[name] = make_collection(instance, relation) if relation.uselist else None
        return
    if relation.direction is Direction.MANY_TO_ONE and relation.simple and not branch.criteria:
        yield from _load_targets(core, wanting, relation, branch.tree, chain)
        return
    yield from _load_members(core, wanting, relation, branch, chain)
    core.note_loaded(wanting, name)
    if (core.new or core.dirty) and not renew:
        catch_up(core, relation, wanting)


def _load_targets(
    core: Asking, instances: list[Any], relation: Relation, tree: LoadTree, chain: tuple[Mapper, ...]
) -> Operation[None]:
    """Many-to-one: what the identity map has costs nothing, the rest comes in one statement."""
    target = relation.target
    locals_ = [relation.parent.attributes[local] for local, _ in relation.pairs]
    remotes = [remote for _, remote in relation.pairs]
    by_key = _is_key(target, remotes)
    if by_key:
        order = [remotes.index(target.columns[name]) for name in target.primary_key]
        locals_ = [locals_[n] for n in order]
        remotes = [target.columns[name] for name in target.primary_key]
    yield from _complete(core, relation.parent, instances, locals_)
    keys: dict[Any, None] = {}
    single = locals_[0] if len(locals_) == 1 else None
    waiting: list[tuple[Any, Any]] = []
    found_get = core.find if by_key else lambda *_: None
    for instance in instances:
        values = instance.__dict__
        key = values[single] if single is not None else tuple([values[n] for n in locals_])
        if key is None or (single is None and None in key):
            values[relation.name] = None
            continue
        found = found_get(target, key)
        if found is not None:
            values[relation.name] = found
        else:
            keys[key] = None
            waiting.append((values, key))
    if not waiting:
        return
    loader = _target_loader(core.backend, relation, remotes, tree)
    rows = yield from fetch_by_keys(core, loader, list(keys))
    objects = core.hydrate_targets(loader.plan, rows)
    found_by = _group_first(objects, [target.attributes[c] for c in remotes])
    for values, key in waiting:
        values[relation.name] = found_by.get(key)
    yield from core.load_planned(loader.plan, objects, chain=chain)


def _is_key(target: Mapper, columns: Sequence[Any]) -> bool:
    names = [target.attributes[c] for c in columns]
    return sorted(names) == sorted(target.primary_key)


def _group_first(objects: list[Any], names: list[str]) -> dict[Any, Any]:
    if len(names) == 1:
        name = names[0]
        return {o.__dict__[name]: o for o in objects}
    return {tuple(o.__dict__[n] for n in names): o for o in objects}


def _target_loader(backend: Backend, relation: Relation, remotes: Sequence[Any], tree: LoadTree) -> Loader:
    key = ("targets", relation.target, tuple(remotes), tree)
    loader: Loader | None = None if tree.has_criteria else backend.memo.get(key)
    if loader is None:
        style = key_style(remotes, backend)
        statement = sa.select(relation.target.entity).where(key_condition(remotes, style, backend))
        loader = make_loader(_with_tree(statement, tree), remotes, style, backend)
        if not tree.has_criteria:
            backend.memo[key] = loader
    return loader


def _with_tree(statement: Any, tree: LoadTree) -> Any:
    return statement if tree is PLAIN else statement.options(TreeOption(tree))


def _load_members(
    core: Asking, instances: list[Any], relation: Relation, branch: Branch, chain: tuple[Mapper, ...]
) -> Operation[None]:
    """One-to-many, many-to-many, and joins of any other form."""
    backend = core.backend
    memo_key = ("members", relation, branch.tree)
    plain = not branch.criteria and not branch.tree.has_criteria
    made = backend.memo.get(memo_key) if plain else None
    if made is None:
        made = _member_loader(backend, relation, branch)
        if plain:
            backend.memo[memo_key] = made
    loader, columns, names, embedded = made
    groups = yield from _start_groups(core, instances, relation, names)
    keys = list(groups) if len(names) == 1 else [key for key in groups if None not in key]
    if None in groups:
        keys.remove(None)
    if not keys:
        _share(groups, relation, {})
        return
    rows = yield from fetch_by_keys(core, loader, keys)
    found_keys = None if embedded is None else _embedded_keys(rows, embedded)
    out = core.hydrate_targets(loader.plan, rows)
    found = (
        _group_behind(out, len(columns)) if found_keys is None else group(found_keys, out, InstrumentedList)
    )
    _share(groups, relation, found)
    yield from core.load_planned(loader.plan, out, chain=chain)


def _start_groups(
    core: Asking, instances: list[Any], relation: Relation, names: list[str]
) -> Operation[dict[Any, list[Any]]]:
    """Owners by their keys, which are loaded first where they were left out."""
    try:
        return _by_key(instances, names)
    except KeyError:
        yield from _complete(core, relation.parent, instances, names)
    return _by_key(instances, names)


def _by_key(instances: list[Any], names: list[str]) -> dict[Any, list[Any]]:
    if len(names) == 1:
        name = names[0]
        return group([one.__dict__[name] for one in instances], instances)
    return group([tuple([one.__dict__[name] for name in names]) for one in instances], instances)


def _embedded_keys(rows: Sequence[Any], places: list[Any]) -> list[Any]:
    """The key stands among the target's own columns."""
    columns = [values_at(rows, place, processor) for place, processor in places]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _group_behind(out: list[Any], width: int) -> dict[Any, list[Any]]:
    """The key stands before the target."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for row in out:
        found[row[0] if width == 1 else row[:width]].append(row[width])
    return found


def _share(groups: dict[Any, list[Any]], relation: Relation, found: dict[Any, list[Any]]) -> None:
    """Give each owner what was found for its key."""
    if relation.uselist:
        _share_members(groups, relation, found)
    else:
        for key, owners in groups.items():
            members = found.get(key)
            for owner in owners:
                owner.__dict__[relation.name] = members[0] if members else None
    if _must_set_back(relation):
        for key, owners in groups.items():
            for owner in owners:
                for member in found.get(key, ()):
                    member.__dict__.setdefault(relation.back.name, owner)  # type: ignore[union-attr]


def _must_set_back(relation: Relation) -> bool:
    """Whether the other side is one object that the identity map would not find."""
    back = relation.back
    if back is None or relation.direction is Direction.MANY_TO_MANY:
        return False
    return not (back.uselist or found_by_key(back))


def _share_members(groups: dict[Any, list[Any]], relation: Relation, found: dict[Any, list[Any]]) -> None:
    name, start = relation.name, collection_maker(relation)
    as_list = not issubclass(relation.collection, set)
    for key, owners in groups.items():
        members = found.get(key, ())
        for owner in owners:
            values = owner.__dict__
            held = values.get(name)
            if held is not None:
                _renew_collection(held, members)
            elif as_list and type(members) is InstrumentedList and owner is owners[0]:  # it was made for this
                members.owned_by = ref(owner)
                members.relation = relation
                values[name] = members
            else:
                values[name] = start(owner, members)


def found_by_key(relation: Relation) -> bool:
    """Whether the identity map answers a to-one relation, so that it need not be set beforehand.

    Setting it would make rings of objects, which live until the garbage collector comes.
    """
    return (
        relation.direction is Direction.MANY_TO_ONE
        and relation.simple
        and _is_key(relation.target, [remote for _, remote in relation.pairs])
    )


def _renew_collection(held: Any, members: Sequence[Any]) -> None:
    if isinstance(held, list):
        list.__setitem__(held, slice(None), members)
    else:
        set.clear(held)
        set.update(held, members)


def _member_loader(
    backend: Backend, relation: Relation, branch: Branch
) -> tuple[Loader, list[Any], list[str], Any]:
    """(the statement, its key columns, the parent's attributes that hold the keys, where the key stands in a row)."""
    target = relation.target
    extra = adapt(branch.criteria, target, target.table) if branch.criteria else []
    parent = relation.parent
    if relation.direction is Direction.ONE_TO_MANY and relation.simple:
        columns: list[Any] = [remote for _, remote in relation.pairs]
        names = [parent.attributes[local] for local, _ in relation.pairs]
        statement = sa.select(target.entity)
        embedded = not _joins_more(target, branch.tree) and all(
            branch.tree.wants(target, target.attributes[c]) for c in columns
        )
        if not embedded:
            statement = sa.select(*columns, target.entity)
    elif relation.direction is Direction.MANY_TO_MANY and relation.simple:
        columns = [secondary for _, secondary in relation.parent_pairs]
        names = [parent.attributes[local] for local, _ in relation.parent_pairs]
        assert relation.secondary is not None
        source = _stand_in(parent, target)
        _, on = join_condition(relation, source, target.entity, relation.secondary)
        statement = sa.select(*columns, target.entity).join_from(target.entity, relation.secondary, on)
        embedded = False
    else:
        source = parent.table.alias()
        names = list(parent.primary_key)
        columns = [source.c[parent.columns[name].key] for name in names]
        statement = _general_join(relation, source, target, columns)
        embedded = False
    style = key_style(columns, backend)
    statement = statement.where(key_condition(columns, style, backend), *extra).order_by(*relation.order_by)
    loader = make_loader(_with_tree(statement, branch.tree), columns, style, backend)
    places = None
    if embedded:
        slot = loader.plan.entities[0]
        places = [
            (index := slot.index(target.attributes[c]), slot.processors[index - slot.first]) for c in columns
        ]
    return loader, columns, names, places


def _joins_more(target: Mapper, tree: LoadTree) -> bool:
    """Whether rows of the target carry relations of it, which may repeat them."""
    return any(tree.branch(r).strategy in ("joined", "inner") for r in target.relations.values())


def _stand_in(parent: Mapper, target: Mapper) -> Any:
    return parent.table.alias() if parent is target else parent.entity


def _general_join(relation: Relation, source: Any, target: Mapper, columns: list[Any]) -> Any:
    secondary = relation.secondary.alias() if relation.secondary is not None else None
    first, second = join_condition(relation, source, target.entity, secondary)
    if secondary is None:
        return sa.select(*columns, target.entity).join_from(source, target.entity, first)
    joined = sa.select(*columns, target.entity).join_from(source, secondary, first)
    return sa.Select.join_from(joined, secondary, target.entity, second)


# ---------------------------------------------------------------- columns


def load_column(core: Asking, mapper: Mapper, instances: Sequence[Any], name: str) -> Operation[None]:
    """Load an attribute that was left out, for all who lack it, with what was left out beside it."""
    wanting = [i for i in instances if name not in i.__dict__ and RAW + name not in i.__dict__]
    if wanting:
        yield from load_columns(core, mapper, wanting, _missing_together(mapper, wanting, name))


def _complete(
    core: Asking, mapper: Mapper, instances: Sequence[Any], names: Sequence[str]
) -> Operation[None]:
    """Load the columns that a relation needs, where they were left out."""
    wanting = unique(one for name in names for one in lacking(instances, name))
    if wanting:
        yield from load_columns(core, mapper, wanting, tuple(names))


def load_columns(
    core: Asking, mapper: Mapper, instances: Sequence[Any], wanted: tuple[str, ...], again: bool = False
) -> Operation[None]:
    """Load columns where they are missing; ``again`` replaces what is there."""
    key_columns = [mapper.columns[n] for n in mapper.primary_key]
    memo_key = ("columns", mapper, wanted)
    loader = core.backend.memo.get(memo_key)
    if loader is None:
        columns = [mapper.columns[n] for n in wanted]
        style = key_style(key_columns, core.backend)
        statement = sa.select(*key_columns, *columns).where(key_condition(key_columns, style, core.backend))
        loader = core.backend.memo[memo_key] = make_loader(statement, key_columns, style, core.backend)
    by_key = {core.row_key(mapper, i): i for i in instances}
    keys = [k[0] for k in by_key] if len(key_columns) == 1 else list(by_key)
    rows = yield from fetch_by_keys(core, loader, keys)
    width = len(key_columns)
    for row in core.hydrate(loader.plan, rows, False):
        instance = by_key.pop(tuple(row[:width]))
        _fill(core, mapper, instance, dict(zip(wanted, row[width:], strict=True)), again)
    if by_key and again:
        raise row_gone(mapper)


def _fill(core: Asking, mapper: Mapper, instance: Any, values: dict[str, Any], again: bool) -> None:
    held = instance.__dict__
    if again:
        core.keep_before_renewal(instance)
    for name, value in values.items():
        key = RAW + name if name in mapper.mutable else name
        if again and (key in held or name in held):
            renew(held, mapper, name, key, value, ())
        else:
            held.setdefault(key, value)


def row_gone(mapper: Mapper) -> InvalidRequestError:
    """The error of an object whose row somebody deleted."""
    return InvalidRequestError(
        f"The row of this {mapper.name} is gone", mend="Somebody deleted it; load the objects again."
    )


def _missing_together(mapper: Mapper, instances: Sequence[Any], name: str) -> tuple[str, ...]:
    """A deferred column comes alone; columns that ``load_only`` left out come together."""
    if name in mapper.deferred:
        return (name,)
    first = instances[0].__dict__
    return tuple(
        n
        for n in mapper.columns
        if n == name or (n not in mapper.deferred and n not in first and RAW + n not in first)
    )


def refused(mapper: Mapper, name: str) -> InvalidRequestError:
    """The error of an attribute that must not be loaded by touching it."""
    write = f"await session.load(objects, {mapper.name}.{name})"
    plan = (
        f"selectinload({mapper.name}.{name})"
        if name in mapper.relations
        else f"undefer({mapper.name}.{name})"
    )
    kind = RelationNotLoaded if name in mapper.relations else AttributeNotLoaded
    return kind(
        model=mapper.name,
        name=name,
        mend=f"Write `{write}`, or `await object.awaitable_attrs.{name}`, or plan it: `.options({plan})`.",
        write=write,
    )
