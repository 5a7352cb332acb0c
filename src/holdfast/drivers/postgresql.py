"""What the drivers of PostgreSQL share: facts, options, and the text of a failed connection.

Rule: no driver library is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import URL

from holdfast.capabilities import Capabilities, Locks
from holdfast.drivers.sqlstate import describe, kind_of
from holdfast.errors import ConnectionFailed, ConnectionLost, StartupParameterRefused

ASSUMED_VERSION = (12, 0)
# The process's number tells a pooler: see pooler.py.
ASK_DEFAULTS = "SELECT current_schema(), current_setting('default_transaction_isolation'), pg_backend_pid()"
ASK_PROCESS = "SELECT pg_backend_pid()"
_DIALECT_OPTIONS = ("json_serializer", "json_deserializer", "native_inet_types")


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part options into those of the dialect and those of the driver's connect call."""
    settings = {name: value for name, value in options.items() if name in _DIALECT_OPTIONS}
    return settings, {name: value for name, value in options.items() if name not in settings}


def capabilities(
    driver: str, max_bound_values: int, *, pipeline: bool, counts_many: bool = True
) -> Capabilities:
    return Capabilities(
        server="postgresql",
        server_version=ASSUMED_VERSION,
        driver=driver,
        max_bound_values=max_bound_values,
        array_parameters=True,
        aborts_on_error=True,
        locks=Locks(for_update=True, for_share=True, key_share=True, nowait=True, skip_locked=True),
        advisory_locks=True,
        transaction_status=True,
        ask_read_only="SELECT current_setting('transaction_read_only') = 'on'",
        pipeline=pipeline,
        counts_many=counts_many,
    )


def with_version(known: Capabilities, version: tuple[int, ...]) -> Capabilities:
    return replace(known, server_version=version)


def assume(dialect: PGDialect) -> None:
    """Set what every supported server has, so that statements compile before a connection."""
    learn(dialect, ASSUMED_VERSION, ("public", "read committed"), conforming=True)


def learn(dialect: PGDialect, version: tuple[int, ...], defaults: Sequence[Any], *, conforming: bool) -> None:
    """Set what ``PGDialect.initialize`` would, from what the server told."""
    dialect.server_version_info = version
    dialect.default_schema_name = defaults[0]
    dialect.default_isolation_level = defaults[1].upper()
    dialect._backslash_escapes = not conforming
    dialect.supports_smallserial = True
    dialect.supports_identity_columns = version >= (10,)
    dialect._supports_drop_index_concurrently = True
    dialect._supports_jsonb_subscripting = version >= (14,)
    dialect.supports_virtual_generated_columns = version >= (18,)


def describe_target(url: URL) -> str:
    """Say where a URL points, without user and password."""
    host = url.host or url.query.get("host") or "the local socket"
    host = ",".join(host) if isinstance(host, tuple) else host
    port = f":{url.port}" if url.port else ""
    return f"{host}{port}/{url.database or ''}"


# PgBouncer has one code, 08P01, for whatever it refuses, and libpq hands on no code of a failed connection:
# so this is the one place that reads a text.  PgBouncer does not translate it.
# https://github.com/pgbouncer/pgbouncer/blob/pgbouncer_1_18_0/src/client.c
_REFUSED = re.compile(
    r"unsupported (?:options )?startup parameter(?: in options)?(?:: (\w+)\s*$)?", re.MULTILINE
)


def connection_failed(
    error: BaseException, *, target: str, password: object, sqlstate: str | None, reached: bool = False
) -> ConnectionFailed | ConnectionLost:
    """Say why no connection could be opened; there are no rows yet whose values could be told.

    One that was open, ``reached``, and then was lost while it was made ready is a lost one.
    """
    if reached and not isinstance(error, ValueError) and kind_of(sqlstate or "08006") is ConnectionLost:
        return ConnectionLost(
            f"A new connection to PostgreSQL at {target} was lost before it was ready",
            orig=error,
            sqlstate=sqlstate,
        )
    refused = _REFUSED.search(str(error))
    if refused:
        return StartupParameterRefused(
            server=f"PostgreSQL at {target}",
            name=refused[1] or "options",
            orig=error,
            sqlstate="08P01",
            target=target,
        )
    reason = describe(error, sqlstate) if sqlstate else " ".join(str(error).split())
    if not reason or (password and str(password) in reason):
        reason = type(error).__name__
    return ConnectionFailed(
        server=f"PostgreSQL at {target}", reason=reason, orig=error, sqlstate=sqlstate, target=target
    )
