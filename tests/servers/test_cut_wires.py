"""A wire that is cut at any byte: the error says what became of the work, and it is true.

Done and not done must never be wrong; unknown is said only where a client cannot know, which is between the first byte
of COMMIT and the last of its answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import ForeignKey, String, text

from holdfast import AsyncDatabase, Database, DeclarativeBase, Mapped, mapped_column, relationship
from holdfast.errors import CommitOutcomeUnknown, ConnectionLost, HoldfastError, Outcome
from tests.conftest import open_mariadb
from tests.servers.wire import CLOSE, DOWN, RESET, SILENCE, UP, Count, Wire

NIGHTLY = bool(os.environ.get("HOLDFAST_NIGHTLY"))
KINDS = ["psycopg", "psycopg async", "asyncpg", "pymysql", "asyncmy"]


@dataclass(frozen=True)
class Server:
    """A COMMIT on the wire, in bytes, and what a witness asks."""

    name: str
    commit: int
    answer: int
    process: str
    lives: str


POSTGRESQL = Server(
    "postgresql",
    12,  # a letter, a length, the text and its end
    18,
    "SELECT pg_backend_pid()",
    "SELECT count(*) FROM pg_stat_activity WHERE pid = %s",
)
MARIADB = Server(
    "mariadb",
    11,  # a length, a number, a letter, the text
    11,
    "SELECT CONNECTION_ID()",
    "SELECT count(*) FROM information_schema.processlist WHERE id = %s",
)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    posts: Mapped[list[Post]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")


def server_of(kind: str) -> Server:
    return MARIADB if kind in ("pymysql", "asyncmy") else POSTGRESQL


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{server_of(kind).name}_url"))


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    with Database(url) as db:
        db.create_all(Base)
    with Wire(url) as opened:
        yield opened


class Witness:
    """Another connection, which does not go through the wire."""

    def __init__(self, url: str, server: Server) -> None:
        self._server = server
        self._connection: Any = (
            psycopg.connect(url, autocommit=True) if server is POSTGRESQL else open_mariadb(url)
        )

    def _ask(self, sql: str, *params: Any) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchone()[0]

    def has(self, name: str, process: int) -> bool:
        """Whether a user is there with all posts, or nothing of it; asked when the process of the cut session is gone."""
        deadline = time.monotonic() + 30
        while self._ask(self._server.lives, process):
            assert time.monotonic() < deadline, "the server's process outlives its wire"
            time.sleep(0.002)  # the pace of asking
        users = self._ask("SELECT count(*) FROM users WHERE name = %s", name)
        posts = self._ask("SELECT count(*) FROM posts WHERE title = %s", name)
        assert (users, posts) in {(0, 0), (1, 2)}
        return bool(users)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def witness(url: str, kind: str) -> Iterator[Witness]:
    opened = Witness(url, server_of(kind))
    yield opened
    opened.close()


class Writer:
    """Writes a user with two posts through a wire, on one of the doors; answers the error and the server's process."""

    def __init__(self, kind: str, wire: Wire, **options: Any) -> None:
        driver = kind.split(maxsplit=1)[0]
        url = wire.through(driver)
        self.blocking = kind in ("psycopg", "pymysql")
        self.server = server_of(kind)
        self.db: Any = Database(url, **options) if self.blocking else AsyncDatabase(url, **options)

    async def _wait(self, given: Any) -> Any:
        return given if self.blocking else await given

    async def write(
        self, name: str, arm: Callable[[], None], *, flush_first: bool = True
    ) -> tuple[HoldfastError | None, int]:
        """``arm`` is called when only COMMIT is left, or before BEGIN where nothing is to be flushed first."""
        session = self.db.session()
        try:
            process = await self._wait(session.scalar(text(self.server.process)))
            session.add(User(name=name, posts=[Post(title=name), Post(title=name)]))
            if flush_first:
                await self._wait(session.flush())
            arm()
            try:
                await self._wait(session.commit())
            except HoldfastError as error:
                await self._wait(session.rollback())
                return error, process
            return None, process
        finally:
            await self._wait(session.close())

    async def close(self) -> None:
        in_use = self.db.pool.stats().in_use
        await self._wait(self.db.close())
        assert in_use == 0


async def measure(kind: str, wire: Wire, *, flush_first: bool) -> Count:
    """How many bytes an uncut exchange has, each way."""
    writer = Writer(kind, wire)
    error, _ = await writer.write("uncut", wire.measure, flush_first=flush_first)
    count = wire.count
    await writer.close()
    assert error is None
    return count


def stride_of(number: int) -> int:
    """Every byte at night, some two dozen of them by day."""
    return 1 if NIGHTLY else 1 + number // 24


