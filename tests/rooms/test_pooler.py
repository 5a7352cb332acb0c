"""A pooler before the server: what is refused before any I/O, and what two answers tell."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import AsyncDatabase, Database
from holdfast.drivers.pooler import Pooler
from holdfast.drivers.postgresql import connection_failed
from holdfast.errors import ConnectionFailed, InvalidRequestError, PoolerDetected, StartupParameterRefused


@pytest.mark.parametrize("face", [Database, AsyncDatabase])
@pytest.mark.parametrize("word", ["statement", "Transaction", "", True, 5])
def test_an_unknown_word_is_refused_with_the_known_ones(face: Any, word: Any) -> None:
    with pytest.raises(InvalidRequestError, match="'transaction', 'session' or None") as caught:
        face("postgresql://app@localhost/app", pooler=word)

    assert 'pooler="transaction"' in str(caught.value)


@pytest.mark.parametrize("face", [Database, AsyncDatabase])
def test_sqlite_has_no_pooler(face: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no pooler before sqlite") as caught:
        face("sqlite://", pooler="transaction")

    assert "Leave it out" in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "told", "real", "met", "shares"),
    [
        (None, 7, 7, False, False),
        (None, -9, 7, True, True),
        ("transaction", -9, 7, False, True),
        ("session", -9, 7, False, False),
    ],
)
def test_another_process_than_was_told_is_a_pooler(
    declared: str | None, told: int, real: int, met: bool, shares: bool
) -> None:
    pooler = Pooler(declared)

    assert pooler.meets(told, real) is met
    assert pooler.shares is shares
    assert pooler.meets(told, real) is False  # it is met once


@pytest.mark.parametrize(
    ("second", "again", "mode"),
    [
        (1, 1, "transaction"),  # two open connections, one process
        (2, 3, "transaction"),  # one connection, two processes
        (2, 1, "unknown"),
        (None, 1, "unknown"),
        (None, 2, "transaction"),
    ],
)
def test_a_shared_process_is_transaction_mode(second: int | None, again: int, mode: str) -> None:
    pooler = Pooler(None)
    pooler.meets(-9, 1)

    pooler.judge(1, second, again)

    assert (pooler.mode, pooler.shares) == (mode, True)


def test_the_warning_is_one_of_the_family() -> None:
    pooler = Pooler(None)
    pooler.meets(-9, 1)

    with pytest.warns(PoolerDetected, match="pooler-detected: docs/errors/pooler-detected.md"):
        pooler.warn()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("unsupported startup parameter: options", "options"),
        (
            "connection failed: server at x\nFATAL:  unsupported startup parameter: search_path\n",
            "search_path",
        ),
        ("unsupported startup parameter in options: statement_timeout", "statement_timeout"),
        (
            "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
            "options",
        ),
    ],
)
def test_a_refused_startup_parameter_is_named(text: str, name: str) -> None:
    error = connection_failed(Exception(text), target="h:1/d", password="pw", sqlstate=None)

    assert isinstance(error, StartupParameterRefused)
    assert f"ignore_startup_parameters = {name}`" in str(error)


def test_another_failed_connection_is_no_refused_parameter() -> None:
    error = connection_failed(Exception("no such user"), target="h:1/d", password="pw", sqlstate="28000")

    assert type(error) is ConnectionFailed
