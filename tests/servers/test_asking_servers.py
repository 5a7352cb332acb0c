"""The forms of `tests.rooms.asking_forms` on PostgreSQL and MariaDB, by every driver, beside SQLAlchemy's ORM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import delete, insert, update

from holdfast import AsyncDatabase, Database, select
from tests.conftest import own_database
from tests.rooms import asking_forms, changing_forms
from tests.rooms.oracle import Pair, Side, names, plain


def without(forms: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    assert names <= forms.keys()
    return {name: form for name, form in forms.items() if name not in names}


FORMS = {
    "postgresql": {**asking_forms.FORMS, **asking_forms.ON_POSTGRESQL},
    "mariadb": without(asking_forms.FORMS, asking_forms.NOT_ON_MARIADB) | asking_forms.ON_MARIADB,
}
CHANGES = {
    "postgresql": {**changing_forms.CHANGES, **changing_forms.ON_POSTGRESQL},
    "mariadb": without(changing_forms.CHANGES, changing_forms.NOT_ON_MARIADB) | changing_forms.ON_MARIADB,
}
ASYNC = {"postgresql": ["asyncpg", "psycopg"], "mariadb": ["asyncmy"]}


def each(forms: dict[str, dict[str, Any]]) -> Any:
    """All forms of each server."""
    return pytest.mark.parametrize(
        ("pair", "name"),
        [
            pytest.param(server, name, marks=getattr(pytest.mark, server), id=f"{server}-{name}")
            for server, known in forms.items()
            for name in known
        ],
        indirect=["pair"],
    )


def each_async() -> Any:
    """Each async driver of each server."""
    return pytest.mark.parametrize(
        ("pair", "driver"),
        [
            pytest.param(server, driver, marks=getattr(pytest.mark, server), id=driver)
            for server, drivers in ASYNC.items()
            for driver in drivers
        ],
        indirect=["pair"],
    )


@pytest.fixture(scope="module")
def _pairs(request: pytest.FixtureRequest) -> Iterator[dict[str, Pair]]:
    with ExitStack() as stack:
        yield _Pairs(request, stack)


class _Pairs(dict[str, Pair]):
    """The shop on each server, made when it is first asked for."""

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        self.request = request
        self.stack = stack

    def __missing__(self, server: str) -> Pair:
        url = self.request.getfixturevalue(f"{server}_server")
        own = self.stack.enter_context(own_database(url, f"holdfast_asking_{os.getpid()}"))
        made = self[server] = Pair(own)
        self.stack.callback(made.close)
        return made


@pytest.fixture
def pair(_pairs: dict[str, Pair], request: pytest.FixtureRequest) -> Pair:
    return _pairs[request.param]


def server_of(pair: Pair) -> str:
    return pair.url.partition("://")[0]


def answer(side: Side, result: Any) -> tuple[list[str], set[str]]:
    keys = names(result)
    return sorted(map(repr, plain(result.all()))), keys


def expected(pair: Pair, name: str) -> tuple[list[str], set[str]]:
    form = FORMS[server_of(pair)][name]
    return pair.ask_theirs(lambda side, session: answer(side, session.execute(form(side))))


@each(FORMS)
def test_a_form_answers_as_the_oracle_does(pair: Pair, name: str) -> None:
    rows, keys = expected(pair, name)
    form = FORMS[server_of(pair)][name]

    for _ in range(2):
        ours, our_keys = pair.ask_ours(lambda side, session: answer(side, session.execute(form(side))))

        assert ours == rows
        assert keys <= our_keys


@each(CHANGES)
def test_a_change_does_what_the_oracle_does(pair: Pair, name: str) -> None:
    change = CHANGES[server_of(pair)][name]
    wanted = pair.ask_theirs(change)

    for _ in range(2):
        assert pair.ask_ours(change) == wanted


@each_async()
async def test_async_drivers_answer_as_the_oracle_does(pair: Pair, driver: str) -> None:
    wrong = {}
    server = server_of(pair)
    async with AsyncDatabase(pair.url.replace(f"{server}://", f"{server}+{driver}://")) as db:
        for name, form in FORMS[server].items():
            rows, _ = expected(pair, name)
            async with db.session() as session:
                found = answer(pair.ours, await session.execute(form(pair.ours)))
            if found[0] != rows:
                wrong[name] = (found[0], rows)

    assert wrong == {}


@pytest.mark.parametrize("pair", list(FORMS), indirect=True)
def test_a_locked_row_is_fresh(pair: Pair) -> None:
    m = pair.ours
    with pair.db.session() as session, Database(pair.url) as other:
        tag = session.get(m.Tag, 4)
        with other.begin() as writer:
            writer.execute(update(m.Tag).where(m.Tag.id == 4).values(name="fresh"))

        assert session.scalars(select(m.Tag).where(m.Tag.id == 4)).one().name == "t4"
        assert session.scalars(select(m.Tag).where(m.Tag.id == 4).with_for_update()).one() is tag

        assert tag.name == "fresh"
        session.execute(sa.text("UPDATE tags SET name = 't4' WHERE id = 4"))
        session.commit()


@each_async()
async def test_changes_by_async_drivers(pair: Pair, driver: str) -> None:
    m = pair.ours
    server = server_of(pair)
    url = pair.url.replace(f"{server}://", f"{server}+{driver}://")
    async with AsyncDatabase(url) as db, db.session() as session:
        users = (await session.scalars(select(m.User).order_by(m.User.id))).all()
        rows = [{"id": 90 + n, "name": f"u{n}", "meta": {"n": n}} for n in range(3)]

        made = (await session.scalars(insert(m.User).returning(m.User), rows)).all()
        changed = await session.execute(update(m.User).where(m.User.id < 3).values(age=7, meta={"x": [1]}))
        await session.execute(update(m.User), [{"id": 3, "name": "Three"}, {"id": 4, "name": "Four"}])
        gone = await session.execute(delete(m.User).where(m.User.id >= 90))

        assert [(user.name, user.meta, user.motto) for user in made] == [
            (f"u{n}", {"n": n}, "none") for n in range(3)
        ]
        assert (changed.rowcount, gone.rowcount) == (2, 3)
        assert [(user.age, user.name) for user in users] == [
            (7, "Ada"),
            (7, "Bob"),
            (None, "Three"),
            (36, "Four"),
        ]
        assert users[0].meta == {"x": [1]}
        assert [user in session for user in made] == [False] * 3
        await session.rollback()
        assert (users[0].age, users[0].meta["a"], users[3].name) == (36, [1, 2], "Dan")
