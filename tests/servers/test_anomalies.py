"""Which anomalies each server lets happen at each isolation level: the whole table, played through sessions.

A new server is a new set of rows in `EXPECTED` and a watcher in `stage.watch`.
"""

from __future__ import annotations

from typing import Any

from holdfast import AsyncDatabase, Database

from .anomalies import ANOMALIES, Anomaly, Base
from .stage import Begin, play, watch

LEVELS: dict[str, Begin] = {
    "READ UNCOMMITTED": {"isolation": "READ UNCOMMITTED"},
    "READ COMMITTED": {"isolation": "READ COMMITTED"},
    "REPEATABLE READ": {"isolation": "REPEATABLE READ"},
    "SERIALIZABLE": {"isolation": "SERIALIZABLE"},
    "default": {},
}
READERS_APART = "default, readers read-only"
"""A transaction that writes nothing is begun with ``read_only=True``."""
NO_BEGIN = "session without begin"
"""Nothing is begun: reads before the first write stand alone, and a read changes nothing for what comes after."""

_ALL = {"SerializationFailure", "DeadlockDetected", "LockTimeout"}
#                             G0 G1a G1b G1c OTV PMP-r PMP-w P4 Gs Gs-w G2i G2, errors seen
EXPECTED: dict[str, dict[str, tuple[str, set[str]]]] = {
    "postgresql": {
        "READ UNCOMMITTED": ("Y   Y   Y   Y   Y   -     -     -  -  -    -   -", set()),
        "READ COMMITTED": (" Y   Y   Y   Y   Y   -     -     -  -  -    -   -", set()),
        "REPEATABLE READ": ("Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    -   -", {"SerializationFailure"}),
        "SERIALIZABLE": ("   Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y", {"SerializationFailure"}),
        "default": ("        Y   Y   Y   Y   Y   -     -     -  -  -    -   -", set()),
        READERS_APART: ("    Y   Y   Y   Y   Y   -     -     -  -  -    -   -", set()),
    },
    # With innodb_snapshot_isolation, which Holdfast sets where the server has it.
    "mariadb": {
        # The Y of PMP-w: T2 is shown what T1 has not committed, and deletes just that.
        "READ UNCOMMITTED": ("Y   -   -   -   -   -     Y     -  -  -    -   -", set()),
        "READ COMMITTED": (" Y   Y   Y   Y   Y   -     -     -  -  -    -   -", set()),
        "REPEATABLE READ": ("Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    -   -", {"SerializationFailure"}),
        "SERIALIZABLE": (
            "   Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y",
            _ALL,
        ),
        "default": ("        Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    -   -", {"SerializationFailure"}),
        READERS_APART: ("    Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    -   -", {"SerializationFailure"}),
    },
    "sqlite": {
        "READ UNCOMMITTED": ("Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y", {"DatabaseBusy"}),
        "READ COMMITTED": (" Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y", {"DatabaseBusy"}),
        "REPEATABLE READ": ("Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y", {"DatabaseBusy"}),
        "SERIALIZABLE": ("   Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y", {"DatabaseBusy"}),
        "default": ("        Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y", {"DatabaseBusy"}),
        READERS_APART: ("    Y   Y   Y   Y   Y   Y     Y     Y  Y  Y    Y   Y", {"DatabaseBusy"}),
        # Who waits instead of being told at once loses updates here, too: the Y of P4 is DatabaseBusy.
        NO_BEGIN: ("         Y   Y   Y   Y   Y   -     Y     Y  -  -    Y   Y", {"DatabaseBusy"}),
    },
}


def expected(server: str) -> dict[str, tuple[str, set[str]]]:
    return {level: (" ".join(row.split()), errors) for level, (row, errors) in EXPECTED[server].items()}


def begin_of(level: str, anomaly: Anomaly, who: str) -> Begin | None:
    if level == NO_BEGIN:
        return None
    if level == READERS_APART:
        return {"read_only": who not in anomaly.writers}
    return LEVELS[level]


async def measure(db: Any, url: str) -> dict[str, tuple[str, set[str]]]:
    """Play all scripts at the server's levels; answers the table: Y prevented, - happened, and the errors seen."""
    table = {}
    async with watch(url) as is_waiting:
        for level in EXPECTED[db.dialect_name]:
            marks: list[str] = []
            errors: set[str] = set()
            for anomaly in ANOMALIES:
                history = await play(
                    db, anomaly, lambda who, a=anomaly, at=level: begin_of(at, a, who), is_waiting
                )
                marks.append("-" if anomaly.happened(history) else "Y")
                errors |= {*history.errors.values()}
            table[level] = (" ".join(marks), errors)
    return table


def waiting_never(url: str) -> str:
    """SQLite tells at once that it is busy, so that scripts need not wait for a clock.

    MariaDB lets a transaction wait whose script has it go on only afterwards; it waits 2 s then, not 50.
    """
    if url.startswith("mariadb"):
        return f"{url}?init_command=SET%20innodb_lock_wait_timeout%20=%204"
    return f"{url}?timeout=0" if url.startswith("sqlite") else url


async def test_blocking_sessions_prevent_what_the_table_says(database_url: str) -> None:
    url = waiting_never(database_url)
    with Database(url) as db:
        db.create_all(Base)

        assert await measure(db, url) == expected(db.dialect_name)


async def test_async_sessions_prevent_what_the_table_says(async_database_url: str) -> None:
    url = waiting_never(async_database_url)
    async with AsyncDatabase(url) as db:
        await db.create_all(Base)

        assert await measure(db, url) == expected(db.dialect_name)
