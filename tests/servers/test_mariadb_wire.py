"""How MariaDB is reached, and what it is told: TLS, the local socket, the session's settings."""

from __future__ import annotations

import gc
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text

from holdfast import AsyncDatabase, Database
from holdfast.errors import BadUrl, ConnectionFailed
from tests.servers.own_server import OwnServer, own_server
from tools.servers import MARIADB, Place

Ask = Callable[..., Any]


def make_certificate(folder: Path, name: str) -> list[str]:
    """The command that makes a certificate which signs itself, for ``localhost`` and no address."""
    return [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost"),
        *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")),
    ]


def serve(place: Place) -> list[str]:
    return [
        *MARIADB.serve(place),
        f"--ssl-cert={place.folder / 'own.pem'}",
        f"--ssl-key={place.folder / 'own.key'}",
        "--default-time-zone=+05:00",
        "--sql-mode=",
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    kind = replace(
        MARIADB,
        prepare=lambda place: [*MARIADB.prepare(place), make_certificate(place.folder, "own")],
        serve=serve,
    )
    with own_server(kind) as started:
        started.ask("CREATE USER 'local'@'localhost' IDENTIFIED BY 'l'")
        started.ask("GRANT ALL ON holdfast.* TO 'local'@'localhost'")
        yield started


@pytest.fixture(scope="module")
def authority(server: OwnServer) -> Path:
    return server.place.folder / "own.pem"


async def ask_async(url: str, *questions: str) -> list[Any]:
    async with AsyncDatabase(url) as db, db.session() as session:
        return [(await session.execute(text(question))).all() for question in questions]


async def ask_blocking(url: str, *questions: str) -> list[Any]:
    with Database(url) as db, db.session() as session:
        return [session.execute(text(question)).all() for question in questions]


@pytest.fixture(params=[ask_blocking, ask_async], ids=["pymysql", "asyncmy"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


def at(server: OwnServer, host: str, **query: str) -> str:
    url = make_url(server.url).set(host=host, query=query)
    return url.render_as_string(hide_password=False)


CIPHER = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"


# ---------------------------------------------------------------- TLS


async def test_a_server_is_trusted_by_its_authority_and_its_name(
    server: OwnServer, authority: Path, ask: Ask
) -> None:
    ((told,),) = await ask(at(server, "localhost", ssl_ca=str(authority)), CIPHER)

    assert told[1] != ""


async def test_a_server_of_another_name_is_refused_unless_the_url_says_so(
    server: OwnServer, authority: Path, ask: Ask
) -> None:
    with pytest.raises(ConnectionFailed):
        await ask(at(server, "127.0.0.1", ssl_ca=str(authority)), CIPHER)

    url = at(server, "127.0.0.1", ssl_ca=str(authority), ssl_check_hostname="false")
    ((told,),) = await ask(url, CIPHER)
    assert told[1] != ""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The certificate of an authority that has nothing to do with the server."""
    subprocess.run(make_certificate(tmp_path, "other"), check=True, capture_output=True, timeout=60)
    return tmp_path / "other.pem"


async def test_a_server_of_another_authority_is_refused(server: OwnServer, ask: Ask, other: Path) -> None:
    with pytest.raises(ConnectionFailed, match="certificate is not trusted") as caught:
        await ask(at(server, "localhost", ssl_ca=str(other)), CIPHER)

    assert make_url(server.url).password not in str(caught.value)


async def test_it_can_be_encrypted_without_looking_who_answers(server: OwnServer, ask: Ask) -> None:
    ((told,),) = await ask(at(server, "127.0.0.1", ssl="true"), CIPHER)

    assert told[1] != ""


async def test_a_server_without_tls_is_refused_where_the_url_wants_it(mariadb_url: str, ask: Ask) -> None:
    with pytest.raises(ConnectionFailed):
        await ask(f"{mariadb_url}?ssl=true&connect_timeout=5", CIPHER)


def test_a_word_for_tls_that_is_not_known_is_refused() -> None:
    with pytest.raises(BadUrl, match="ssl_ca"):
        Database("mariadb://app@localhost/app?ssl=perhaps")


async def test_pools_and_kills_work_through_tls(server: OwnServer, authority: Path) -> None:
    """A look at the wire, a ping, and the connection beside that ends what was cancelled."""
    url = at(server, "localhost", ssl_ca=str(authority))
    with Database(url, pool_pre_ping=True) as db:
        first, second = [number_of(db) for _ in range(2)]
        assert first == second
        server.ask(f"KILL {first}")
        assert number_of(db) != first
    async with AsyncDatabase(url) as loop_db:
        async with loop_db.session() as session:
            before = await session.scalar(text("SELECT CONNECTION_ID()"))
        async with loop_db.session() as session:
            assert await session.scalar(text("SELECT CONNECTION_ID()")) == before


def number_of(db: Database) -> Any:
    with db.session() as session:
        return session.scalar(text("SELECT CONNECTION_ID()"))


# ---------------------------------------------------------------- the socket


async def test_the_local_socket(server: OwnServer, ask: Ask) -> None:
    url = f"mariadb://local:l@/holdfast?unix_socket={server.place.folder / 's'}"

    ((told,),) = await ask(url, "SELECT SUBSTRING_INDEX(USER(), '@', -1)")

    assert told[0] == "localhost"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # PyMySQL leaves it to the garbage collector
async def test_a_socket_that_is_not_there_is_told(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="nowhere"):
        await ask(f"mariadb://local:l@/holdfast?unix_socket={tmp_path / 'nowhere'}", "SELECT 1")
    gc.collect()


# ---------------------------------------------------------------- the session's settings


SETTINGS = "SELECT @@sql_mode, @@time_zone, @@character_set_client, @@autocommit"


async def test_a_session_is_strict_and_in_utc_whatever_the_server_is(server: OwnServer, ask: Ask) -> None:
    ((found,), (now,)) = await ask(server.url, SETTINGS, "SELECT CURRENT_TIMESTAMP")

    modes = set(found[0].split(","))
    assert {"STRICT_ALL_TABLES", "NO_AUTO_VALUE_ON_ZERO", "SIMULTANEOUS_ASSIGNMENT"} <= modes
    assert tuple(found[1:]) == ("+00:00", "utf8mb4", 1)
    assert abs(now[0] - datetime.now(UTC).replace(tzinfo=None)).total_seconds() < 3600


async def test_a_mode_of_ones_own_replaces_it(server: OwnServer, ask: Ask) -> None:
    ((found,),) = await ask(f"{server.url}?sql_mode=STRICT_TRANS_TABLES,NO_ZERO_DATE", SETTINGS)

    assert set(found[0].split(",")) == {"STRICT_TRANS_TABLES", "NO_ZERO_DATE"}


async def test_a_first_command_of_ones_own_is_said_after_ours(server: OwnServer, ask: Ask) -> None:
    ((found,),) = await ask(f"{server.url}?init_command=SET sql_mode = 'STRICT_ALL_TABLES'", SETTINGS)

    assert found[0] == "STRICT_ALL_TABLES"


@pytest.mark.parametrize("mode", ["ANSI_QUOTES", "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES", "ORACLE", "x';y"])
def test_a_mode_that_changes_quotes_is_refused(mode: str) -> None:
    with pytest.raises(BadUrl, match="sql_mode"):
        Database(f"mariadb://app@localhost/app?sql_mode={mode}")


def test_another_character_set_is_refused() -> None:
    with pytest.raises(BadUrl, match="utf8mb4"):
        Database("mariadb://app@localhost/app?charset=latin1")
