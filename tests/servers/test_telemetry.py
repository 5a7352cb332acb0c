"""The pool's numbers, as OpenTelemetry reads them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import text

from holdfast import AsyncDatabase, Database
from holdfast.errors import DriverMissing, PoolTimeout
from holdfast.insight import instrument

NAMES = {
    "count": "{connection}",
    "idle.max": "{connection}",
    "idle.min": "{connection}",
    "max": "{connection}",
    "pending_requests": "{request}",
    "timeouts": "{timeout}",
    "wait_time": "s",
    "use_time": "s",
    "create_time": "s",
}


def provider() -> tuple[InMemoryMetricReader, MeterProvider]:
    reader = InMemoryMetricReader()
    return reader, MeterProvider([reader], shutdown_on_exit=False)


def read(reader: InMemoryMetricReader) -> dict[str, Any]:
    """The metrics by the last part of their name."""
    data = reader.get_metrics_data()
    found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name.removeprefix("db.client.connection."): metric for metric in found}


def value(metric: Any, **attributes: str) -> Any:
    wanted = {f"db.client.connection.{name}": word for name, word in attributes.items()}
    (point,) = (one for one in metric.data.data_points if wanted.items() <= one.attributes.items())
    return point.value


def test_every_metric_of_the_conventions_is_there_with_its_unit(database_url: str) -> None:
    reader, meters = provider()
    with Database(database_url, pool_timeout=0, pool_size=2, max_overflow=0) as db:
        instrument(db, meter_provider=meters)
        with db.session() as session:
            session.execute(text("SELECT 1"))
        held = [db.pool.acquire() for _ in range(2)]
        with pytest.raises(PoolTimeout):
            db.pool.acquire()
        db.pool.release(held.pop())
        found = read(reader)
        db.pool.release(held.pop())

    assert {name: metric.unit for name, metric in found.items()} == NAMES
    assert value(found["count"], state="used") == value(found["count"], state="idle") == 1
    assert value(found["max"]) == value(found["idle.max"]) == 2
    assert (value(found["timeouts"]), value(found["pending_requests"])) == (1, 0)
    counts = {
        name: found[name].data.data_points[0].count for name in ("wait_time", "use_time", "create_time")
    }
    assert counts == {"wait_time": 3, "use_time": 2, "create_time": 2}


async def test_an_async_pool_is_reported_too(async_database_url: str) -> None:
    reader, meters = provider()
    async with AsyncDatabase(async_database_url) as db:
        instrument(db, meter_provider=meters)
        async with db.begin() as session:
            await session.execute(text("SELECT 1"))
            found = read(reader)

    assert value(found["count"], state="used") == 1
    assert found["create_time"].data.data_points[0].count == 1


def test_the_pools_name_holds_no_password(postgresql_url: str) -> None:
    reader, meters = provider()
    password = postgresql_url.split("@", maxsplit=1)[0].rpartition(":")[2]
    with Database(postgresql_url) as db:
        instrument(db, meter_provider=meters)
        told = str(read(reader))

    assert password not in told
    assert f"{postgresql_url.split('@')[1]}" in told


def test_two_pools_are_told_apart(sqlite_url: str) -> None:
    reader, meters = provider()
    with Database(sqlite_url, pool_size=1, max_overflow=0) as one, Database(sqlite_url, pool_size=2) as two:
        instrument(one, meter_provider=meters, pool_name="one")
        instrument(two, meter_provider=meters, pool_name="two")
        found = read(reader)

    assert value(found["max"], **{"pool.name": "one"}) == 1
    assert value(found["max"], **{"pool.name": "two"}) == 12


def test_after_its_end_nothing_is_reported(sqlite_url: str) -> None:
    reader, meters = provider()
    with Database(sqlite_url) as db:
        end = instrument(db, meter_provider=meters)
        end()
        with db.session() as session:
            session.execute(text("SELECT 1"))

        assert read(reader) == {}


def test_reading_beside_busy_threads_blocks_nobody(sqlite_url: str) -> None:
    reader, meters = provider()
    with Database(sqlite_url, pool_size=2, max_overflow=0) as db:
        instrument(db, meter_provider=meters)

        def work(_: int) -> None:
            for _ in range(100):
                db.pool.release(db.pool.acquire())

        with ThreadPoolExecutor(5) as threads:
            works = [threads.submit(work, number) for number in range(4)]
            for _ in range(20):
                threads.submit(read, reader).result(30)
            for one in works:
                one.result(30)
        found = read(reader)

    assert found["use_time"].data.data_points[0].count == 400


def test_without_the_library_it_is_told_what_to_install(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with (
        Database(sqlite_url) as db,
        pytest.raises(DriverMissing, match=r"pip install 'holdfast\[telemetry\]'"),
    ):
        instrument(db)
