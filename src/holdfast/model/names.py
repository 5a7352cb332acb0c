"""Names in text, such as ``"Post.created_at.desc()"``: classes, tables, and what SQLAlchemy exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import Table

from holdfast.errors import ModelError

from .joins import foreign, remote
from .mapper import Mapper
from .messages import did_you_mean, listed, mistake, nearest

if TYPE_CHECKING:
    from .registry import Registry

MARKS: Mapping[str, Any] = {"foreign": foreign, "remote": remote}


class ModelNames(dict[str, Any]):
    """The names that text in a `relationship` can use."""

    def __init__(self, registry: Registry, where: str) -> None:
        super().__init__(MARKS)
        self.registry = registry
        self.where = where

    def __missing__(self, name: str) -> Any:
        if name in self.registry.classes:
            return self.registry.class_named(name, self.where)
        if name in self.registry.metadata.tables:
            return self.registry.metadata.tables[name]
        schemas = {table.schema for table in self.registry.metadata.tables.values() if table.schema}
        if name in schemas:
            return SchemaTables(self.registry, name)
        if not name.startswith("_") and hasattr(sqlalchemy, name):
            return getattr(sqlalchemy, name)
        if any(name in cls.__module__.split(".") for cls in self.registry.declared):
            return ModulePath(self.registry, self.where, name)
        raise KeyError(name)


class SchemaTables:
    """The tables of one schema, by attribute: ``"app.post_tags.c.tag_id"``."""

    def __init__(self, registry: Registry, schema: str) -> None:
        self._registry = registry
        self._schema = schema

    def __getattr__(self, name: str) -> Table:
        try:
            return self._registry.metadata.tables[f"{self._schema}.{name}"]
        except KeyError:
            raise AttributeError(name) from None


class ModulePath:
    """A part of a module's path, on the way to a class: ``"shop.models.Post"``."""

    def __init__(self, registry: Registry, where: str, path: str) -> None:
        self._registry = registry
        self._where = where
        self._path = path

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}"
        if name in self._registry.classes:
            return self._registry.class_named(path, self._where)
        return ModulePath(self._registry, self._where, path)


def evaluate(registry: Registry, where: str, text: str) -> Any:
    """Evaluate text of a `relationship`; raises `ModelError` that says which name is unknown."""
    names = ModelNames(registry, where)
    try:
        return eval(text, {"__builtins__": {}}, names)
    except KeyError as error:
        raise unknown_name(registry, where, text, str(error.args[0])) from None
    except NameError as error:
        raise unknown_name(registry, where, text, str(error.name)) from None
    except AttributeError as error:
        raise _unknown_attribute(where, text, error) from None
    except SyntaxError as error:
        raise mistake(f"{where}: {text!r} cannot be read: {error.msg}", write='"Class.attribute"') from None


def unknown_name(registry: Registry, where: str, text: str, name: str) -> ModelError:
    """Make the error for a name that is neither class nor table."""
    within = "" if name == text else f" in {text!r}"
    near = nearest(name, registry.classes) or nearest(name, registry.metadata.tables)
    if near is not None:
        happened = f"{where}: there is no class or table {name!r}{within} (did you mean {near!r}?)"
        return mistake(happened, write=text.replace(name, near))
    return ModelError(
        f"{where}: there is no class or table {name!r}{within}",
        mend=f"Import the module that declares {name} before the models are used; there are {listed(registry.classes)}.",
    )


def _unknown_attribute(where: str, text: str, error: AttributeError) -> ModelError:
    owner = error.obj if isinstance(error.obj, type) else type(error.obj)
    mapper = vars(owner).get("__declared__")
    columns = mapper.mapper.columns if mapper is not None and isinstance(mapper.mapper, Mapper) else {}
    near = did_you_mean(error.name or "", columns)
    guess = nearest(error.name or "", columns) or next(iter(columns), "attribute")
    return mistake(
        f"{where}: {owner.__name__} has no attribute {error.name!r}, as in {text!r}{near}",
        write=text.replace(error.name or "", guess),
    )
