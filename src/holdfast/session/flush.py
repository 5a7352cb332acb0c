"""The unit of work: from what changed in memory to statements, in an order the foreign keys allow.

Four parts: *gather* (cascades, orphans, deletes: may load relations), *link* (which object takes its foreign
key from which), *write* (tables in foreign-key order; within one table objects that wait for another come later;
secondary rows; deletes last, in the reverse order), *settle* (identity map, what the server filled in, and the
other sides of relations).
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SAWarning

from holdfast.errors import CircularDependencyError, DataError, IntegrityError
from holdfast.model import BATCH, MISSING, Direction, Mapper, Relation, mapper_of
from holdfast.native import kinds
from holdfast.steps import Operation

from .blame import name_fields
from .changes import Change
from .inserting import Columns, insert_objects
from .judging import Changes, judge_changed, judge_new
from .order import delete_order, late_keys, table_ranks
from .settle import settle_deleted, settle_moved
from .shape import shape_of
from .takeover import find_heirs, take_over
from .updating import by_changes, changed_columns, update_objects
from .versions import compared, stale
from .work import Associations, Link, association_row, pairs_of
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
        self.changes: dict[Mapper, Changes] = {}  # as they were judged
        self.moved: list[tuple[Relation, Any, Any]] = []  # who may hold what belongs to another afterwards
        self.judged: dict[Mapper, Columns | None] = {}  # values of new objects, where links do not fill them
        self.writing: Mapper | None = None  # whom an error of the server is about
        self._given: dict[tuple[Relation, int], Any] | None = None
        self._related: list[Change] | None = None  # those that are of relations

    def run(self) -> Operation[None]:
        """Write what changed; an error about a value says which attribute it is about."""
        try:
            yield from self._run()
        except (IntegrityError, DataError) as error:
            if self.writing is not None:
                name_fields(error, self.writing, self.core.backend.dialect)
            raise

    def _run(self) -> Operation[None]:
        core = self.core
        yield from self._gather()
        self._link()
        if not (
            core.new
            or core.deleted
            or self._is_dirty()
            or self.associations.added
            or self.associations.removed
        ):
            core.forget_changes()
            return
        self._judge()
        yield from core.ensure_transaction()
        core.frame.wrote = True
        yield from self._write()
        settle_moved(core, self.moved)
        core.forget_changes()

    def _judge(self) -> None:
        """Refuse what cannot be written, before anything is sent."""
        core = self.core
        for mapper, group in by_mapper(core.new.values()).items():
            links = [self.links[id(one)] for one in group if id(one) in self.links] if self.links else []
            late = [[link for link in self.late if id(link.child) in core.new]] if self.late else []
            self.judged[mapper] = judge_new(core, mapper, group, [*links, *late])
        for mapper, group in by_mapper([change.instance for change in core.dirty.values()]).items():
            self.changes[mapper] = judge_changed(core, mapper, group)

    # ------------------------------------------------------------ gather

    def _gather(self) -> Operation[None]:
        core = self.core
        self._orphans()
        seen: set[int] = set()
        while True:  # a delete cascade may reach objects that cascade on
            fresh = [o for i, o in core.deleted.items() if i not in seen]
            if not fresh:
                return
            seen.update(map(id, fresh))
            yield from self._cascade_deletes(fresh)

    def _orphans(self) -> None:
        """Objects taken out of a collection that owns them are deleted."""
        for change in self._changed_relations():
            relations = mapper_of(change.instance).relations
            for name, original in list(change.originals.items()):
                relation = relations.get(name)
                if relation is None or not as_targets(relation, original):
                    continue
                if "delete-orphan" in relation.cascade:
                    kept = {id(t) for t in targets(change.instance, relation)}
                    for target in as_targets(relation, original):
                        if id(target) not in kept:
                            self._orphan(relation, target)
                elif relation.back is not None and "delete-orphan" in relation.back.cascade:
                    self._orphan(relation.back, change.instance)
        for (place, relation), target in self.core.parted.items():
            if place in self.core.dirty:  # as under SQLAlchemy: one that knows nothing of its owner stays
                self._orphan(relation, target)

    def _changed_relations(self) -> list[Change]:
        dirty = self.core.dirty
        if self._related is None:
            self._related = [
                change
                for change in dirty.values()
                if (relations := change.instance.__mapper__.relations)
                and not relations.keys().isdisjoint(change.originals)
            ]
        return [change for change in self._related if id(change.instance) in dirty]

    def _orphan(self, relation: Relation, target: Any) -> None:
        core = self.core
        if self._was_moved(relation, target):
            return
        if id(target) in core.new:
            core.expunge(target)
        elif target.__dict__.get(BATCH) is not None and target.__dict__[BATCH].session is core:
            core.deleted.setdefault(id(target), target)

    def _was_moved(self, relation: Relation, target: Any, from_: Any = None) -> bool:
        """Whether an object taken out of a relation was given to another parent."""
        if relation.back is not None and not relation.back.uselist:
            now = target.__dict__.get(relation.back.name)
            return now is not None and now is not from_
        if self._given is None:
            self._given = given_targets(
                [*self.core.new.values(), *(c.instance for c in self._changed_relations())]
            )
        return self._given.get((relation, id(target)), from_) is not from_

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
        if change is not None:
            known = {id(t) for t in found}
            before = as_targets(relation, change.originals.get(relation.name))
            found += [t for t in before if id(t) not in known]
        return found

    def _follow_delete(self, instance: Any, relation: Relation, target: Any, cascades: bool) -> None:
        core = self.core
        held = target.__dict__.get(BATCH)
        if held is None or held.session is not core or self._was_moved(relation, target, instance):
            return
        if cascades:
            if id(target) in core.new:
                core.expunge(target)
            else:
                core.deleted.setdefault(id(target), target)
        elif id(target) not in core.deleted:
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
        for change in self._changed_relations():
            instance = change.instance
            for name, relation in mapper_of(instance).relations.items():
                if name in change.originals and name in instance.__dict__ and not relation.viewonly:
                    before = as_targets(relation, change.originals[name])
                    self._link_relation(instance, relation, before, False)
        for instance in core.deleted.values():
            self.links.pop(id(instance), None)  # its secondary rows go by its key alone

    def _link_relation(self, instance: Any, relation: Relation, before: list[Any], new: bool) -> None:
        core = self.core
        if id(instance) in core.deleted:
            return
        now = targets(instance, relation)
        if relation.direction is Direction.MANY_TO_ONE:
            target = now[0] if now else None
            if target is not None and self._is_saved(relation, target):
                self._add_link(Link(target, instance, pairs_of(relation), relation))
            elif target is None and not new:
                self._add_link(Link(None, instance, pairs_of(relation), relation))
            return
        known, kept = {id(t) for t in before}, {id(t) for t in now}
        added = [t for t in now if id(t) not in known and self._is_saved(relation, t)]
        removed = [t for t in before if id(t) not in kept]
        if relation.direction is Direction.MANY_TO_MANY:
            for target in added:
                if id(target) not in core.deleted:
                    self.associations.add(relation, instance, target)
            for target in removed:
                self.associations.remove(relation, instance, target)
            return
        for target in removed:
            if (
                id(target) not in core.deleted
                and core.holds(target)
                and not self._was_moved(relation, target)
            ):
                self._add_link(Link(None, target, pairs_of(relation), relation))
        for target in added:
            if relation.back is None and id(target) not in core.new:
                self._note_move(relation, instance, target)
            self._add_link(Link(instance, target, pairs_of(relation), relation))

    def _note_move(self, relation: Relation, owner: Any, target: Any) -> None:
        """A target that does not say whose it is: the one that has it until now does not hear of the move."""
        former = self.core.find_owner(relation, target)
        owners = [owner] if former is None else [owner, former]
        self.moved += [(relation, one, target) for one in owners]

    def _is_saved(self, relation: Relation, target: Any) -> bool:
        """Whether the session has an object; one that belongs to none is told of, as SQLAlchemy does."""
        if BATCH not in target.__dict__:
            name, place = relation.target.name, f"{relation.parent.name}.{relation.name}"
            text = f"A {name} in {place} is in no session, so it is not saved. Write session.add(...) with that {name}."
            warnings.warn(text, SAWarning, stacklevel=2)
        return self.core.holds(target)

    def _add_link(self, link: Link) -> None:
        links = self.links.setdefault(id(link.child), [])
        if link.parent is not None:
            links[:] = [old for old in links if old.parent is not None or old.pairs != link.pairs]
        elif any(old.pairs == link.pairs for old in links):
            return
        if link.relation.post_update and id(link.parent) in self.core.new:
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

    def _apply_links(self, instances: list[Any]) -> None:
        for instance in instances if self.links else ():
            for link in self.links.get(id(instance), ()):
                self._apply(link)

    # ------------------------------------------------------------ write

    def _is_dirty(self) -> bool:
        return any(
            changed_columns(self.core, mapper_of(change.instance).columns, change.instance)
            for change in self.core.dirty.values()
        )

    def _write(self) -> Operation[None]:
        core = self.core
        waiting = by_mapper(core.new.values())
        changed = by_mapper(self._changed())
        deleted = by_mapper(core.deleted.values())
        ranks = table_ranks({**waiting, **changed, **deleted})
        yield from self._write_secondary(removed=True)
        pending = set(core.new)
        postponed: list[Any] = []
        for mapper in sorted(ranks, key=ranks.__getitem__):
            ready = changed.get(mapper, [])
            if self.links:
                waits = {id(i) for i in ready if self._waits(i, pending)}
                postponed += [i for i in ready if id(i) in waits]
                ready = [i for i in ready if id(i) not in waits]
            yield from self._update(mapper, ready)
            if mapper in waiting:
                yield from self._insert_ready(mapper, waiting, pending)
        yield from self._insert_rest(waiting, pending)
        yield from self._update_late(postponed)
        yield from self._write_secondary(removed=False)
        deleted = by_mapper(core.deleted.values())  # without those whose row was taken over
        yield from self._empty_late_keys(deleted)
        for mapper, group in delete_order(deleted, ranks, core.row_values):
            yield from self._delete(mapper, group)

    def _changed(self) -> Iterable[Any]:
        """Objects to update: the changed, and those that take a key from an object to be inserted."""
        found = {place: change.instance for place, change in self.core.dirty.items()}
        found |= {id(link.child): link.child for links in self.links.values() for link in links}
        for place in found.keys() & self.core.new.keys() if self.core.new else ():
            del found[place]
        return found.values()

    def _waits(self, instance: Any, pending: set[int]) -> bool:
        return any(id(link.parent) in pending for link in self.links.get(id(instance), ()))

    def _insert_ready(
        self, mapper: Mapper, waiting: dict[Mapper, list[Any]], pending: set[int]
    ) -> Operation[bool]:
        """Insert what waits for nobody, level by level; a self-reference has as many levels as it is deep."""
        if not self.links:
            group = waiting.pop(mapper, [])
            yield from self._insert(mapper, group)
            return bool(group)
        wrote = False
        while mapper in waiting:
            group = waiting[mapper]
            ready = [i for i in group if not self._waits(i, pending)]
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

    def _insert(self, mapper: Mapper, instances: list[Any]) -> Operation[None]:
        self.writing = mapper
        self._apply_links(instances)
        shape = shape_of(mapper, self.core.backend)
        heirs = find_heirs(self.core, mapper, instances) if self.core.deleted else {}
        if heirs:
            yield from self._delete_all_secondary(mapper, [old for _, old in heirs.values()])
            changed = take_over(self.core, shape, list(heirs.values()))
            changes = by_changes(self.core, shape, changed)
            yield from update_objects(self.core, self.writer, shape, changes)
        rest = [one for one in instances if id(one) not in heirs] if heirs else instances
        if rest:
            judged = None if self.links or heirs else self.judged.get(mapper)
            yield from insert_objects(self.core, self.writer, shape, rest, judged)

    # ------------------------------------------------------------ update

    def _update_late(self, postponed: list[Any]) -> Operation[None]:
        for link in self.late:
            if self.core.holds(link.child) and id(link.child) not in self.core.deleted:
                self._apply(link)
                postponed.append(link.child)
        unique = {id(i): i for i in postponed}
        for mapper, group in by_mapper(unique.values()).items():
            yield from self._update(mapper, group)

    def _update(self, mapper: Mapper, instances: list[Any]) -> Operation[None]:
        self.writing = mapper
        self._apply_links(instances)
        if instances:
            shape = shape_of(mapper, self.core.backend)
            known = None if self.links or self.late else self.changes.get(mapper)
            changes = by_changes(self.core, shape, instances) if known is None else known
            yield from update_objects(self.core, self.writer, shape, changes)

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
            by_table.setdefault(relation.secondary, []).append(
                association_row(relation, parent, target, core.row_values)
            )
        for table, rows in by_table.items():
            columns = list(rows[0])
            values = [[row[column] for row in rows] for column in columns]
            if removed:
                yield from self.writer.delete(table, columns, values, len(rows))
            else:
                yield from self.writer.insert(table, columns, values, len(rows))

    def _empty_late_keys(self, deleted: dict[Mapper, list[Any]]) -> Operation[None]:
        """Rows to be deleted let go of one another, where a relation with ``post_update`` says they may."""
        for mapper, names in late_keys(deleted):
            going = {id(i): i for i in deleted.get(mapper, ())}
            held = [i for i in going.values() if None not in self.core.row_values(i, names)]
            if held:
                keys = list(zip(*(self.core.row_key(mapper, i) for i in held), strict=True))
                key_columns = [mapper.columns[name] for name in mapper.primary_key]
                columns = [mapper.columns[name] for name in names]
                empty = [[None] * len(held) for _ in names]
                yield from self.writer.update(mapper.table, key_columns, keys, columns, empty)

    def _delete(self, mapper: Mapper, instances: list[Any]) -> Operation[None]:
        self.writing = mapper
        yield from self._delete_all_secondary(mapper, instances)
        keys = [self.core.row_key(mapper, instance) for instance in instances]
        columns, values = compared(self.core, mapper, list(zip(*keys, strict=True)), instances)
        found = yield from self.writer.delete(mapper.table, columns, values, len(instances))
        if mapper.version is not None and found != len(instances):
            raise stale(mapper, len(instances), found, "deleted")
        settle_deleted(self.core, mapper, instances)

    def _delete_all_secondary(self, mapper: Mapper, instances: list[Any]) -> Operation[None]:
        for relation in mapper.relations.values():
            if relation.direction is Direction.MANY_TO_MANY and not relation.viewonly:
                yield from self._delete_secondary(relation, instances)

    def _delete_secondary(self, relation: Relation, instances: list[Any]) -> Operation[None]:
        if relation.passive_deletes:
            return
        names = [relation.parent.attributes[column] for column, _ in relation.parent_pairs]
        columns = [secondary for _, secondary in relation.parent_pairs]
        values = list(zip(*[self.core.row_values(i, names) for i in instances], strict=True))
        assert relation.secondary is not None
        yield from self.writer.delete(relation.secondary, columns, values, len(instances))  # type: ignore[arg-type]


def given_targets(parents: Iterable[Any]) -> dict[tuple[Relation, int], Any]:
    """Who has whom, of the parents that changed; for relations whose targets do not say it themselves."""
    return {
        (relation, id(target)): parent
        for parent in parents
        for relation in mapper_of(parent).relations.values()
        if relation.direction is Direction.ONE_TO_MANY and relation.back is None and not relation.viewonly
        for target in targets(parent, relation)
    }


def targets(instance: Any, relation: Relation) -> list[Any]:
    """What a relation holds in memory; nothing where it is not loaded."""
    return as_targets(relation, instance.__dict__.get(relation.name))


def as_targets(relation: Relation, held: Any) -> list[Any]:
    """The objects in a relation's value, now or before a change."""
    if held is None or held is MISSING:
        return []
    return list(held) if relation.uselist else [held]


def by_mapper(instances: Iterable[Any]) -> dict[Mapper, list[Any]]:
    """Group objects by their class; mostly that is one group."""
    every = list(instances)
    classes = kinds(every)
    if len(classes) == 1:
        return {mapper_of(classes.pop()): every}
    groups: dict[type[Any], list[Any]] = defaultdict(list)
    for instance in every:
        groups[type(instance)].append(instance)
    return {mapper_of(cls): group for cls, group in groups.items()}
