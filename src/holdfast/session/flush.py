"""The unit of work: from what changed in memory to statements, in an order the foreign keys allow.

Four parts: *gather* (cascades, orphans, deletes: may load relations), *link* (which object takes its foreign
key from which), *write* (tables in foreign-key order; within one table objects that wait for another come later;
secondary rows; deletes last, in the reverse order), *settle* (identity map, what the server filled in, and the
other sides of relations).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement

from holdfast.errors import CircularDependencyError, MissingKey, StaleDataError
from holdfast.model import BATCH, MISSING, RAW, Direction, Mapper, Relation, mapper_of
from holdfast.steps import Operation

from .settle import settle_deleted, settle_inserted, settle_updated
from .shape import Shape, shape_of
from .work import Associations, Link, association_row, pairs_of, table_ranks
from .writes import Writer

if TYPE_CHECKING:
    from .core import SessionCore


class Flush:
    """One flush of one session."""

    def __init__(self, core: SessionCore) -> None:
        self.core = core
        self.writer = Writer(core.backend)
        self.links: dict[int, list[Link]] = {}  # by the child they fill
        self.late: list[Link] = []  # of relations with post_update: set after everything is inserted
        self.associations = Associations()
        self.written: list[tuple[Any, tuple[str, ...]]] = []

    def run(self) -> Operation[None]:
        core = self.core
        yield from self._gather()
        self._link()
        if not (core.new or core.deleted or self._is_dirty() or self.associations.added or self.associations.removed):
            core.forget_changes()
            return
        yield from core.ensure_transaction()
        core.frame.wrote = True
        yield from self._write()
        core.forget_changes()

    # ------------------------------------------------------------ gather

    def _gather(self) -> Operation[None]:
        core = self.core
        self._cascade_adds([*core.new.values(), *(c.instance for c in core.dirty.values())])
        self._orphans()
        seen: set[int] = set()
        while True:  # a delete cascade may reach objects that cascade on
            fresh = [o for i, o in core.deleted.items() if i not in seen]
            if not fresh:
                return
            seen.update(map(id, fresh))
            yield from self._cascade_deletes(fresh)

    def _cascade_adds(self, instances: list[Any]) -> None:
        core = self.core
        for mapper, group in by_mapper(instances).items():
            for relation in mapper.relations.values():
                if "save-update" not in relation.cascade or relation.viewonly:
                    continue
                for instance in group:
                    if relation.name in instance.__dict__:
                        for target in targets(instance, relation):
                            if BATCH not in target.__dict__:
                                core.add(target)

    def _orphans(self) -> None:
        """Objects taken out of a collection that owns them are deleted."""
        core = self.core
        for change in list(core.dirty.values()):
            relations = mapper_of(change.instance).relations
            for name, original in list(change.originals.items()) if relations else ():
                relation = relations.get(name)
                if relation is None or "delete-orphan" not in relation.cascade:
                    continue
                before = original if relation.uselist else [original]
                kept = {id(t) for t in targets(change.instance, relation)}
                for target in before:
                    if target not in (None, MISSING) and id(target) not in kept:
                        self._orphan(relation, target)

    def _orphan(self, relation: Relation, target: Any) -> None:
        core = self.core
        if relation.back is not None and target.__dict__.get(relation.back.name) is not None:
            return  # moved to another parent
        if id(target) in core.new:
            core.expunge(target)
        elif target.__dict__.get(BATCH) is not None and target.__dict__[BATCH].session is core:
            core.deleted.setdefault(id(target), target)

    def _cascade_deletes(self, instances: list[Any]) -> Operation[None]:
        core = self.core
        for mapper, group in by_mapper(instances).items():
            for relation in mapper.relations.values():
                if relation.viewonly or relation.passive_deletes == "all":
                    continue
                cascades = "delete" in relation.cascade
                if relation.direction is not Direction.ONE_TO_MANY and not cascades:
                    continue
                if not relation.passive_deletes:
                    yield from core.load_relation(mapper, group, relation)
                for instance in group:
                    for target in self._all_targets(instance, relation):
                        self._follow_delete(instance, relation, target, cascades)

    def _all_targets(self, instance: Any, relation: Relation) -> list[Any]:
        """What the relation holds, and what was taken out of it since the last flush."""
        found = list(targets(instance, relation))
        change = self.core.dirty.get(id(instance))
        original = change.originals.get(relation.name, MISSING) if change else MISSING
        if original is not MISSING and original is not None:
            known = {id(t) for t in found}
            found += [t for t in (original if relation.uselist else [original]) if id(t) not in known]
        return found

    def _follow_delete(self, instance: Any, relation: Relation, target: Any, cascades: bool) -> None:
        core = self.core
        held = target.__dict__.get(BATCH)
        if held is None or held.session is not core:
            return
        if cascades:
            if id(target) in core.new:
                core.expunge(target)
            else:
                core.deleted.setdefault(id(target), target)
        elif id(target) not in core.deleted:
            back = relation.back
            if back is not None and target.__dict__.get(back.name, instance) not in (None, instance):
                return
            self._add_link(Link(None, target, pairs_of(relation), relation))

    # ------------------------------------------------------------ link

    def _link(self) -> None:
        core = self.core
        for mapper, group in by_mapper(core.new.values()).items():
            for relation in mapper.relations.values():
                if relation.viewonly:
                    continue
                for instance in group:
                    if relation.name in instance.__dict__:
                        self._link_relation(instance, relation, [], True)
        for change in list(core.dirty.values()):
            instance = change.instance
            relations = mapper_of(instance).relations
            for name, original in change.originals.items() if relations else ():
                relation = relations.get(name)
                if relation is None or relation.viewonly or name not in instance.__dict__:
                    continue
                before = [] if original in (MISSING, None) else list(original) if relation.uselist else [original]
                self._link_relation(instance, relation, before, False)
        for instance in core.deleted.values():
            self._unlink_deleted(instance)

    def _link_relation(self, instance: Any, relation: Relation, before: list[Any], new: bool) -> None:
        core = self.core
        if id(instance) in core.deleted:
            return
        now = targets(instance, relation)
        if relation.direction is Direction.MANY_TO_ONE:
            target = now[0] if now else None
            if target is not None and core.holds(target):
                self._add_link(Link(target, instance, pairs_of(relation), relation))
            elif target is None and not new:
                self._add_link(Link(None, instance, pairs_of(relation), relation))
            return
        known, kept = {id(t) for t in before}, {id(t) for t in now}
        added = [t for t in now if id(t) not in known and core.holds(t)]
        removed = [t for t in before if id(t) not in kept]
        if relation.direction is Direction.MANY_TO_MANY:
            for target in added:
                if id(target) not in core.deleted:
                    self.associations.add(relation, instance, target)
            for target in removed:
                self.associations.remove(relation, instance, target)
            return
        for target in removed:
            if id(target) not in core.deleted and core.holds(target) and not self._moved(relation, target):
                self._add_link(Link(None, target, pairs_of(relation), relation))
        for target in added:
            self._add_link(Link(instance, target, pairs_of(relation), relation))

    def _moved(self, relation: Relation, target: Any) -> bool:
        """Whether an object taken out of one parent was given to another."""
        back = relation.back
        if back is not None and target.__dict__.get(back.name) is not None:
            return True
        return any(link.parent is not None and link.relation is relation for link in self.links.get(id(target), ()))

    def _add_link(self, link: Link) -> None:
        links = self.links.setdefault(id(link.child), [])
        if link.parent is not None:
            links[:] = [old for old in links if old.parent is not None or old.pairs != link.pairs]
        elif any(old.pairs == link.pairs for old in links):
            return
        if link.relation.post_update and link.parent is not None:
            self.late.append(link)
        else:
            links.append(link)
        if id(link.child) not in self.core.new:
            self._apply(link)

    def _apply(self, link: Link) -> None:
        """Give the child its values, where the parent has them already."""
        values = None if link.parent is None else link.parent.__dict__
        for source, name in link.pairs:
            value = None if values is None else values.get(source)
            if values is not None and value is None:
                continue
            if link.child.__dict__.get(name, MISSING) != value:
                self.core.write_value(link.child, name, value)

    def _unlink_deleted(self, instance: Any) -> None:
        """Secondary rows of a deleted object go by its key alone, loaded or not (see `_delete_secondary`)."""
        self.links.pop(id(instance), None)

    # ------------------------------------------------------------ write

    def _is_dirty(self) -> bool:
        return any(self._changed_columns(change.instance) for change in self.core.dirty.values())

    def _changed_columns(self, instance: Any) -> list[str]:
        """Attributes whose value differs from the row's, keys among them."""
        change = self.core.dirty.get(id(instance))
        if change is None or id(instance) in self.core.deleted or id(instance) in self.core.new:
            return []
        values, columns = instance.__dict__, mapper_of(instance).columns
        return [
            name
            for name, original in change.originals.items()
            if name in columns and name in values and differs(original, values[name])
        ]

    def _write(self) -> Operation[None]:
        core = self.core
        waiting = by_mapper(core.new.values())
        changed = by_mapper(c.instance for c in core.dirty.values() if id(c.instance) not in core.new)
        deleted = by_mapper(core.deleted.values())
        ranks = table_ranks({**waiting, **changed, **deleted})
        yield from self._write_secondary(removed=True)
        pending = {id(i) for i in core.new.values()}
        postponed: list[Any] = []
        for mapper in sorted(ranks, key=ranks.__getitem__):
            waits = {id(i) for i in changed.get(mapper, ()) if self._waits(i, pending)}
            postponed += [i for i in changed.get(mapper, ()) if id(i) in waits]
            yield from self._update(mapper, [i for i in changed.get(mapper, ()) if id(i) not in waits])
            if mapper in waiting:
                yield from self._insert_ready(mapper, waiting, pending)
        yield from self._insert_rest(waiting, pending)
        yield from self._update_late(postponed)
        yield from self._write_secondary(removed=False)
        for mapper in sorted(deleted, key=ranks.__getitem__, reverse=True):
            yield from self._delete(mapper, deleted[mapper])

    def _waits(self, instance: Any, pending: set[int]) -> bool:
        return bool(self.links) and any(id(link.parent) in pending for link in self.links.get(id(instance), ()))

    def _insert_ready(self, mapper: Mapper, waiting: dict[Mapper, list[Any]], pending: set[int]) -> Operation[bool]:
        """Insert what waits for nobody, level by level; a self-reference has as many levels as it is deep."""
        wrote = False
        while mapper in waiting:
            group = waiting[mapper]
            ready = [i for i in group if not self._waits(i, pending)] if self.links else group
            if not ready:
                return wrote
            yield from self._insert(mapper, ready)
            wrote = True
            done = set(map(id, ready))
            pending -= done
            waiting[mapper] = [i for i in group if id(i) not in done]
            if not waiting[mapper]:
                del waiting[mapper]
        return wrote

    def _insert_rest(self, waiting: dict[Mapper, list[Any]], pending: set[int]) -> Operation[None]:
        """Tables in a circle: go round for as long as something can be inserted."""
        while waiting:
            progress = False
            for mapper in list(waiting):
                progress = (yield from self._insert_ready(mapper, waiting, pending)) or progress
            if not progress:
                names = ", ".join(sorted(mapper.name for mapper in waiting))
                raise CircularDependencyError(
                    f"New objects of {names} wait for one another",
                    mend="Write relationship(..., post_update=True) on one side of the circle.",
                )

    # ------------------------------------------------------------ insert

    def _insert(self, mapper: Mapper, instances: list[Any]) -> Operation[None]:
        shape = shape_of(mapper, self.core.backend)
        for instance in instances:
            for link in self.links.get(id(instance), ()):
                self._apply(link)
        for omitted, group in self._by_omitted(shape, instances).items():
            plain, expressions = by_expression(group, shape.sent)
            if plain:
                yield from self._insert_group(shape, omitted, plain)
            for instance in expressions:
                yield from self._insert_expression(shape, omitted, instance)

    def _by_omitted(self, shape: Shape, instances: list[Any]) -> dict[tuple[str, ...], list[Any]]:
        """Fill Python's defaults, then group by which columns are left to the server."""
        defaults = tuple(shape.defaults.items())
        generated = [name for name in shape.sent if name in shape.generated]
        keys = shape.mapper.primary_key
        groups: dict[tuple[str, ...], list[Any]] = {}
        for instance in instances:
            self.core.frame.save(instance)
            values = instance.__dict__
            for name, make in defaults:
                if name not in values or (values[name] is None and name in keys):
                    values[name] = make()
            omitted = tuple(n for n in generated if n not in values or (values[n] is None and n in keys))
            groups.setdefault(omitted, []).append(instance)
        return groups

    def _insert_group(self, shape: Shape, omitted: tuple[str, ...], instances: list[Any]) -> Operation[None]:
        mapper, columns = shape.mapper, shape.mapper.columns
        names = [name for name in shape.sent if name not in omitted]
        held = [instance.__dict__ for instance in instances]
        values = [self._column_values(shape, name, held) for name in names]
        for name, column_values in zip(names, values, strict=True):
            self._check(shape, name, column_values, instances)
        for name in mapper.primary_key:
            if name not in omitted and name not in names:
                raise MissingKey(model=mapper.name, name=name)
        returned = [*omitted, *shape.computed]
        rows = yield from self.writer.insert(
            mapper.table,
            [columns[name] for name in names],
            values,
            len(instances),
            [columns[name] for name in returned],
            [(columns[name], shape.inline[name]) for name in omitted if name in shape.inline],
        )
        if returned and len(rows) != len(instances):
            raise StaleDataError(
                f"{len(instances)} rows of {mapper.table.name} were sent and {len(rows)} inserted",
                mend="A trigger or rule left some out; insert those with session.execute(insert(...)).",
            )
        if returned:
            self._take_back(mapper, instances, returned, rows)
        settle_inserted(self.core, mapper, instances)

    def _column_values(self, shape: Shape, name: str, held: list[dict[str, Any]]) -> list[Any]:
        return [values.get(name) for values in held]

    def _check(self, shape: Shape, name: str, values: list[Any], instances: list[Any]) -> None:
        shape.check(name)(values)
        check = shape.null_check(name)
        if check is not None:
            check(values)

    def _take_back(self, mapper: Mapper, instances: list[Any], names: list[str], rows: list[Any]) -> None:
        for instance, row in zip(instances, rows, strict=True):
            values = instance.__dict__
            for name, value in zip(names, row, strict=True):
                values[RAW + name if name in mapper.mutable else name] = value

    def _insert_expression(self, shape: Shape, omitted: tuple[str, ...], instance: Any) -> Operation[None]:
        """An object with an SQL expression for a value is written by itself, and the value read back."""
        from sqlalchemy import insert

        mapper = shape.mapper
        values = instance.__dict__
        names = [name for name in shape.sent if name not in omitted]
        plain = [n for n in names if not isinstance(values.get(n), ClauseElement)]
        for name in plain:
            self._check(shape, name, [values.get(name)], [instance])
        back = [*omitted, *shape.computed, *(n for n in names if n not in plain)]
        back += [n for n in mapper.primary_key if n not in back]
        statement = (
            insert(mapper.table)
            .values({mapper.columns[n]: values.get(n) for n in names})
            .returning(*(mapper.columns[n] for n in back))
        )
        rows = yield from self.core.run_core(statement)
        self._take_back(mapper, [instance], back, [rows[0]])
        settle_inserted(self.core, mapper, [instance])

    # ------------------------------------------------------------ update

    def _update_late(self, postponed: list[Any]) -> Operation[None]:
        for instance in postponed:
            for link in self.links.get(id(instance), ()):
                self._apply(link)
        for link in self.late:
            if self.core.holds(link.child) and id(link.child) not in self.core.deleted:
                self._apply(link)
                postponed.append(link.child)
        unique = {id(i): i for i in postponed}
        for mapper, group in by_mapper(unique.values()).items():
            yield from self._update(mapper, group)

    def _update(self, mapper: Mapper, instances: list[Any]) -> Operation[None]:
        shape = shape_of(mapper, self.core.backend)
        groups: dict[tuple[str, ...], list[Any]] = {}
        for instance in instances:
            changed = self._changed_columns(instance)
            if changed:
                for name, make in shape.updates.items():
                    if name not in changed:
                        self.core.write_value(instance, name, make())
                        changed.append(name)
                order = [name for name in mapper.columns if name in changed]
                groups.setdefault(tuple(order), []).append(instance)
        for names, group in groups.items():
            plain, expressions = ([], group) if shape.inline_updates else by_expression(group, names)
            if plain:
                yield from self._update_group(shape, names, plain)
            for instance in expressions:
                yield from self._update_expression(shape, names, instance)

    def _update_group(self, shape: Shape, names: tuple[str, ...], instances: list[Any]) -> Operation[None]:
        mapper, columns = shape.mapper, shape.mapper.columns
        held = [instance.__dict__ for instance in instances]
        values = [[v.get(name) for v in held] for name in names]
        for name, column_values in zip(names, values, strict=True):
            self._check(shape, name, column_values, instances)
        keys = [self.core.row_key(mapper, instance) for instance in instances]
        renewed = [name for name in shape.renewed if name not in names]
        count, rows = yield from self.writer.update(
            mapper.table,
            [columns[name] for name in mapper.primary_key],
            list(zip(*keys, strict=True)),
            [columns[name] for name in names],
            values,
            len(instances),
            [columns[name] for name in renewed],
        )
        if count != len(instances):
            raise StaleDataError(
                f"{len(instances)} rows of {mapper.table.name} were to be updated and {count} were found",
                mend="Somebody deleted them. Call session.rollback(), load the objects again, and repeat the work.",
                table=mapper.table.name,
            )
        if renewed:
            self._take_renewed(mapper, instances, names, renewed, rows)
        settle_updated(self.core, mapper, instances, names)

    def _take_renewed(
        self, mapper: Mapper, instances: list[Any], names: tuple[str, ...], renewed: list[str], rows: list[Any]
    ) -> None:
        width = len(mapper.primary_key)
        by_key = {tuple(row[:width]): row[width:] for row in rows}
        found = [by_key[tuple(i.__dict__[n] for n in mapper.primary_key)] for i in instances]
        self._take_back(mapper, instances, renewed, found)

    def _update_expression(self, shape: Shape, names: tuple[str, ...], instance: Any) -> Operation[None]:
        """As `_insert_expression`: by itself, with the value read back."""
        from sqlalchemy import and_, update

        mapper = shape.mapper
        values = dict(instance.__dict__)
        key = self.core.row_key(mapper, instance)
        sent = {mapper.columns[n]: values[n] for n in names}
        sent.update({mapper.columns[n]: e for n, e in shape.inline_updates.items() if n not in names})
        computed = [n for n in names if isinstance(values[n], ClauseElement)]
        back = [*dict.fromkeys([*computed, *shape.renewed, *mapper.primary_key])]
        found = and_(*(mapper.columns[n] == v for n, v in zip(mapper.primary_key, key, strict=True)))
        statement = (
            update(mapper.table).where(found).values(sent).returning(*(mapper.columns[n] for n in back))
        )
        rows = yield from self.core.run_core(statement)
        if len(rows) != 1:
            raise StaleDataError(table=mapper.table.name)
        self._take_back(mapper, [instance], back, rows)
        settle_updated(self.core, mapper, [instance], names)

    # ------------------------------------------------------------ secondary rows, deletes

    def _write_secondary(self, removed: bool) -> Operation[None]:
        core = self.core
        pairs = self.associations.removed if removed else self.associations.added
        by_table: dict[Any, list[dict[Any, Any]]] = {}
        for key, (relation, parent, target) in pairs.items():
            if key in (self.associations.added if removed else self.associations.removed):
                continue  # taken out and put back
            if removed and (id(parent) in core.deleted or id(target) in core.deleted):
                continue  # goes with the object
            by_table.setdefault(relation.secondary, []).append(association_row(relation, parent, target))
        for table, rows in by_table.items():
            columns = list(rows[0])
            values = [[row[column] for row in rows] for column in columns]
            if removed:
                yield from self.writer.delete(table, columns, values, len(rows))
            else:
                yield from self.writer.insert(table, columns, values, len(rows))

    def _delete(self, mapper: Mapper, instances: list[Any]) -> Operation[None]:
        for relation in mapper.relations.values():
            if relation.direction is Direction.MANY_TO_MANY and not relation.viewonly:
                yield from self._delete_secondary(relation, instances)
        keys = [self.core.row_key(mapper, instance) for instance in instances]
        columns = [mapper.columns[name] for name in mapper.primary_key]
        yield from self.writer.delete(mapper.table, columns, list(zip(*keys, strict=True)), len(instances))
        settle_deleted(self.core, mapper, instances)

    def _delete_secondary(self, relation: Relation, instances: list[Any]) -> Operation[None]:
        if relation.passive_deletes:
            return
        names = [relation.parent.attributes[column] for column, _ in relation.parent_pairs]
        columns = [secondary for _, secondary in relation.parent_pairs]
        values = [[i.__dict__.get(name) for i in instances] for name in names]
        assert relation.secondary is not None
        yield from self.writer.delete(relation.secondary, columns, values, len(instances))  # type: ignore[arg-type]


