"""The base of a user's models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import MetaData, Table

from .declaring import declare
from .mapper import Mapper
from .messages import mistake
from .registry import Registry, mapper_of
from .tracking import Tracked

if TYPE_CHECKING:
    from .registry import Declared


class _LazyMapper:
    """``Model.__mapper__`` before the models are configured: configures them."""

    def __get__(self, instance: Any, owner: Any) -> Mapper:
        return mapper_of(owner)


class DeclarativeBase(Tracked):
    """Inherit a base from this, and models from the base: ``class Base(DeclarativeBase): pass``.

    The base may set ``metadata`` and ``type_annotation_map``, or a ``registry`` that holds both; it may
    hold columns, which every model gets.
    """

    metadata: ClassVar[MetaData]
    registry: ClassVar[Registry]
    type_annotation_map: ClassVar[Mapping[Any, Any]]
    __table__: ClassVar[Table]
    __tablename__: Any
    __table_args__: Any
    __mapper_args__: Any
    if TYPE_CHECKING:
        __mapper__: ClassVar[Mapper]
        __declared__: ClassVar[Declared]
        __abstract__: bool
    else:
        __mapper__ = _LazyMapper()

    def __init_subclass__(cls, **options: Any) -> None:
        if DeclarativeBase in cls.__bases__:
            _set_up_base(cls)
        elif not vars(cls).get("__abstract__", False):
            declare(cls, cls.registry, DeclarativeBase)
        super().__init_subclass__(**options)

    @classmethod
    def _configure(cls) -> Mapper:
        return mapper_of(cls)


def _set_up_base(cls: type[DeclarativeBase]) -> None:
    """Give a base its registry and metadata."""
    own = vars(cls)
    registry = own.get("registry")
    if registry is None:
        registry = Registry(metadata=own.get("metadata"), type_annotation_map=own.get("type_annotation_map"))
    elif not isinstance(registry, Registry):
        raise mistake(
            f"{cls.__name__}.registry is a {type(registry).__name__}", write="registry = Registry()"
        )
    elif "type_annotation_map" in own:
        registry.type_annotation_map.update(own["type_annotation_map"])
    cls.registry = registry
    cls.metadata = registry.metadata = own.get("metadata", registry.metadata)
    if "__tablename__" in own or "__table__" in own:
        raise mistake(
            f"{cls.__name__} inherits DeclarativeBase itself and has a table",
            write=f"class Base(DeclarativeBase): pass; class {cls.__name__}(Base): ...",
        )
