"""Every form of statement answers what SQLAlchemy's ORM answers, on the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rooms.asking_forms import FORMS
from tests.rooms.oracle import Pair, Side, plain


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path: Path = tmp_path_factory.mktemp("asking")
    made = Pair(f"sqlite:///{path / 'shop.db'}")
    yield made
    made.close()


@pytest.mark.parametrize("name", FORMS)
def test_a_form_answers_as_the_oracle_does(pair: Pair, name: str) -> None:
    def ask(side: Side, session: Any) -> Any:
        return sorted(map(repr, plain(session.execute(FORMS[name](side)).all())))

    pair.same(ask)
