"""A queue in a table: eight workers take each job once, and the job of a worker that dies goes back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import TextClause, func, text, update

from holdfast import (
    AsyncDatabase,
    AsyncSession,
    Database,
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    select,
)
from holdfast.errors import ConnectionLost, DeadlockDetected
from tests.conftest import SESSION_NUMBER, end_session, without_driver

JOBS, WORKERS = 80, 8
DEADLY = {3, 20, 21, 40, JOBS}
"""Jobs whose first worker dies over them."""


class Base(DeclarativeBase):
    pass


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="new")


class Done(Base):
    """One row for each time a job was done: twice would show."""

    __tablename__ = "done"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int]
    worker: Mapped[int]


FREE = select(Job).where(Job.state == "new").order_by(Job.id).limit(1)
TAKE = FREE.with_for_update(skip_locked=True)
WAIT = FREE.with_for_update()
"""When all that is left is in others' hands: wait for one of them to be done, or to give its job back."""

TAKE_BY_UPDATE = (
    update(Job)
    .where(Job.id == select(Job.id).where(Job.state == "new").order_by(Job.id).limit(1).scalar_subquery())
    .values(state="done")
    .returning(Job.id)
)
"""The way of SQLite, where one transaction writes at a time and nobody can skip."""


class Deaths:
    """Ends the connection of a worker over each deadly job, once."""

    def __init__(self, url: str) -> None:
        self.url = without_driver(url)
        self.left = set(DEADLY)

    @property
    def number(self) -> TextClause:
        return text(SESSION_NUMBER[self.url.partition(":")[0]])

    def kill(self, job_id: int, number: int) -> None:
        if job_id in self.left:
            self.left.discard(job_id)
            end_session(self.url, number)


def fill(url: str) -> None:
    with Database(url) as db:
        db.create_all(Base)
        with db.begin() as session:
            session.add_all([Job(id=n) for n in range(1, JOBS + 1)])


def assert_each_job_was_done_once(url: str) -> None:
    with Database(url) as db, db.session() as session:
        done = Counter(session.scalars(select(Done.job_id)))
        assert done == Counter(range(1, JOBS + 1))
        assert set(session.scalars(select(Job.state))) == {"done"}


# ---------------------------------------------------------------- PostgreSQL, MariaDB: SKIP LOCKED


def work(session: Session, worker: int, deaths: Deaths) -> bool:
    """Do one job; answers whether there may be more."""
    job = session.scalars(TAKE).first() or session.scalars(WAIT).first()
    if job is None:
        return session.scalar(select(func.count()).where(Job.state == "new")) != 0
    deaths.kill(job.id, session.scalar(deaths.number))  # type: ignore[arg-type]
    job.state = "done"
    session.add(Done(job_id=job.id, worker=worker))
    return True


def run_worker(db: Database, worker: int, deaths: Deaths) -> int:
    """Work until there is nothing left; answers how often the worker died."""
    died = 0
    while True:
        try:
            with db.begin() as session:
                more = work(session, worker, deaths)
        except ConnectionLost:
            died += 1
        except DeadlockDetected:  # InnoDB's; the job is free again
            continue
        else:
            if not more:
                return died


def test_eight_threads_do_each_job_once_though_some_die(wired_url: str) -> None:
    fill(wired_url)
    deaths = Deaths(wired_url)
    with Database(wired_url, pool_size=WORKERS) as db, ThreadPoolExecutor(WORKERS) as threads:
        died = sum(threads.map(lambda worker: run_worker(db, worker, deaths), range(WORKERS)))

    assert died == len(DEADLY)
    assert_each_job_was_done_once(wired_url)


async def work_async(session: AsyncSession, worker: int, deaths: Deaths) -> bool:
    job = (await session.scalars(TAKE)).first() or (await session.scalars(WAIT)).first()
    if job is None:
        return await session.scalar(select(func.count()).where(Job.state == "new")) != 0
    number = await session.scalar(deaths.number)
    await asyncio.to_thread(deaths.kill, job.id, number)  # type: ignore[arg-type]
    job.state = "done"
    session.add(Done(job_id=job.id, worker=worker))
    return True


async def run_worker_async(db: AsyncDatabase, worker: int, deaths: Deaths) -> int:
    died = 0
    while True:
        try:
            async with db.begin() as session:
                more = await work_async(session, worker, deaths)
        except ConnectionLost:
            died += 1
        except DeadlockDetected:  # InnoDB's; the job is free again
            continue
        else:
            if not more:
                return died


async def test_eight_tasks_do_each_job_once_though_some_die(async_wired_url: str) -> None:
    url = without_driver(async_wired_url)
    fill(url)
    deaths = Deaths(url)
    async with AsyncDatabase(async_wired_url, pool_size=WORKERS) as db:
        died = await asyncio.gather(*(run_worker_async(db, worker, deaths) for worker in range(WORKERS)))

    assert sum(died) == len(DEADLY)
    assert_each_job_was_done_once(url)


def test_without_a_lock_two_workers_take_the_same_job(wired_url: str) -> None:
    """What SKIP LOCKED is for."""
    fill(wired_url)
    with Database(wired_url) as db, db.begin() as first, db.begin() as second:
        naive = first.scalars(FREE).one().id, second.scalars(FREE).one().id
        assert naive == (1, 1)

        locked = first.scalars(TAKE).one().id, second.scalars(TAKE).one().id

        assert locked == (1, 2)


# ---------------------------------------------------------------- SQLite: UPDATE ... RETURNING


@pytest.fixture
def lite(sqlite_url: str) -> str:
    fill(sqlite_url)
    return f"{sqlite_url}?timeout=30"


def run_lite_worker(db: Database, worker: int) -> None:
    while True:
        with db.begin() as session:
            job_id = session.scalar(TAKE_BY_UPDATE)
            if job_id is None:
                return
            session.add(Done(job_id=job_id, worker=worker))


def test_on_sqlite_eight_threads_do_each_job_once(lite: str) -> None:
    with Database(lite, pool_size=WORKERS) as db, ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(lambda worker: run_lite_worker(db, worker), range(WORKERS)))

    assert_each_job_was_done_once(lite)


async def test_on_sqlite_eight_tasks_do_each_job_once(lite: str) -> None:
    async def run(db: AsyncDatabase, worker: int) -> None:
        while True:
            async with db.begin() as session:
                job_id = await session.scalar(TAKE_BY_UPDATE)
                if job_id is None:
                    return
                session.add(Done(job_id=job_id, worker=worker))

    async with AsyncDatabase(lite, pool_size=WORKERS) as db:
        await asyncio.gather(*(run(db, worker) for worker in range(WORKERS)))

    assert_each_job_was_done_once(lite)


DYING = """
import os, signal, sys
from holdfast import Database
from tests.servers.test_job_queue import TAKE_BY_UPDATE
with Database(sys.argv[1]) as db, db.begin() as session:
    assert session.scalar(TAKE_BY_UPDATE) == 1
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_on_sqlite_the_job_of_a_process_that_was_killed_goes_back(lite: str) -> None:
    ended: Any = subprocess.run([sys.executable, "-c", DYING, lite], check=False, timeout=60)

    assert ended.returncode == -signal.SIGKILL
    with Database(lite) as db, db.begin() as session:
        assert session.scalar(TAKE_BY_UPDATE) == 1
