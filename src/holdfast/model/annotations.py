"""How an annotation is read: as written, as text, or as text that names classes to come.

Names are looked for in the module, the builtins, the function that holds the class, and the class body;
a name found nowhere becomes a `Forward`, which the registry resolves when the models are configured.
The module comes before the class body: in ``date: Mapped[date]`` the type is meant.
"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, ForwardRef, Literal, NewType, Union, get_args, get_origin

import typing_extensions

from .columns import Mapped
from .strays import refuse_stray

_TYPING = sys.modules["typing"]
ALIASES: tuple[type, ...] = tuple(
    {typing_extensions.TypeAliasType, getattr(_TYPING, "TypeAliasType", typing_extensions.TypeAliasType)}
)


class _ForwardMeta(type):
    path: str

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return forward(f"{cls.path}.{name}")


class Forward(metaclass=_ForwardMeta):
    """A name that an annotation uses and nobody has defined yet."""

    path: ClassVar[str] = ""

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


def forward(path: str) -> Any:
    """Make the stand-in of a name; it can be used in ``X | None`` and ``list[X]`` like any type."""
    return _ForwardMeta(path.rpartition(".")[2], (Forward,), {"path": path})


class Scope(dict[str, Any]):
    """The names an annotation can use; unknown ones become forward references.

    ``owner`` is the class in whose body it stands: the mapped class itself or a mixin of any module.
    """

    def __init__(self, owner: type[Any], cls: type[Any], function_names: Mapping[str, Any]) -> None:
        super().__init__()
        self.places = (
            names_of_module(owner),
            vars(builtins),
            function_names,
            {cls.__name__: cls},
            vars(owner),
            names_of_module(cls),
        )

    def __missing__(self, name: str) -> Any:
        for place in self.places:
            if name in place:
                return place[name]
        if name.startswith("__"):  # tools look for names of their own in the locals of a frame
            raise KeyError(name)
        return forward(name)

    def evaluate(self, text: str) -> Any:
        """Evaluate the text of an annotation."""
        return eval(
            text, {"__builtins__": vars(builtins)}, self
        )  # generic types import from C, through these

    def resolve(self, hint: Any) -> Any:
        """Answer an annotation with every text in it evaluated."""
        if isinstance(hint, str):
            return self.resolve(self.evaluate(hint))
        if isinstance(hint, ForwardRef):
            return self.resolve(self.evaluate(hint.__forward_arg__))
        origin, args = get_origin(hint), get_args(hint)
        if origin in (Literal, Annotated) or not args:
            return hint
        resolved = tuple(self.resolve(arg) for arg in args)
        if all(new is old for new, old in zip(resolved, args, strict=True)):
            return hint
        return Union[resolved] if origin in (Union, UnionType) else origin[resolved]  # noqa: UP007 - made at run time


def names_of_module(cls: type[Any]) -> Mapping[str, Any]:
    """Answer the names of the module that holds a class."""
    module = sys.modules.get(cls.__module__)
    return vars(module) if module is not None else {}


def function_names(cls: type[Any]) -> Mapping[str, Any]:
    """Answer the local names of the function (or module) whose code is declaring the class."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == cls.__module__:
            names = {} if frame.f_locals is frame.f_globals else frame.f_locals
            return {
                name: value for name, value in names.items() if isinstance(value, (type, NewType, *ALIASES))
            }
        frame = frame.f_back
    return {}


def own_annotations(cls: type[Any]) -> dict[str, Any]:
    """Answer the annotations written in a class body, unevaluated where Python can leave them so."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return dict(inspect.get_annotations(cls))


NOT_MAPPED: Any = object()


def mapped_argument(annotation: Any, scope: Scope, *, where: str) -> Any:
    """Answer what stands inside ``Mapped[...]``, or `NOT_MAPPED`; ``where`` names the attribute."""
    hint = scope.resolve(annotation)
    refuse_stray(where, get_origin(hint) or hint)
    if get_origin(hint) is Mapped:
        return scope.resolve(get_args(hint)[0])
    return NOT_MAPPED


def is_alias(hint: Any) -> bool:
    """Say whether a hint is a type alias made by ``type X = ...`` (or `TypeAliasType`)."""
    return isinstance(hint, ALIASES) or isinstance(get_origin(hint), ALIASES)


def allows_none(hint: Any) -> bool:
    """Say whether None is among the values an annotation allows."""
    if hint is None or hint is NoneType:
        return True
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(allows_none(part) for part in get_args(hint))
    if origin is Annotated:
        return allows_none(get_args(hint)[0])
    if is_alias(hint):
        return allows_none((hint if origin is None else origin).__value__)
    return isinstance(hint, NewType) and allows_none(hint.__supertype__)


def without_none(hint: Any) -> Any:
    """Answer ``X`` for ``X | None``."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    rest = tuple(part for part in get_args(hint) if part is not NoneType)
    if len(rest) == len(get_args(hint)) or not rest:
        return hint
    return Union[rest]  # noqa: UP007 - made at run time
