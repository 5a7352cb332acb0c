"""``@declared_attr``: an attribute of a mixin that is made anew for each class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from sqlalchemy.sql.elements import SQLCoreOperations

from .columns import InstrumentedAttribute, Mapped

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class declared_attr(Generic[T_co]):  # noqa: N801 - SQLAlchemy's name
    """Make a column, relation or directive of a mixin from the class that uses it."""

    def __init__(self, function: Callable[..., Mapped[T_co] | SQLCoreOperations[T_co]]) -> None:
        self.function: Any = getattr(function, "__func__", function)  # a classmethod is taken as its function
        self.__doc__ = self.function.__doc__

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[T_co]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T_co: ...
        def __get__(self, instance: object | None, owner: Any) -> Any: ...

    else:

        def __get__(self, instance: Any, owner: Any) -> Any:
            made = vars(owner).get("__evaluated__")
            if made is None:
                return self.function(owner)
            if self not in made:
                made[self] = self.function(owner)
            return made[self]

    def annotation(self) -> Any:
        """Answer what the function says it returns."""
        return self.function.__annotations__.get("return")

    if TYPE_CHECKING:

        @classmethod
        def directive(cls, function: Callable[..., T]) -> Directive[T]: ...
        @classmethod
        def cascading(cls, function: Callable[..., Mapped[T]]) -> declared_attr[T]: ...


class Directive(Generic[T_co]):
    """A class-level setting such as ``__tablename__``, made from the class."""

    def __init__(self, function: Callable[..., T_co]) -> None:
        self.function = getattr(function, "__func__", function)

    def __get__(self, instance: object | None, owner: Any) -> T_co:
        return self.function(owner)


if not TYPE_CHECKING:
    declared_attr.directive = Directive
    declared_attr.cascading = declared_attr
