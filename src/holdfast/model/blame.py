"""What is wrong with a relation, told with its names and the line to write.

Each function answers the error, or raises it where it is called ``check_``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ForeignKeyConstraint

from holdfast.errors import ModelError

from .mapper import Direction, Mapper, Relation
from .messages import did_you_mean, listed, mistake, nearest

if TYPE_CHECKING:
    from .wiring import Wiring


def attribute_path(mapper: Mapper, column: Column[Any]) -> str:
    """Answer ``Post.author_id`` for a column, as far as it belongs to the class."""
    name = mapper.attributes.get(column)
    return f"{mapper.name}.{name}" if name else f"{column.table.name}.c.{column.key}"


def column_list(mappers: Iterable[Mapper], columns: Iterable[Column[Any]]) -> str:
    """Answer columns as one writes them in text: ``Post.author_id`` or ``[A.x, A.y]``."""
    owners = list(mappers)
    paths = [attribute_path(next((m for m in owners if c in m.attributes), owners[0]), c) for c in columns]
    return paths[0] if len(paths) == 1 else f"[{', '.join(paths)}]"


def check_columns(wiring: Wiring, option: str, found: Sequence[Any]) -> None:
    """Raise where an option that takes columns was given something else."""
    for value in found:
        if not isinstance(value, Column):
            example = column_list([wiring.target], [next(iter(wiring.target.table.c))])
            raise mistake(
                f"{wiring.where}: {option} takes columns, not a {type(value).__name__}",
                write=f'relationship({option}="{example}")',
            )


# ---------------------------------------------------------------- foreign keys


def no_foreign_key(wiring: Wiring) -> ModelError:
    """Tell that nothing joins the two tables."""
    parent, target = wiring.parent, wiring.target
    if wiring.foreign_keys:
        columns = column_list([parent, target], sorted(wiring.foreign_keys, key=str))
        return mistake(
            f"{wiring.where}: no foreign key on {columns} joins {parent.table.name} and {target.table.name}",
            write=f'relationship(primaryjoin="{_guess_join(wiring)}", foreign_keys="{columns}")',
        )
    holder, referred = (target, parent) if wiring.uselist else (parent, target)
    return mistake(
        f"{wiring.where}: no foreign key joins {parent.table.name} and {target.table.name}",
        write=_key_line(referred),
        instead=f"in class {holder.name}",
    )


def _key_line(referred: Mapper) -> str:
    key = referred.primary_key[0]
    python_type = _python_type(referred.columns[key])
    path = f"{referred.table.fullname}.{referred.columns[key].name}"
    return f'{referred.name.lower()}_{key}: Mapped[{python_type}] = mapped_column(ForeignKey("{path}"))'


def _python_type(column: Column[Any]) -> str:
    try:
        return column.type.python_type.__name__
    except NotImplementedError:
        return "int"


def _guess_join(wiring: Wiring) -> str:
    key = next(iter(sorted(wiring.foreign_keys, key=str)))
    holder, other = (
        (wiring.parent, wiring.target) if key in wiring.parent.attributes else (wiring.target, wiring.parent)
    )
    return f"{attribute_path(holder, key)} == {other.name}.{other.primary_key[0]}"


def ambiguous(wiring: Wiring, constraints: Sequence[ForeignKeyConstraint]) -> ModelError:
    """Tell that several foreign keys join the two tables, and name them."""
    mappers = [wiring.target, wiring.parent]
    choices = [column_list(mappers, constraint.columns) for constraint in constraints]
    return mistake(
        f"{wiring.where}: {len(constraints)} foreign keys join {wiring.parent.table.name} and "
        f"{wiring.target.table.name}: {listed(choices)}",
        write=f'relationship(foreign_keys="{choices[0]}")',
        candidates=tuple(choices),
    )


def remote_elsewhere(wiring: Wiring, far: Iterable[Column[Any]]) -> ModelError:
    """Tell that ``remote_side`` names a column that does not stand at the far end of the join."""
    mappers = [wiring.target, wiring.parent]
    written = column_list(mappers, sorted(wiring.remote_side, key=str))
    return mistake(
        f"{wiring.where}: remote_side={written} is not the far side of its foreign key",
        write=f'relationship(remote_side="{column_list(mappers, sorted(far, key=str))}")',
    )


def no_direction(wiring: Wiring, condition: Any, both: bool) -> ModelError:
    """Tell that a condition does not say which side holds the foreign key."""
    if both:
        return mistake(
            f"{wiring.where}: its join has foreign keys on both sides ({condition})",
            write=f'relationship(primaryjoin=..., foreign_keys="{_first_column(wiring)}")',
        )
    return mistake(
        f"{wiring.where}: its join has no column that holds a foreign key ({condition})",
        write=f'relationship(primaryjoin=..., foreign_keys="{_first_column(wiring)}")',
        instead="which column refers to the other table, for example",
    )


def _first_column(wiring: Wiring) -> str:
    names = [n for n in wiring.target.columns if n not in wiring.target.primary_key] or list(
        wiring.target.columns
    )
    return f"{wiring.target.name}.{names[0]}"


def no_secondary_key(wiring: Wiring, mapper: Mapper) -> ModelError:
    """Tell that the table in the middle does not refer to one of the ends."""
    key = mapper.columns[mapper.primary_key[0]]
    path = f"{mapper.table.fullname}.{key.name}"
    return mistake(
        f"{wiring.where}: the table {wiring.secondary.name!r} has no foreign key to {mapper.table.name!r}",
        write=f'Column("{mapper.name.lower()}_{key.name}", ForeignKey("{path}"), primary_key=True)',
        instead=f"in Table({wiring.secondary.name!r}, ...)",
    )


def ambiguous_secondary(
    wiring: Wiring, mapper: Mapper, constraints: Sequence[ForeignKeyConstraint]
) -> ModelError:
    """Tell that the table in the middle refers to one end more than once."""
    names = [", ".join(column.name for column in constraint.columns) for constraint in constraints]
    table, key = wiring.secondary.name, mapper.primary_key[0]
    write = (
        f'relationship(secondary="{table}", primaryjoin="{mapper.name}.{key} == {table}.c.{names[0]}", '
        f'secondaryjoin="{wiring.target.name}.{wiring.target.primary_key[0]} == {table}.c.{names[-1]}")'
    )
    return mistake(
        f"{wiring.where}: {table!r} has several foreign keys to {mapper.table.name!r}: {listed(names)}",
        write=write,
        candidates=tuple(names),
    )


def unknown_key(where: str, constraint: ForeignKeyConstraint, error: Exception) -> ModelError:
    """Tell that a foreign key refers to a table or column that does not exist."""
    element = constraint.elements[0]
    table_name, _, column_name = element.target_fullname.rpartition(".")
    metadata = constraint.table.metadata
    table = metadata.tables.get(table_name)
    holder = f"{constraint.table.name}.{element.parent.name}"
    if table is None:
        near = did_you_mean(table_name, metadata.tables)
        happened = f"{where}: {holder} refers to the table {table_name!r}, which does not exist{near}"
        guess = nearest(table_name, metadata.tables) or "table"
        return mistake(happened, write=f'ForeignKey("{guess}.{column_name}")')
    near = did_you_mean(column_name, table.c.keys())
    happened = (
        f"{where}: {holder} refers to the column {element.target_fullname!r}, which does not exist{near}"
    )
    guess = (
        nearest(column_name, table.c.keys())
        or next(iter(table.primary_key.columns), next(iter(table.c))).name
    )
    return mistake(happened, write=f'ForeignKey("{table_name}.{guess}")')


# ---------------------------------------------------------------- shape


def check_shape(wiring: Wiring, relation: Relation) -> None:
    """Raise where the options of a relation do not fit its direction."""
    if relation.uselist and relation.direction is Direction.MANY_TO_ONE:
        raise _list_of_one(wiring, relation)
    orphans = "delete-orphan" in relation.cascade
    if orphans and relation.direction is not Direction.ONE_TO_MANY and not relation.single_parent:
        raise mistake(
            f"{wiring.where}: delete-orphan on a {relation.direction.value} relation: the {relation.target.name} "
            "may have other parents",
            write='relationship(cascade="all, delete-orphan", single_parent=True)',
        )
    if relation.passive_deletes == "all" and relation.cascade & {"delete", "delete-orphan"}:
        raise mistake(
            f'{wiring.where}: passive_deletes="all" leaves deletes to the database, and cascade asks for them here',
            write="relationship(passive_deletes=True)",
        )


def _list_of_one(wiring: Wiring, relation: Relation) -> ModelError:
    near = ", ".join(attribute_path(relation.parent, pair[0]) for pair in relation.pairs)
    happened = f"{wiring.where} is a list, but its foreign key {near} leads to one {relation.target.name}"
    return mistake(happened, write=f'{wiring.name}: Mapped["{relation.target.name}"] = relationship()')


# ---------------------------------------------------------------- both sides


def no_other_side(relation: Relation, name: str, others: Iterable[str]) -> ModelError:
    """Tell that ``back_populates`` names nothing on the target."""
    target, parent = relation.target, relation.parent
    near = did_you_mean(name, others)
    return mistake(
        f"{parent.name}.{relation.name}: {target.name} has no relation {name!r}{near}",
        write=_other_side_line(relation, name),
        instead=f"in class {target.name}",
    )


def _other_side_line(relation: Relation, name: str) -> str:
    many = relation.direction is not Direction.ONE_TO_MANY
    parent = relation.parent.name
    hint = f'list["{parent}"]' if many else f'"{parent}"'
    middle = (
        f'secondary="{getattr(relation.secondary, "name", "")}", ' if relation.secondary is not None else ""
    )
    return f'{name}: Mapped[{hint}] = relationship({middle}back_populates="{relation.name}")'


def other_target(relation: Relation, other: Relation) -> ModelError:
    """Tell that the other side leads to another class."""
    return mistake(
        f"{relation.parent.name}.{relation.name}: its other side {other.parent.name}.{other.name} leads to "
        f"{other.target.name}, not to {relation.parent.name}",
        write=_other_side_line(relation, other.name),
        instead=f"in class {other.parent.name}",
    )


def other_name(relation: Relation, other: Relation, written: str | None) -> ModelError:
    """Tell that the other side names another attribute, or none."""
    says = "has no back_populates" if written is None else f"has back_populates={written!r}"
    return mistake(
        f"{relation.parent.name}.{relation.name}: its other side {other.parent.name}.{other.name} {says}",
        write=f'relationship(back_populates="{relation.name}")',
        instead=f"for {other.parent.name}.{other.name}",
    )


def same_direction(relation: Relation, other: Relation) -> ModelError:
    """Tell that both sides lead the same way."""
    happened = f"{relation.parent.name}.{relation.name} and {other.parent.name}.{other.name} are both {relation.direction.value}"
    if relation.parent.table is relation.target.table:
        single = other if relation.uselist else relation
        key = f"{single.parent.name}.{single.parent.primary_key[0]}"
        back = relation.name if single is other else other.name
        return mistake(
            happened,
            write=f'relationship(back_populates="{back}", remote_side="{key}")',
            instead=f"for {single.parent.name}.{single.name}",
        )
    keys = column_list([relation.target, relation.parent], [pair[1] for pair in relation.pairs])
    return mistake(
        happened, write=f'relationship(back_populates=..., foreign_keys="{keys}")', instead="for both sides"
    )


def other_secondary(relation: Relation, other: Relation) -> ModelError:
    """Tell that the two sides go through different tables."""
    name = getattr(relation.secondary, "name", "")
    return mistake(
        f"{relation.parent.name}.{relation.name} and {other.parent.name}.{other.name} go through different tables",
        write=f'relationship(secondary="{name}", back_populates="{relation.name}")',
        instead=f"for {other.parent.name}.{other.name}",
    )
