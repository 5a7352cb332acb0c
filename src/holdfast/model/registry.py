"""All classes of one base: found by name, and configured together.

Configuring computes everything first and publishes it afterwards, so that it needs no lock: threads that
configure at once agree on the result of the first (`dict.setdefault` is atomic), and a class carries
``__mapper__`` only when its relations and setters are complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.exc import InvalidRequestError as SqlalchemyError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine

from . import blame
from .annotations import Scope
from .attributes import RelationAttribute
from .columns import MappedColumn
from .inference import can_change_in_place
from .mapper import ENTITY, Mapper, Relation
from .messages import did_you_mean, listed, mistake, nearest
from .names import evaluate, unknown_name
from .pairing import pair_relations
from .relationships import Relationship
from .setters import install
from .targets import target_of
from .wiring import Wiring


class Declared:
    """A class as declared: its mapper, not yet complete, and what configuring needs."""

    __slots__ = (
        "allows_unmapped",
        "annotations",
        "copies",
        "hints",
        "mapper",
        "registry",
        "relationships",
    )

    def __init__(self, registry: Registry, mapper: Mapper) -> None:
        self.registry = registry
        self.mapper = mapper
        self.relationships: dict[str, Relationship[Any]] = {}
        self.annotations: dict[str, tuple[Any, Scope]] = {}
        self.copies: dict[Column[Any], Column[Any]] = {}
        self.hints: dict[Column[Any], TypeEngine[Any]] = {}
        self.allows_unmapped = False

    def __repr__(self) -> str:
        return f"<Declared {self.mapper.name}>"


Plan = dict[Declared, dict[str, Relation]]


class Registry:
    """The classes of one base, by name; ``Base.registry``."""

    def __init__(
        self, *, metadata: MetaData | None = None, type_annotation_map: Mapping[Any, Any] | None = None
    ) -> None:
        self.metadata = metadata if metadata is not None else default_metadata()
        self.type_annotation_map: dict[Any, Any] = dict(type_annotation_map or {})
        self.declared: dict[type[Any], Declared] = {}
        self.classes: dict[str, list[type[Any]]] = {}
        self.pending: list[Declared] = []
        self._plans: dict[tuple[Declared, ...], Plan] = {}

    def __repr__(self) -> str:
        return f"<Registry of {listed(self.classes)}; {len(self.pending)} to configure>"

    @property
    def mappers(self) -> frozenset[Mapper]:
        """The mappers of all classes declared so far."""
        return frozenset(declared.mapper for declared in self.declared.values())

    def add(self, declared: Declared) -> None:
        """Take a class in; it is configured with the others at first use."""
        cls = declared.mapper.class_
        self.declared[cls] = declared
        self.classes.setdefault(cls.__name__, []).append(cls)
        self.pending.append(declared)

    # ------------------------------------------------------------ names

    def class_named(self, path: str, where: str) -> type[Any]:
        """Answer the class of a name or dotted path; raises `ModelError`."""
        module, _, name = path.rpartition(".")
        found = self.classes.get(name, [])
        if module:
            found = [cls for cls in found if f".{cls.__module__}.".endswith(f".{module}.")]
        if len(found) == 1:
            return found[0]
        if not found:
            raise unknown_name(self, where, path, path if path not in self.classes else name)
        paths = [f"{cls.__module__}.{name}" for cls in found]
        raise mistake(
            f"{where}: {len(found)} classes are named {name!r}: {listed(paths)}",
            write=f'relationship("{paths[0]}")',
        )

    def target_of(self, owner: Declared, name: str, declared: Relationship[Any]) -> Any:
        """Answer (mapper, uselist, collection class) of a relation."""
        return target_of(self, owner, name, declared)

    def value_of(self, owner: Declared, name: str, written: Any) -> Any:
        """Answer what an option means: text evaluated, functions called, a mixin's columns made the class's."""
        where = f"{owner.mapper.name}.{name}"
        if isinstance(written, str):
            return evaluate(self, where, written)
        if isinstance(written, MappedColumn):
            return owner.copies.get(written.column, written.column)
        if callable(written) and not hasattr(written, "__clause_element__") and not isinstance(written, type):
            return self.value_of(owner, name, written())
        return own_columns(written, owner.copies)

    def table_of(self, owner: Declared, name: str, written: Any) -> FromClause:
        """Answer the table in the middle of a many-to-many relation."""
        found = self.metadata.tables.get(written) if isinstance(written, str) else None
        if (
            found is None
            and isinstance(written, str)
            and written.isidentifier()
            and written not in self.classes
        ):
            raise self._no_table(f"{owner.mapper.name}.{name}", written)
        found = self.value_of(owner, name, written) if found is None else found
        found = getattr(found, "__table__", found)
        if isinstance(found, FromClause):
            return found
        raise mistake(
            f"{owner.mapper.name}.{name}: secondary is a {type(found).__name__}, not a table",
            write='relationship(secondary="table_name")',
        )

    def _no_table(self, where: str, name: str) -> Exception:
        near = did_you_mean(name, self.metadata.tables)
        guess = nearest(name, self.metadata.tables) or "table_name"
        return mistake(
            f"{where}: there is no table {name!r}{near}", write=f'relationship(secondary="{guess}")'
        )

    # ------------------------------------------------------------ configuring

    def configure(self) -> None:
        """Complete the mappers of all classes; raises `ModelError` for the first mistake found."""
        if not self.pending:
            return
        batch = tuple(self.pending)
        plan = self._plans.get(batch)
        if plan is None:
            plan = self._plans.setdefault(batch, make_plan(batch))
        publish(plan)
        for registry in {declared.registry for declared in plan}:
            registry.pending = [declared for declared in registry.pending if declared not in plan]
        self._plans.pop(batch, None)


def make_plan(batch: tuple[Declared, ...]) -> Plan:
    """Compute the relations of classes, and of those of other bases that they lead to."""
    plan: Plan = {}
    written: dict[Relation, str | None] = {}
    todo = list(batch)
    while todo:
        declared = todo.pop(0)
        if declared in plan:
            continue
        take_late_relations(declared)
        check_foreign_keys(declared)
        relations = plan[declared] = {}
        for name, relationship in declared.relationships.items():
            relation = relations[name] = Wiring(declared, name, relationship).relation()
            written[relation] = relationship.get("back_populates")
            other: Registry = relation.target.class_.registry
            todo += [] if other is declared.registry else other.pending
    pair_relations({declared.mapper: relations for declared, relations in plan.items()}, written)
    return plan


def publish(plan: Plan) -> None:
    """Fill the mappers from a plan; a class is marked complete last."""
    fresh = [declared for declared in plan if "__mapper__" not in vars(declared.mapper.class_)]
    for declared in fresh:
        mapper = declared.mapper
        mapper.relations.update(plan[declared])
        mapper.mutable = frozenset(
            n for n, column in mapper.columns.items() if can_change_in_place(column.type)
        )
        install(mapper)
    for declared in fresh:
        declared.mapper.class_.__mapper__ = declared.mapper


def take_late_relations(declared: Declared) -> None:
    """Take in ``User.posts = relationship(...)``, written after the class; a column comes too late for its table."""
    cls = declared.mapper.class_
    for name, value in list(vars(cls).items()):
        if isinstance(value, Relationship):
            declared.relationships[name] = value
            setattr(cls, name, RelationAttribute(cls, name, relation_of))
        elif isinstance(value, MappedColumn):
            raise mistake(
                f"{cls.__name__}.{name} was given to the class after its table was made",
                write=f"{name}: Mapped[...] = mapped_column()",
                instead=f"in class {cls.__name__}",
            )


def check_foreign_keys(declared: Declared) -> None:
    """Let foreign keys give their columns a type; one that leads nowhere is a mistake if nothing else does."""
    mapper = declared.mapper
    for constraint in mapper.table.foreign_key_constraints:
        for key in constraint.elements:
            try:
                key.column  # noqa: B018 - resolving it gives the column its type
            except SqlalchemyError as error:
                hint = declared.hints.get(key.parent)
                if hint is None and key.parent.type._isnull:
                    raise blame.unknown_key(mapper.name, constraint, error) from None
                if key.parent.type._isnull and hint is not None:
                    key.parent.type = hint


def own_columns(value: Any, copies: Mapping[Column[Any], Column[Any]]) -> Any:
    """Answer an expression in which a mixin's columns are replaced by the class's own."""
    if not copies or not isinstance(value, visitors.ExternallyTraversible):
        return value
    return visitors.replacement_traverse(value, {}, lambda element, **_: copies.get(element))


# ---------------------------------------------------------------- for the rooms above


def configure(base: Any) -> None:
    """Complete the models of a base (or registry) now instead of at first use; raises `ModelError`."""
    registry = base if isinstance(base, Registry) else base.registry
    registry.configure()


def mapper_of(subject: Any) -> Mapper:
    """Answer the complete mapper of a mapped class or of an object of one; raises `ModelError`."""
    cls = subject if isinstance(subject, type) else type(subject)
    mapper = cls.__dict__.get("__mapper__")
    if mapper is not None:
        return mapper  # type: ignore[no-any-return]
    declared = cls.__dict__.get("__declared__")
    if declared is None:
        raise mistake(
            f"{cls.__name__} is not a mapped class", write=f"class {cls.__name__}(Base): __tablename__ = ..."
        )
    declared.registry.configure()
    return declared.mapper  # type: ignore[no-any-return]


def is_mapped(subject: Any) -> bool:
    """Say whether something is a mapped class or an object of one."""
    cls = subject if isinstance(subject, type) else type(subject)
    return "__declared__" in cls.__dict__


def mapper_of_entity(selectable: Any) -> Mapper | None:
    """Answer the complete mapper that a selectable stands for, or None for a plain table."""
    mapper: Mapper | None = selectable._annotations.get(ENTITY)
    if mapper is not None and "__mapper__" not in mapper.class_.__dict__:
        return mapper_of(mapper.class_)
    return mapper


def relation_of(cls: type[Any], name: str) -> Relation:
    """Answer a class's relation by name, configuring the models first if need be."""
    return mapper_of(cls).relations[name]


# ---------------------------------------------------------------- default names


def default_metadata() -> MetaData:
    """Make the metadata of a base that brings none: constraints have names that migrations can find."""
    return MetaData(naming_convention=dict(NAMING_CONVENTION))


def _check_name(constraint: Any, table: Table) -> str:
    """Answer the given name of a CHECK, or one made from its text, so that none is left without."""
    if constraint.name is not None and isinstance(constraint.name, str):
        return str(constraint.name)
    text = str(getattr(constraint, "sqltext", ""))
    return f"{checksum(text):08x}"


def checksum(text: str) -> int:
    """Answer a number that is the same for the same text, on every machine."""
    from zlib import crc32

    return crc32(text.encode())


NAMING_CONVENTION: Mapping[str, Any] = {
    "constraint_name": _check_name,
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
