"""Contracts for import-linter that it does not bring: entry by the door, the place of each guest, no rings.

The first two look at direct imports only: an import through somebody else is that somebody's import.
import-linter's own contract on rings counts imports that are there for the type checker; ours does not, for two
modules of one room may name each other's types.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import grimp
from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

Broken = list[str]


def find_side_entries(graph: ImportGraph, *, package: str, may_import_the_package: set[str]) -> Broken:
    """List the imports that enter a room by another way than its ``__init__``, or go back to the package."""
    broken = []
    for importer, imported in _internal_imports(graph, package):
        room, target = _room(importer), _room(imported)
        if room == target:
            continue
        if not target and room not in may_import_the_package:
            broken.append(f"{importer} imports {package} itself{_lines(graph, importer, imported)}")
        elif imported.count(".") > 1:
            door = f"{package}.{target}"
            broken.append(
                f"{importer} imports {imported}; what it needs belongs into {door}{_lines(graph, importer, imported)}"
            )
    return broken


def find_strayed_guests(graph: ImportGraph, *, package: str, guests: dict[str, list[str]]) -> Broken:
    """List the imports of a guest library outside the modules that may know it."""
    return [
        f"{importer} imports {library}{_lines(graph, importer, library)}"
        for library, places in sorted(guests.items())
        if library in graph.modules
        for importer in sorted(graph.find_modules_that_directly_import(library))
        if importer.split(".")[0] == package and not any(fnmatchcase(importer, place) for place in places)
    ]


def find_rings(graph: ImportGraph, *, package: str) -> Broken:
    """List imports whose removal would leave no ring among the modules of any one folder."""
    folders = sorted(
        name for name in graph.modules if name.split(".")[0] == package and graph.find_children(name)
    )
    return [
        f"{folder}: {importer} imports {imported}"
        for folder in folders
        for importer, imported in sorted(graph.nominate_cycle_breakers(folder))
    ]


def _internal_imports(graph: ImportGraph, package: str) -> list[tuple[str, str]]:
    inside = sorted(name for name in graph.modules if name.split(".")[0] == package)
    return [
        (importer, imported)
        for importer in inside
        for imported in sorted(graph.find_modules_directly_imported_by(importer))
        if imported.split(".")[0] == package
    ]


def _room(module: str) -> str:
    """Name the room a module lives in; the package's own ``__init__`` lives in none."""
    _, _, rest = module.partition(".")
    return rest.split(".")[0]


def _lines(graph: ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    return "".join(f" (line {detail['line_number']})" for detail in details[:1])


class _ListingContract(Contract):
    """A contract whose verdict is a list of sentences."""

    def find_broken(self, graph: ImportGraph, package: str) -> Broken:
        raise NotImplementedError

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        options: dict[str, Any] = self.session_options
        broken = [line for package in options["root_packages"] for line in self.find_broken(graph, package)]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["broken"]:
            output.print_error(f"- {line}")


class EntryContract(_ListingContract):
    type_name = "entry"

    may_import_the_package = fields.SetField(subfield=fields.StringField(), required=False)

    def find_broken(self, graph: ImportGraph, package: str) -> Broken:
        allowed: Any = self.may_import_the_package
        return find_side_entries(graph, package=package, may_import_the_package=set(allowed or ()))


class GuestsContract(_ListingContract):
    type_name = "guests"

    guests = fields.ListField(subfield=fields.StringField())

    def find_broken(self, graph: ImportGraph, package: str) -> Broken:
        lines: Any = self.guests
        table = {}
        for line in lines:
            library, _, places = line.partition("->")
            table[library.strip()] = places.split()
        return find_strayed_guests(graph, package=package, guests=table)


class RingsContract(_ListingContract):
    type_name = "rings"

    def find_broken(self, graph: ImportGraph, package: str) -> Broken:
        return find_rings(
            grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None), package=package
        )
