"""TOUR, block by block: it runs exactly as it stands, and what its comments promise is counted.

docs/tour.md is the project's copy.  It differs from the contract in hidden directives only: what has to be set up,
and which blocks a later release brings.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from holdfast.observe import StatementEnded
from tests.house.documentation import Block, read_blocks, run_blocks

COPY = Path(__file__).resolve().parents[2] / "docs/tour.md"
CONTRACT = COPY.parents[2] / "shared/TOUR.md"
DIRECTIVE = re.compile(r"<!-- run: .*?-->\n", re.DOTALL)
WRITTEN_POSTGRESQL = "postgresql://app@/app"
WRITTEN_SQLITE = "sqlite:///app.db"

Tell = Callable[..., ModuleType]


def section(name: str) -> list[Block]:
    """The blocks of one section; what they need stands in the sections before it."""
    text = COPY.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/tour.md has no section {name}"
    return list(read_blocks(found[0]))


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tell:
    """Run sections one after the other in one module; answers the module."""
    monkeypatch.chdir(tmp_path)

    def run(*names: str, server_url: str = "", written: str = WRITTEN_POSTGRESQL) -> ModuleType:
        module = ModuleType("tour")
        monkeypatch.setitem(sys.modules, "tour", module)
        replace = {written: server_url} if server_url else {}
        for name in names:
            run_blocks(section(name), filename=str(COPY), module=module, replace=replace)
        return module

    return run


@pytest.mark.skipif(not CONTRACT.exists(), reason="the contract is not beside this checkout")
def test_the_copy_is_the_contract() -> None:
    assert DIRECTIVE.sub("", COPY.read_text(encoding="utf-8")) == CONTRACT.read_text(encoding="utf-8")


def test_declare(tell: Tell) -> None:
    tour = tell("Declare")

    assert set(tour.Base.metadata.tables) == {"users", "posts", "tags", "post_tags"}


def test_blocking_on_sqlite(tell: Tell, tmp_path: Path) -> None:
    tour = tell("Declare", "Blocking")

    assert (tmp_path / "app.db").exists()
    assert tour.counts[0].posts == 2
    assert tour.db.dialect_name == "sqlite"
    tour.db.close()


def test_blocking_on_servers(tell: Tell, wired_url: str) -> None:
    tour = tell("Declare", "Blocking", server_url=wired_url, written=WRITTEN_SQLITE)

    assert tour.counts[0].posts == 2
    assert tour.db.dialect_name == wired_url.partition(":")[0]
    tour.db.close()


def test_async_on_servers(tell: Tell, wired_url: str) -> None:
    tour = tell("Declare", "Blocking", "Async", server_url=wired_url)

    assert tour.db.dialect_name == wired_url.partition(":")[0]
    assert tour.users[0].posts == []


def test_the_pool(tell: Tell, postgresql_url: str) -> None:
    tour = tell("The pool", server_url=postgresql_url)

    assert tour.db.pool.stats().limit == 30
    assert str(tour.db.pool.advice()).startswith("pool_size=")
    tour.db.close()


def test_transactions_on_servers(tell: Tell, wired_url: str) -> None:
    tour = tell("Declare", "Transactions", server_url=wired_url)

    with tour.Database(wired_url) as db, db.session() as session:
        balances = [account.balance for account in session.scalars(tour.select(tour.Account))]
        orders = session.scalars(tour.select(tour.Order)).all()
        item = session.get_one(tour.Item, 7)
    assert balances == [50, 100]
    assert tour.told == [2]
    assert {order.id for order in orders} == {tour.order.id, tour.gift.id}
    assert (tour.sold, item.quantity, item.version) == (1, 0, 2)


def test_one_query_serves_the_posts_of_all_users_and_one_their_tags(tell: Tell) -> None:
    tour = tell("Declare", "Blocking")
    with tour.db.begin() as session:
        tags = [tour.Tag(name="a"), tour.Tag(name="b")]
        posts = [tour.Post(title=f"{n}", tags=tags) for n in range(20)]
        session.add_all(tour.User(email=f"{n}", name="x", posts=posts[n::10]) for n in range(10))
    sent: list[str] = []
    remove = tour.db.observers.add(lambda e: sent.append(e.sql) if isinstance(e, StatementEnded) else None)

    with tour.db.session() as session:
        names = [
            tag.name
            for user in session.scalars(tour.select(tour.User).order_by(tour.User.id))
            for post in user.posts
            for tag in post.tags
        ]

    remove()
    assert len(names) == 40
    assert len(sent) == 3
    tour.db.close()
