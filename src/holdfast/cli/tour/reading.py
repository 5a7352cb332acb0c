"""What `importlib.metadata` tells of this machine's packages, as objects that are not saved yet.

Metadata is other people's text: what cannot be read is left out and counted, and no file of a package is run.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import getaddresses
from importlib.metadata import Distribution, PackagePath, distributions
from pathlib import Path
from typing import Any

from .models import Author, Classifier, File, Package, Requirement

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@dataclass(slots=True)
class Catalogue:
    """What was found.  ``unreadable`` counts packages with broken metadata, ``left_out`` those beyond the limit."""

    packages: list[Package] = field(default_factory=list)
    unreadable: int = 0
    left_out: int = 0
    _classifiers: dict[str, Classifier] = field(default_factory=dict)
    _authors: dict[str, Author] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows it will be, association rows included."""
        own = len(self.packages) + len(self._classifiers) + len(self._authors)
        return own + sum(
            len(p.files) + len(p.requirements) + len(p.classifiers) + len(p.authors) + len(p.needs)
            for p in self.packages
        )

    def classifier(self, name: str) -> Classifier:
        return self._classifiers.setdefault(name, Classifier(name=name))

    def author(self, name: str) -> Author:
        return self._authors.setdefault(name, Author(name=name))


def read_catalogue(
    found: Iterable[Distribution], *, most_files: int, told: Callable[[str, int], None]
) -> Catalogue:
    """Read packages as long as they have room in ``most_files`` files; ``told`` hears each package's name and number of files."""
    catalogue, room = Catalogue(), most_files
    by_name: dict[str, Package] = {}
    for distribution in found:
        paths = _paths(distribution)
        if paths is None:
            catalogue.unreadable += 1
            continue
        key = normalized(_header(distribution, "Name"))
        if key in by_name:  # seen already, earlier on the path: that one is imported
            continue
        if len(paths) > room:
            catalogue.left_out += 1
            continue
        room -= len(paths)
        by_name[key] = package = _read(distribution, paths, catalogue)
        told(package.name, len(paths))
    catalogue.packages = list(by_name.values())
    _link(by_name)
    return catalogue


def find_distributions() -> Iterator[Distribution]:
    """The packages that this Python, and the one it was made from, can import."""
    base: dict[str, Any] = {
        "base": sys.base_prefix,
        "platbase": sys.base_prefix,
        "installed_base": sys.base_prefix,
    }
    paths = [*sys.path, sysconfig.get_path("purelib", vars=base), sysconfig.get_path("platlib", vars=base)]
    return iter(distributions(path=list(dict.fromkeys(paths))))


def normalized(name: str) -> str:
    """A name as indexes compare it: https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


def _paths(distribution: Distribution) -> list[PackagePath] | None:
    """The files of a package; None where its metadata is broken."""
    try:
        named = _header(distribution, "Name") and _header(distribution, "Version")
        return list(distribution.files or ()) if named else None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None


def _read(distribution: Distribution, paths: list[PackagePath], catalogue: Catalogue) -> Package:
    metadata = distribution.metadata
    files = [File(path=_clean(str(path)), size_bytes=_size(path), sha256=_sha256(path)) for path in paths]
    names = {_clean(text) for text in metadata.get_all("Classifier") or ()}
    return Package(
        name=_header(distribution, "Name")[:120],
        version=_header(distribution, "Version")[:120],
        summary=_optional(_header(distribution, "Summary")),
        license=_read_license(distribution, names),
        requires_python=_optional(_header(distribution, "Requires-Python")),
        size_bytes=sum(file.size_bytes or 0 for file in files),
        installed_at=_read_date(distribution),
        files=files,
        requirements=[_read_requirement(text) for text in distribution.requires or ()],
        classifiers=[catalogue.classifier(name) for name in sorted(names)],
        authors=[catalogue.author(name) for name in _read_authors(distribution)],
    )


def _size(path: PackagePath) -> int | None:
    if path.size is not None:
        return path.size
    try:
        return Path(str(path.locate())).stat().st_size
    except OSError:
        return None


def _sha256(path: PackagePath) -> str | None:
    said = path.hash
    return said.value[:64] if said is not None and said.mode == "sha256" else None


def _read_license(distribution: Distribution, classifiers: Iterable[str]) -> str | None:
    for header in ("License-Expression", "License"):
        lines = _header(distribution, header).strip().splitlines()
        if lines and 1 < len(lines[0]) <= 60 and len(lines) < 3:
            return lines[0].strip()
    said = [name.split(" :: ")[-1] for name in classifiers if name.startswith("License :: ")]
    return min(said, default=None)


def _read_date(distribution: Distribution) -> datetime:
    """When its metadata was written here."""
    place = getattr(distribution, "_path", None)
    seconds = place.stat().st_mtime if isinstance(place, Path) else 0
    return datetime.fromtimestamp(int(seconds), UTC)


def _read_authors(distribution: Distribution) -> list[str]:
    metadata = distribution.metadata
    texts: list[str] = []
    for header in ("Author-email", "Maintainer-email"):
        texts += [name for name, _ in getaddresses([_clean(t) for t in metadata.get_all(header) or ()])]
    for header in ("Author", "Maintainer"):
        texts += [_clean(text) for text in metadata.get_all(header) or ()]
    names = [" ".join(part.split()).strip('"') for text in texts for part in re.split(r",| and ", text)]
    return list(dict.fromkeys(name for name in names if name and name != "UNKNOWN"))


def _read_requirement(text: str) -> Requirement:
    text = _clean(text)
    found, extra = _REQUIREMENT.match(text), _EXTRA.search(text.partition(";")[2])
    name = found[1][:120] if found else text[:120]
    return Requirement(name=name, text=text, extra=extra[1] if extra else None)


def _link(by_name: dict[str, Package]) -> None:
    """Lead requirements to the packages they name; one that is not here leads to None."""
    for package in by_name.values():
        for requirement in package.requirements:
            target = by_name.get(normalized(requirement.name))
            requirement.target = target
            if target is None or target is package or requirement.extra is not None:
                continue
            if target not in package.needs:
                package.needs.append(target)


def _header(distribution: Distribution, name: str) -> str:
    """The first header of a name; empty where there is none."""
    return _clean((distribution.metadata.get_all(name) or [""])[0])


def _optional(text: str) -> str | None:
    text = text.strip()
    return text if text and text != "UNKNOWN" else None


def _clean(text: str) -> str:
    """Text as every database can store it."""
    return str(text).replace("\0", "").encode("utf-8", "replace").decode()
