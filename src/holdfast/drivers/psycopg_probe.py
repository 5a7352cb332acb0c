"""Which process serves a connection of psycopg, asked with a limit of time.

Rule: the theory stands in pooler.py.  psycopg's own calls wait without end, so libpq's are used.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from psycopg import pq

from holdfast.drivers.pooler import PROBE_SECONDS
from holdfast.drivers.postgresql import ASK_PROCESS


def ask_process(pgconn: Any) -> int | None:
    """Ask a new connection, and give up after a while: then it is good for nothing but closing."""
    _send_question(pgconn)
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ)
        return _read_process(pgconn) if selector.select(PROBE_SECONDS) else None


async def ask_process_async(pgconn: Any) -> int | None:
    """Do the same on an event loop."""
    _send_question(pgconn)
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pgconn.socket, readable.set)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await readable.wait()
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(pgconn.socket)
    return _read_process(pgconn)


def _send_question(pgconn: Any) -> None:
    pgconn.send_query(ASK_PROCESS.encode())
    pgconn.flush()


def _read_process(pgconn: Any) -> int | None:
    result = pgconn.get_result()
    if result is None or result.status != pq.ExecStatus.TUPLES_OK:
        return None
    return int(result.get_value(0, 0))
