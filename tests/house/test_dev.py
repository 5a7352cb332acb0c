"""`./dev` says what it can, and the tests' servers come from where they are said to come from."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tools import servers

ROOT = Path(__file__).resolve().parents[2]
ABSENT = dataclasses.replace(servers.POSTGRESQL, name="absent", program="no-such-server", folders=())


def dev(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "dev", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_every_command_from_anywhere(tmp_path: Path) -> None:
    done = dev("help", cwd=tmp_path)

    assert done.returncode == 0
    for command in ("demo", "test", "check", "bench", "docs", "twins", "run"):
        assert f"./dev {command}" in done.stdout


@pytest.mark.parametrize("words", [["no-such-command"], ["check", "no-such-part"]])
def test_a_wrong_word_lists_the_right_ones(words: list[str]) -> None:
    done = dev(*words)

    assert (done.returncode, done.stdout) == (2, "")
    assert "there are: " in done.stderr


def test_a_url_that_is_given_is_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ABSENT.variable, "absent://here")

    with servers.lend((ABSENT,), say=lambda _: None) as lent:
        assert [one.url for one in lent] == ["absent://here"]


def test_a_server_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ABSENT.variable, raising=False)
    monkeypatch.setattr(servers, "_may_install", lambda: False)
    said: list[str] = []

    with servers.lend((ABSENT,), say=said.append) as lent:
        assert lent[0].url is None

    assert "NO SERVER" in said[0]
    assert ABSENT.variable in said[0]


def test_a_pooler_without_its_server_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(servers.PGBOUNCER.variable, raising=False)
    said: list[str] = []

    with servers.lend((servers.PGBOUNCER,), say=said.append) as lent:
        assert lent[0].url is None

    assert said == ["pgbouncer: NO SERVER: there is no postgresql for it to stand before"]


def test_nothing_is_left_when_the_tests_fail() -> None:
    programs = servers.find_programs(servers.POSTGRESQL)
    if programs is None:
        pytest.skip("no PostgreSQL programs are installed here")
    places = []

    def fail_beside_a_server() -> None:
        with servers.throwaway(servers.POSTGRESQL, programs) as place:
            places.append(place)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_beside_a_server()

    assert servers.POSTGRESQL.is_ready(places[0]) is False
    assert not places[0].folder.exists()