@pytest.mark.parametrize("how", [RESET, CLOSE])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_outcome_of_a_commit_cut_at_any_byte_is_true(
    kind: str, how: str, wire: Wire, witness: Witness
) -> None:
    bytes_ = await measure(kind, wire, flush_first=True)
    commit_bytes = server_of(kind).commit
    assert bytes_.up == commit_bytes
    cuts = [(UP, n) for n in range(bytes_.up + 1)] + [(DOWN, n) for n in range(1, bytes_.down + 1)]

    for direction, after in cuts:
        writer, name = Writer(kind, wire), f"{direction} {after}"
        error, process = await writer.write(name, lambda: wire.arm(direction, after, how))  # noqa: B023
        done = witness.has(name, process)
        await writer.close()

        assert done is (direction == DOWN or after == commit_bytes), name
        if error is None:
            assert (direction, after) == (DOWN, bytes_.down), name
            continue
        known = (direction, after) == (UP, 0)
        assert type(error) is (ConnectionLost if known else CommitOutcomeUnknown), name
        assert error.outcome is (Outcome.NOT_DONE if known else Outcome.UNKNOWN), name


@pytest.mark.parametrize("how", [RESET, CLOSE])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_cut_before_commit_was_sent_is_not_done(
    kind: str, how: str, wire: Wire, witness: Witness
) -> None:
    bytes_ = await measure(kind, wire, flush_first=False)
    before, stride = bytes_.up - server_of(kind).commit, stride_of(bytes_.up)

    for after in sorted({*range(1, before, stride), before - 1, before}):  # a cut at 0 is the next test's
        writer, name = Writer(kind, wire), f"flush {after}"
        error, process = await writer.write(name, lambda: wire.arm(UP, after, how), flush_first=False)  # noqa: B023
        assert not witness.has(name, process), name
        await writer.close()

        assert isinstance(error, ConnectionLost), name
        assert error.outcome is Outcome.NOT_DONE, name


@pytest.mark.parametrize("how", [RESET, CLOSE])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_cut_before_anything_was_sent_is_noticed_and_does_no_harm(
    kind: str, how: str, wire: Wire, witness: Witness
) -> None:
    writer = Writer(kind, wire)

    error, process = await writer.write("whole", lambda: wire.arm(UP, 0, how), flush_first=False)

    assert error is None
    assert witness.has("whole", process)
    assert writer.db.pool.stats().opened == 2
    await writer.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_cut_before_commit_was_sent_is_not_done(
    kind: str, wire: Wire, witness: Witness
) -> None:
    bytes_ = await measure(kind, wire, flush_first=False)
    answer_of_commit, stride = server_of(kind).answer, stride_of(bytes_.down)

    for after in range(1, bytes_.down - answer_of_commit, stride):
        writer, name = Writer(kind, wire), f"answer {after}"
        error, process = await writer.write(name, lambda: wire.arm(DOWN, after, RESET), flush_first=False)  # noqa: B023
        assert not witness.has(name, process), name
        await writer.close()

        assert isinstance(error, ConnectionLost), name
        assert error.outcome is Outcome.NOT_DONE, name


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_cut_the_same_database_works_on(kind: str, wire: Wire, witness: Witness) -> None:
    writer = Writer(kind, wire)

    cut, process = await writer.write("first", lambda: wire.arm(UP, 5, RESET))
    gone = not witness.has("first", process)
    again, _ = await writer.write("first", wire.measure)

    await writer.close()
    assert isinstance(cut, ConnectionLost)
    assert gone
    assert again is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wire_that_gives_crumbs_changes_nothing(kind: str, wire: Wire, witness: Witness) -> None:
    wire.chunk_bytes = 1
    writer = Writer(kind, wire)

    error, process = await writer.write("crumbs", wire.measure, flush_first=False)

    await writer.close()
    assert error is None
    assert witness.has("crumbs", process)


LATE = {
    "asyncpg": {"command_timeout": 0.3},
    "pymysql": {"read_timeout": 0.3},
    "asyncmy": {"read_timeout": 0.3},
}


@pytest.mark.parametrize("kind", LATE)
async def test_a_commit_whose_answer_is_late_is_unknown(kind: str, wire: Wire, witness: Witness) -> None:
    writer = Writer(kind, wire, connect_args=LATE[kind])

    error, process = await writer.write("late", lambda: wire.arm(UP, server_of(kind).commit, SILENCE))

    wire.measure()
    await writer.close()
    assert isinstance(error, CommitOutcomeUnknown)
    assert error.outcome is Outcome.UNKNOWN
    assert witness.has("late", process) in {True, False}
