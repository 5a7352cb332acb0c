"""The error family: texts, facts, and what never shows."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest
import sqlalchemy.exc

import holdfast.errors as room
from holdfast.errors import HoldfastError, Outcome

FAMILY = [getattr(room, name) for name in room.__all__ if name != "Outcome"]
PAGES = Path(__file__).parents[2] / "docs" / "errors"


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_every_code_has_a_page(kind: type[HoldfastError]) -> None:
    page = PAGES / f"{kind.code}.md"

    assert page.exists()
    assert page.read_text().startswith(f"# {kind.code}\n")


def test_codes_are_given_once() -> None:
    codes = [kind.code for kind in FAMILY]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_an_error_says_what_happened_how_to_mend_and_its_code(kind: type[HoldfastError]) -> None:
    names = "server reason library extra model name feature in_use waiting filename line event"
    facts = dict.fromkeys(names.split(), "x")

    error = kind(seconds=30.0, **facts)

    assert str(error).startswith(error.happened)
    assert error.mend in str(error)
    assert f"[{kind.code}: docs/errors/{kind.code}.md]" in str(error)
    assert "<" not in error.happened
    assert error.outcome is (Outcome.UNKNOWN if kind is room.CommitOutcomeUnknown else Outcome.NOT_DONE)


def test_facts_are_attributes_and_named_in_the_text() -> None:
    error = room.UniqueViolation(table="users", columns=("email",), constraint="uq_users_email")

    assert (error.table, error.columns, error.constraint) == ("users", ("email",), "uq_users_email")
    assert "(table users, column email, constraint uq_users_email)" in str(error)


def test_a_missing_fact_does_not_hide_the_error() -> None:
    assert "<model>" in str(room.UnknownAttribute(name="nmae"))


def test_the_drivers_exception_is_kept_but_not_printed() -> None:
    error = room.UniqueViolation(orig=ValueError("secret"), statement="INSERT")

    told = "".join(traceback.format_exception(error)) + repr(error)

    assert "secret" not in told
    assert isinstance(error.orig, ValueError)


def test_an_error_survives_pickling_without_the_drivers_exception() -> None:
    error = room.PoolTimeout(seconds=1.0, in_use=2, waiting=3, orig=ValueError("secret"))

    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), copy.in_use, copy.orig) == (str(error), 2, None)


def test_sqlalchemys_names_catch_ours() -> None:
    with pytest.raises(sqlalchemy.exc.NoResultFound):
        raise room.NoResultFound
    with pytest.raises(sqlalchemy.exc.MultipleResultsFound):
        raise room.MultipleResultsFound
