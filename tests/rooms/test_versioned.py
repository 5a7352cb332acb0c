"""How a class declares its version; what a flush does with it is in tests/servers/test_versions.py."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Table

from holdfast import DeclarativeBase, Mapped, Versioned, declared_attr, mapped_column
from holdfast.errors import ModelError
from holdfast.model import mapper_of


class Base(DeclarativeBase):
    pass


def declare(called: str, *bases: type[Any], **body: Any) -> Any:
    class Own(DeclarativeBase):
        pass

    body = {"__tablename__": "things", "id": mapped_column(primary_key=True), **body}
    body["__annotations__"] = {"id": Mapped[int], **body.get("__annotations__", {})}
    return type(called, (*bases, Own), body)


def test_the_mixin_gives_a_column_that_counts_from_1_and_stands_last() -> None:
    thing = declare("Thing", Versioned, name=mapped_column(), __annotations__={"name": Mapped[str]})
    column = thing.__table__.c.version

    assert mapper_of(thing).version.name == "version"
    assert list(thing.__table__.c.keys()) == ["id", "name", "version"]
    assert (column.nullable, column.default.arg, column.server_default.arg.text) == (False, 1, "1")


def test_the_column_may_be_declared_anew() -> None:
    thing = declare(
        "Thing", Versioned, version=mapped_column("row_version"), __annotations__={"version": Mapped[int]}
    )

    assert mapper_of(thing).version.name == "version"
    assert "row_version" in thing.__table__.c
    assert thing.__table__.c.row_version.default.arg == 1


def test_sqlalchemys_form_takes_the_column_as_declared_or_a_name() -> None:
    for by_name in (False, True):
        revision = mapped_column()
        said = "revision" if by_name else revision
        thing = declare(
            "Thing",
            revision=revision,
            __mapper_args__={"version_id_col": said},
            __annotations__={"revision": Mapped[int]},
        )

        assert mapper_of(thing).version.name == "revision"


def test_a_mixin_of_the_user_may_say_it() -> None:
    class Revised:
        revision: Mapped[int] = mapped_column()

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - SQLAlchemy's form
            return {"version_id_col": cls.revision}

    for name in ("One", "Two"):
        thing = declare(name, Revised)

        assert mapper_of(thing).version.name == "revision"


def test_a_column_of_a_given_table_may_be_the_version() -> None:
    from sqlalchemy import Column, Integer, MetaData

    table = Table("given", MetaData(), Column("id", Integer, primary_key=True), Column("revision", Integer))

    class Given(Base):
        __table__ = table
        __mapper_args__ = {"version_id_col": table.c.revision}  # noqa: RUF012

    assert mapper_of(Given).version.name == "revision"  # type: ignore[union-attr]


def test_without_either_there_is_none() -> None:
    thing = declare("Thing", version=mapped_column(), __annotations__={"version": Mapped[str]})

    assert mapper_of(thing).version is None


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no such column": (
        {"__mapper_args__": {"version_id_col": "verson"}, "__annotations__": {"version": Mapped[int]}},
        r"Thing has no column 'verson' \(did you mean 'version'\?\) for its version",
    ),
    "another class's column": (
        {"__mapper_args__": {"version_id_col": mapped_column()}},
        "Thing has no column what version_id_col names",
    ),
    "the key": ({"__mapper_args__": {"version_id_col": "id"}}, "Thing.id is the primary key"),
    "a text": (
        {"__mapper_args__": {"version_id_col": "mark"}, "__annotations__": {"mark": Mapped[str]}},
        "Thing.mark is no integer",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_the_line_to_write(case: str) -> None:
    body, told = MISTAKES[case]

    with pytest.raises(ModelError, match=told) as caught:
        declare("Thing", **body)

    assert caught.value.write in str(caught.value)  # type: ignore[attr-defined]
