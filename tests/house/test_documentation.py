"""Every Python block of README, docs/ and the tour runs; every error code has its page, and every page its code."""

import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from holdfast import errors
from tests.house.documentation import Block, NothingRaised, read_blocks, read_file, run_blocks

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if path.exists())
BLOCKS = {path: read_file(path) for path in FILES}
RUN = [path for path in FILES if any(block.skip is None for block in BLOCKS[path])]
SKIPPED = [(path, block) for path in FILES for block in BLOCKS[path] if block.skip is not None]
WRITTEN_POSTGRESQL = "://app@/app"  # after postgresql or postgresql+psycopg
WRITTEN_MARIADB = "://app@localhost/app"  # after mariadb or mysql


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fresh_module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that annotations can be resolved in (``Mapped["Post"]``)."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module


# ----------------------------------------------------------------------------------------- the documentation


@pytest.mark.parametrize("path", RUN, ids=named)
def test_every_block_runs(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replace = {}
    if any(WRITTEN_POSTGRESQL in block.code for block in BLOCKS[path] if block.skip is None):
        replace[WRITTEN_POSTGRESQL] = request.getfixturevalue("postgresql_url").removeprefix("postgresql")
    if any(WRITTEN_MARIADB in block.code for block in BLOCKS[path] if block.skip is None):
        replace[WRITTEN_MARIADB] = request.getfixturevalue("mariadb_url").removeprefix("mariadb")
    monkeypatch.chdir(tmp_path)
    module = fresh_module("documentation_" + named(path).replace("/", "_").removesuffix(".md"), monkeypatch)

    run_blocks(BLOCKS[path], filename=str(path), module=module, replace=replace)


@pytest.mark.parametrize(
    ("path", "block"), SKIPPED, ids=[f"{named(path)}:{block.line}" for path, block in SKIPPED]
)
def test_blocks_that_do_not_run_yet(path: Path, block: Block) -> None:
    pytest.skip(f"{named(path)}:{block.line}: {block.skip}")


# --------------------------------------------------------------------------------------------- error pages


def error_classes() -> list[type[errors.HoldfastError]]:
    found, waiting = [], [errors.HoldfastError]
    while waiting:
        error = waiting.pop()
        found.append(error)
        waiting += [child for child in error.__subclasses__() if child.__module__.split(".")[0] == "holdfast"]
    return found


CODES = sorted({error.code for error in error_classes()})
PAGES = sorted(path.stem for path in (ROOT / "docs/errors").glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_has_its_page(code: str) -> None:
    page = ROOT / f"docs/errors/{code}.md"

    assert page.exists(), f"write {named(page)}"
    assert code in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_error_page_names_a_code(page: str) -> None:
    assert page in CODES, f"docs/errors/{page}.md is about no error of holdfast.errors"


# ----------------------------------------------------------------------------------------- the executor itself


def run_text(text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = fresh_module("documentation_sample", monkeypatch)
    run_blocks(
        list(read_blocks(dedent(text))), filename="sample.md", module=module, replace={"WRITTEN": "real"}
    )
    return module


def test_blocks_share_a_namespace_and_hidden_code(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_text(
        """
        <!-- run: setup
        seen = ["WRITTEN"]
        -->
        ```python
        seen.append(1)
        ```
        ```
        not python
        ```
            <!-- run: skip comes later -->
            ```python
            seen.append(no_such_name)
            ```
        1. in a list
            ```python
            seen.append(2)
            ```
        """,
        monkeypatch,
    )

    assert module.seen == ["real", 1, 2]


def test_hidden_code_runs_before_a_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    page = """
        <!-- run: before seen.append(2)
        seen.append("hidden")
        -->
        ```python
        seen = []
        seen.append(1)
        {}
        ```
        """

    assert run_text(page.format("seen.append(2)"), monkeypatch).seen == [1, "hidden", 2]
    with pytest.raises(ValueError, match="0 statements"):
        run_text(page.format("seen.append(3)"), monkeypatch)


def test_a_file_beside_the_page_is_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.py").write_text("seen = ['included']\n")
    (tmp_path / "page.md").write_text("<!-- run: include models.py -->\n```python\nseen.append(1)\n```\n")
    module = fresh_module("documentation_sample", monkeypatch)

    run_blocks(read_file(tmp_path / "page.md"), filename="page.md", module=module, replace={})

    assert module.seen == ["included", 1]


def test_await_stands_at_top_level_and_one_loop_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_text(
        """
        ```python
        import asyncio
        first = asyncio.get_running_loop(); await asyncio.sleep(0)
        ```
        ```python
        second = asyncio.get_running_loop(); await asyncio.sleep(0)
        ```
        """,
        monkeypatch,
    )

    assert module.first is module.second


def test_a_promised_error_is_expected_and_the_block_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_text(
        """
        ```python
        for word in ["x"]:
            int(word)            # raises ValueError
        [][
            0
        ]                        # raises LookupError: a base will do
        after = True             # a comment that raises nothing
        ```
        """,
        monkeypatch,
    )

    assert module.after


@pytest.mark.parametrize(("line", "error"), [("int('1')", NothingRaised), ("{}['x']", KeyError)])
def test_a_broken_promise_fails(line: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(error):
        run_text(f"```python\n{line}  # raises ValueError\n```\n", monkeypatch)


def test_a_failure_shows_the_line_of_the_markdown_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_text("prose\n\n```python\nx = 1\nx / 0\n```\n", monkeypatch)

    assert (str(caught.traceback[-1].path).endswith("sample.md"), caught.traceback[-1].lineno + 1) == (
        True,
        5,
    )


@pytest.mark.parametrize("directive", ["skip", "sikp because"])
def test_an_unknown_directive_is_told(directive: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        list(read_blocks(f"<!-- run: {directive} -->\n"))