def targets(instance: Any, relation: Relation) -> list[Any]:
    """What a relation holds in memory; nothing where it is not loaded."""
    held = instance.__dict__.get(relation.name)
    if held is None:
        return []
    return list(held) if relation.uselist else [held]


def by_mapper(instances: Iterable[Any]) -> dict[Mapper, list[Any]]:
    groups: dict[Mapper, list[Any]] = {}
    for instance in instances:
        groups.setdefault(mapper_of(instance), []).append(instance)
    return groups


def differs(before: Any, now: Any) -> bool:
    """Whether a value is another one; an SQL expression always is."""
    if before is now:
        return False
    if before is MISSING or isinstance(now, ClauseElement):
        return True
    return bool(before != now)


def by_expression(instances: list[Any], names: Iterable[str]) -> tuple[list[Any], list[Any]]:
    """(objects of plain values, objects with an SQL expression for a value); types are looked at in C."""
    held = [instance.__dict__ for instance in instances]
    kinds = {kind for name in names for kind in set(map(type, [values.get(name) for values in held]))}
    if not any(issubclass(kind, ClauseElement) for kind in kinds):
        return instances, []
    plain, expressions = [], []
    for instance in instances:
        values = instance.__dict__
        has_one = any(isinstance(values.get(name), ClauseElement) for name in names)
        (expressions if has_one else plain).append(instance)
    return plain, expressions
