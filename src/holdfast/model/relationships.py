"""How a relation is declared: `relationship()`, its options and what they mean.

A declaration is data and refers to classes by name; `wiring` turns it into a `Relation` once all
classes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar

from sqlalchemy.sql.selectable import FromClause

from holdfast.errors import ModelError

from .columns import UNSET, Mapped, refuse_dataclass_arguments
from .messages import did_you_mean, later, listed, mistake

T_co = TypeVar("T_co", bound=Any, covariant=True)

CASCADES = frozenset({"save-update", "merge", "refresh-expire", "expunge", "delete", "delete-orphan"})
ALL_CASCADES = CASCADES - {"delete-orphan"}
READING_CASCADES = frozenset({"merge", "refresh-expire", "expunge"})
"""What is left of a cascade where the relation is viewonly."""
LAZY: Mapping[Any, str] = {
    **{
        name: name
        for name in (
            "batch",
            "joined",
            "selectin",
            "subquery",
            "immediate",
            "raise",
            "raise_on_sql",
            "noload",
        )
    },
    "select": "batch",
    True: "batch",
    False: "joined",
    None: "noload",
}
"""How SQLAlchemy's names for loading are read here; "select" is Holdfast's default, by the batch."""

Columns = Any
"""A column, a string that names it, a function that answers it, or a list of these."""


class Relationship(Mapped[T_co]):
    """A relation as declared; what `relationship` returns."""

    __slots__ = ("argument", "options", "secondary")

    def __init__(self, argument: Any, secondary: Any, options: Mapping[str, Any]) -> None:
        self.argument = argument
        self.secondary = secondary
        self.options = dict(options)

    def get(self, option: str, default: Any = None) -> Any:
        """Answer an option as written, or the default where it is not."""
        return self.options.get(option, default)

    def __repr__(self) -> str:
        return f"<relationship {self.argument!r}>"


def relationship(
    argument: str | type[Any] | Callable[[], Any] | None = None,
    secondary: str | FromClause | Callable[[], Any] | None = None,
    *,
    back_populates: str | None = UNSET,
    foreign_keys: Columns = UNSET,
    primaryjoin: Any = UNSET,
    secondaryjoin: Any = UNSET,
    remote_side: Columns = UNSET,
    order_by: Columns = UNSET,
    uselist: bool | None = UNSET,
    collection_class: type[Collection[Any]] | Callable[[], Collection[Any]] | None = UNSET,
    cascade: str | None = UNSET,
    passive_deletes: bool | Literal["all"] = UNSET,
    passive_updates: bool = UNSET,
    single_parent: bool = UNSET,
    post_update: bool = UNSET,
    viewonly: bool = UNSET,
    lazy: str | bool | None = UNSET,
    innerjoin: bool | str = UNSET,
    join_depth: int | None = UNSET,
    overlaps: str | None = UNSET,
    sync_backref: bool | None = UNSET,
    info: dict[Any, Any] | None = UNSET,
    doc: str | None = UNSET,
    init: Any = UNSET,
    repr: Any = UNSET,  # noqa: A002 - SQLAlchemy's name
    default: Any = UNSET,
    default_factory: Callable[[], Any] = UNSET,
    compare: Any = UNSET,
    kw_only: Any = UNSET,
    hash: Any = UNSET,  # noqa: A002 - SQLAlchemy's name
    dataclass_metadata: Any = UNSET,
    **others: Any,
) -> Relationship[Any]:
    """Declare a relation to another mapped class.

    The target may be left out where ``Mapped[...]`` names it; classes, tables, joins and columns may be
    given as such, as a function that answers them, or as text evaluated when the models are configured.
    ``lazy="batch"``, the default, loads the relation for all siblings at the first touch.
    ``innerjoin``, ``join_depth``, ``overlaps``, ``passive_updates`` and ``sync_backref`` are accepted as
    SQLAlchemy has them and change nothing that is saved.
    """
    given = {name: value for name, value in locals().items() if value is not UNSET}
    given.update(given.pop("others"))
    refuse_dataclass_arguments("relationship", given)
    refuse_options(given)
    options = {name: value for name, value in given.items() if name not in ("argument", "secondary")}
    return Relationship(argument, secondary, options)


OPTIONS = frozenset(
    {"back_populates", "foreign_keys", "primaryjoin", "secondaryjoin", "remote_side", "order_by", "uselist"}
    | {"collection_class", "cascade", "passive_deletes", "passive_updates", "single_parent", "post_update"}
    | {"viewonly", "lazy", "innerjoin", "join_depth", "overlaps", "sync_backref", "info", "doc"}
)
ACCEPTED = frozenset(
    {"active_history", "enable_typechecks", "distinct_target_key", "load_on_pending", "omit_join"}
)
"""Tuning of SQLAlchemy's own loading, without meaning here."""


def refuse_options(given: Mapping[str, Any]) -> None:
    """Raise for options that do not exist, or that Holdfast has not."""
    if given.get("backref") is not None:
        raise mistake(
            "relationship(backref=...) makes an attribute that no type checker can see",
            write='relationship(back_populates="...")',
            instead="on each of the two classes",
        )
    if given.get("default", None) is not None:
        refuse_dataclass_arguments("relationship", {"init": given["default"]})
    for name in given:
        if name not in OPTIONS | ACCEPTED | {"argument", "secondary", "backref", "default"}:
            raise ModelError(
                f"relationship() has no option {name!r}{did_you_mean(name, OPTIONS)}",
                mend=f"Use one of: {listed(sorted(OPTIONS))}.",
            )


def lazy_of(where: str, declared: Relationship[Any]) -> str:
    """Answer how a relation is loaded, in Holdfast's names."""
    lazy = declared.get("lazy", "batch")
    if lazy in ("dynamic", "write_only"):
        raise later(f'{where}: lazy="{lazy}"', write='relationship(lazy="raise")')
    if lazy not in LAZY:
        names = [name for name in LAZY if isinstance(name, str)]
        near = did_you_mean(str(lazy), names)
        raise mistake(f"{where}: there is no lazy={lazy!r}{near}", write='relationship(lazy="batch")')
    return LAZY[lazy]


def cascade_of(where: str, declared: Relationship[Any]) -> frozenset[str]:
    """Answer the cascades of a relation as a set."""
    written = declared.get("cascade", "save-update, merge") or "none"
    words = {word.strip() for word in (written.split(",") if isinstance(written, str) else written)} - {""}
    found = (words | ALL_CASCADES if "all" in words else words) - {"all"}
    found = found - ALL_CASCADES if "none" in words else found
    for word in sorted(found - {"none"} - CASCADES):
        near = did_you_mean(word, CASCADES)
        raise mistake(f"{where}: there is no cascade {word!r}{near}", write='cascade="all, delete-orphan"')
    if "delete-orphan" in found and "delete" not in found:
        raise mistake(f"{where}: delete-orphan needs delete", write='cascade="all, delete-orphan"')
    return frozenset(found - {"none"}) & (READING_CASCADES if declared.get("viewonly") else CASCADES)


def collection_of(where: str, kind: Any) -> type[Any]:
    """Answer list or set for what a declaration says the collection is."""
    if kind in (list, set):
        return kind  # type: ignore[no-any-return]
    raise later(f"{where}: the collection class {getattr(kind, '__name__', kind)}", write="Mapped[list[...]]")


def as_list(value: Any) -> list[Any]:
    """Answer one or several as a list."""
    if isinstance(value, (list, tuple, set, frozenset)) or (
        isinstance(value, Iterable) and hasattr(value, "keys")
    ):
        return list(value)
    return [value]
