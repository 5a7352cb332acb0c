"""Any model file with relations means here what it means under SQLAlchemy's ORM, or is refused by both.

Random files: up to three classes, foreign keys and relations between any of them, random options.
Three refusals are ours alone: see `OURS_ALONE`.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import ArgumentError, InvalidRequestError

from holdfast.errors import ModelError
from tests.rooms.model_files import load, relations_of, relations_of_orm

NAMES = "ABC"
OURS_ALONE = (
    " is a list, but its foreign key ",  # uselist on a many-to-one relation
    " go through different tables",  # one side has a table in the middle and the other has not
    " has no foreign key to ",  # a table in the middle, and a primaryjoin that does not touch it
)


class ModelFile:
    """A file under construction; every choice is drawn."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.names = NAMES[: data.draw(st.integers(1, 3), label="classes")]
        self.keys = [(self.one(self.names), self.one(self.names)) for _ in range(self.number(1, 4))]
        self.relations = [(self.one(self.names), self.one(self.names)) for _ in range(self.number(1, 4))]
        self.middle = (self.one(self.names), self.one(self.names)) if self.chance(3) else None
        self.sides = self._pair()

    def one(self, choices: Any) -> Any:
        return self.data.draw(st.sampled_from(list(choices)))

    def number(self, least: int, most: int) -> int:
        return self.data.draw(st.integers(least, most))

    def chance(self, of: int) -> bool:
        """Whether a thing of one in ``of`` happens; shrinks to no."""
        return self.data.draw(st.integers(0, of - 1)) == of - 1

    def _pair(self) -> dict[int, int]:
        sides: dict[int, int] = {}
        for index, (owner, target) in enumerate(self.relations):
            others = [
                other
                for other, pair in enumerate(self.relations)
                if pair == (target, owner) and other != index and other not in sides
            ]
            if index not in sides and others and self.chance(2):
                sides[index] = self.one(others)
                sides[sides[index]] = index
        return sides

    def source(self) -> str:
        lines = []
        if self.middle is not None:
            left, right = self.middle
            columns = f'Column("l", ForeignKey("t{left}.id"), primary_key=True), Column("r", ForeignKey("t{right}.id"), primary_key=True)'
            lines.append(f'm = Table("m", Base.metadata, {columns})')
        for name in self.names:
            lines += [f"class {name}(Base):", f'    __tablename__ = "t{name}"']
            lines.append("    id: Mapped[int] = mapped_column(primary_key=True)")
            for index, (owner, target) in enumerate(self.keys):
                if owner == name:
                    lines.append(
                        f'    f{index}: Mapped[int | None] = mapped_column(ForeignKey("t{target}.id"))'
                    )
            lines += [self.relation(index) for index, pair in enumerate(self.relations) if pair[0] == name]
        return "\n".join(lines)

    def relation(self, index: int) -> str:
        owner, target = self.relations[index]
        hint = self.one([f'list["{target}"]', f'"{target}"', f'"{target} | None"', f'set["{target}"]', None])
        options = [] if hint else [f'"{target}"']
        joining = [(n, a, b) for n, (a, b) in enumerate(self.keys) if {a, b} == {owner, target}]
        if joining and not self.chance(2):
            number, holder, _ = self.one(joining)
            options.append(f'foreign_keys="{holder}.f{number}"')
        if owner == target and self.chance(2):
            columns = ["id"] + [f"f{n}" for n, (a, _) in enumerate(self.keys) if a == owner]
            options.append(f'remote_side="{owner}.{self.one(columns)}"')
        if index in self.sides:
            options.append(f'back_populates="r{self.sides[index]}"')
        if joining and self.chance(5):
            number, holder, referred = self.one(joining)
            options.append(f'primaryjoin="{holder}.f{number} == {referred}.id"')
        if self.middle and self.chance(3):
            options.append('secondary="m"')
        if self.chance(4):
            options.append(f'cascade="{self.one(["all", "all, delete-orphan", "save-update"])}"')
        options += ["single_parent=True"] if self.chance(8) else []
        options += ["viewonly=True"] if self.chance(8) else []
        return f"    r{index}{f': Mapped[{hint}]' if hint else ''} = relationship({', '.join(options)})"


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_random_model_file_means_what_it_means_to_sqlalchemy(data: st.DataObject) -> None:
    source = ModelFile(data).source()

    theirs = outcome(source, "sqlalchemy.orm", relations_of_orm)
    ours = outcome(source, "holdfast.model", relations_of)

    if isinstance(ours, ModelError) and any(words in str(ours) for words in OURS_ALONE):
        return
    assert isinstance(ours, ModelError) == isinstance(theirs, Exception), (source, ours, theirs)
    if not isinstance(ours, ModelError):
        assert ours == theirs, source


def outcome(source: str, library: str, describe: Any) -> Any:
    try:
        module = load(source, library)
        module.Base.registry.configure()
    except (ModelError, ArgumentError, InvalidRequestError) as error:
        return error
    return describe(module)
