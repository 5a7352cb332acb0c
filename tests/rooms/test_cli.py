"""The commands: what they print, what programs read of them, and their exit codes."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from holdfast import Database, errors, select
from holdfast.cli import exits
from holdfast.cli.app import run
from holdfast.cli.demo import as_document
from holdfast.cli.explain import error_classes, page_of
from holdfast.cli.paper import shorten_sql
from holdfast.cli.tour import stage as stage_module
from holdfast.cli.tour import steps
from holdfast.cli.tour.models import Package
from holdfast.cli.tour.reading import normalized, read_catalogue
from holdfast.cli.tour.stage import STEPS, Stage, describe

MODELS = """
from sqlalchemy import text
from holdfast import DeclarativeBase, Mapped, mapped_column, select

class Base(DeclarativeBase):
    pass

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

statement = select(User).where(User.id.in_([1, 2, 3]))
names = select(User.name)
count = text("SELECT count(*) FROM users")
nothing = 7

def feed():
    return select(User).limit(3)
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current folder."""
    name = f"shown_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield name
    sys.modules.pop(name, None)


def install(folder: Path, name: str, *, files: int = 2, broken: bool = False, **headers: Any) -> None:
    """Pretend that a package is installed in a folder."""
    place = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    place.mkdir()
    lines = ["Metadata-Version: 2.1", *([] if broken else [f"Name: {name}", "Version: 1.0"])]
    for header, values in headers.items():
        lines += [f"{header.replace('_', '-')}: {value}" for value in values]
    (place / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = [f"{name}/{n}.py,sha256=aGFzaA,{100 * n}" for n in range(files)]
    (place / "RECORD").write_text("\n".join(record) + "\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with five packages: app needs lib and web, web needs lib, lib needs what is not there."""
    folder = tmp_path / "site"
    folder.mkdir()
    common = {"Classifier": ["License :: OSI Approved :: MIT License", "Topic :: Database"]}
    install(
        folder,
        "app",
        files=9,
        Requires_Dist=["lib>=1", "Web", 'tool; extra == "dev"'],
        Author=["Ann"],
        **common,
    )
    install(folder, "web", Requires_Dist=["lib"], Author_email=["Ann <a@x>, Ben <b@x>"], **common)
    install(folder, "lib", Requires_Dist=["elsewhere (>2)", "lib"], Author=["Ben, Cid"])
    install(folder, "tool", Summary=["un\0clean"], License=["MIT"])
    install(folder, "broken", broken=True)
    monkeypatch.setattr(stage_module, "find_distributions", lambda: distributions(path=[str(folder)]))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return folder


def found_in(*folders: Path, most_files: int = 1000) -> Any:
    found = distributions(path=[str(folder) for folder in folders])
    return read_catalogue(found, most_files=most_files, told=lambda _name, _files: None)


# ------------------------------------------------------------------------------------------------ the program


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == exits.DONE
    assert re.fullmatch(r"holdfast \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", [[], ["demo"], ["show"], ["explain"]])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == exits.DONE
    said = capsys.readouterr().out
    assert f"  holdfast {' '.join(command)}" in said.partition("Examples:")[2]


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["demo", "--nonsense"],
        ["demo", "--url", "sqlite://"],
        ["demo", "--url", "mongodb://localhost/x"],
        ["demo", "--url", "nonsense"],
        ["demo", "--url", "sqlite:///a.db", "--keep", "b.db"],
        ["demo", "--keep", "/no/such/folder/file.db"],
        ["explain", "nonsense"],
        ["show", "nonsense"],
        ["show", "no_such_module:name"],
    ],
)
def test_asked_wrongly_is_2_and_says_so(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == exits.USAGE
    out, err = capsys.readouterr()
    assert not out
    assert err.strip()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exits.Usage("x"), 2),
        (errors.BadUrl(reason="x"), 2),
        (errors.ConnectionFailed(server="x", reason="y"), 3),
        (errors.DriverMissing(library="x", extra="y"), 3),
        (errors.UniqueViolation(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exits.exit_code(error) == code


def test_a_database_that_does_not_answer_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--url", "postgresql://app:secret@127.0.0.1:1/x"]) == exits.NO_DATABASE
    assert "secret" not in capsys.readouterr().err


def test_the_library_is_imported_only_to_run() -> None:
    code = "import sys, holdfast.cli; print([n for n in ('typer', 'rich', 'click') if n in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_without_the_extra_the_line_to_install_it_is_told() -> None:
    code = "import sys; sys.modules['typer'] = None; import holdfast.cli; holdfast.cli.main()"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == exits.NO_DATABASE
    assert "pip install 'holdfast[cli]'" in answer.stderr


# ------------------------------------------------------------------------------------------------ explain


@pytest.mark.parametrize("asked", ["unique-violation", "UniqueViolation"])
def test_explain_prints_the_page(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", asked]) == exits.DONE
    said = capsys.readouterr().out
    assert said.startswith("# unique-violation")
    assert "<!--" not in said


def test_explain_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == exits.DONE
    said = capsys.readouterr().out
    assert all(code in said for code in error_classes())


def test_explain_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "naive-datetime", "--json"]) == exits.DONE
    document = json.loads(capsys.readouterr().out)
    assert document["class"] == "NaiveDatetime"
    assert document["page"] == page_of("naive-datetime")

    assert run(["explain", "--json"]) == exits.DONE
    assert {one["code"] for one in json.loads(capsys.readouterr().out)} == set(error_classes())


def test_explain_guesses_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    run(["explain", "unique-violatoin"])
    assert "did you mean unique-violation" in capsys.readouterr().err


def test_every_code_has_a_page() -> None:
    assert [code for code in error_classes() if page_of(code) is None] == []


# ------------------------------------------------------------------------------------------------ show


def test_show_prints_sql_and_row_function(models: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", f"{models}:statement"]) == exits.DONE
    said = capsys.readouterr().out
    assert "WHERE users.id IN (?, ?, ?)" in said
    assert "3 bound values" in said
    assert "def hydrate(rows, session, refresh):" in said


@pytest.mark.parametrize("name", ["User", "feed", "names", "count"])
def test_show_takes_classes_functions_and_text(
    name: str, models: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(["show", f"{models}:{name}", "--json", "--url", "postgresql://nowhere.invalid/x"]) == exits.DONE
    )
    document = json.loads(capsys.readouterr().out)
    assert document["dialect"] == "postgresql"
    assert document["sql"].startswith("SELECT")
    assert (document["row_function"] is None) == (name == "count")


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "is int"), ("absent", "there are: User, count, names, statement")]
)
def test_show_says_what_it_found_instead(
    name: str, said: str, models: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", f"{models}:{name}"]) == exits.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sql", "short"),
    [
        ("SELECT a, b, c \nFROM t", "SELECT a, b, c FROM t"),
        ("SELECT a, b, f(c, d), e \nFROM t", "SELECT a, … 3 more FROM t"),
        ("INSERT INTO t (a, b) VALUES (?, ?), (?, ?), (?, ?)", "INSERT INTO t (a, b) VALUES (…), …"),
        (
            "INSERT INTO t (a, b, c, d) VALUES (?, ?, ?, ?) RETURNING a",
            "INSERT INTO t (a, … 3 more) VALUES (…) RETURNING a",
        ),
        ("UPDATE t SET a = ?", "UPDATE t SET a = ?"),
    ],
)
def test_sql_in_short(sql: str, short: str) -> None:
    assert shorten_sql(sql) == short


# ------------------------------------------------------------------------------------------------ the catalogue


def test_requirements_lead_to_packages_or_nowhere(machine: Path) -> None:
    catalogue = found_in(machine)
    by_name = {package.name: package for package in catalogue.packages}

    assert [p.name for p in by_name["app"].needs] == ["lib", "web"]
    assert [r.target and r.target.name for r in by_name["app"].requirements] == ["lib", "web", "tool"]
    assert by_name["app"].requirements[2].extra == "dev"
    assert [r.target and r.target.name for r in by_name["lib"].requirements] == [None, "lib"]
    assert by_name["lib"].needs == []
    assert {p.name for p in by_name["lib"].needed_by} == {"app", "web"}


def test_what_metadata_tells(machine: Path) -> None:
    catalogue = found_in(machine)
    by_name = {package.name: package for package in catalogue.packages}

    assert catalogue.unreadable == 1
    assert [a.name for a in by_name["web"].authors] == ["Ann", "Ben"]
    assert by_name["web"].authors[0] is by_name["app"].authors[0]
    assert by_name["app"].license == "MIT License"
    assert by_name["tool"].license == "MIT"
    assert by_name["tool"].summary == "unclean"
    assert by_name["app"].size_bytes == sum(100 * n for n in range(9))


def test_the_first_of_one_name_is_taken(machine: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    install(later, "APP", files=50)

    catalogue = found_in(machine, later)

    assert len(catalogue.packages) == 4
    assert normalized("A.b_C--d") == "a-b-c-d"


def test_the_limit_of_files_leaves_packages_out(machine: Path) -> None:
    catalogue = found_in(machine, most_files=6)

    assert catalogue.left_out == 1
    assert {p.name for p in catalogue.packages} == {"web", "lib", "tool"}


# ------------------------------------------------------------------------------------------------ the demo


def run_demo(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["demo", "--json", *words]) == exits.DONE
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_the_demo_for_programs(machine: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = run_demo(capsys)
    by_name = {step["name"]: step for step in document["steps"]}

    assert len(by_name) == STEPS
    assert document["catalogue"]["packages"] == 4
    assert by_name["find"]["count"] == 1
    assert by_name["find"]["answer"]["same object"] is True
    assert by_name["ask"]["answer"][0] == {"name": "app", "python_files": 9, "bytes": 3600}
    assert [level["packages"] for level in by_name["walk"]["answer"]] == [2, 2]
    assert by_name["walk"]["count"] == 3
    assert [row["version"] for row in by_name["take_back"]["answer"]] == [
        "1.0",
        "2.0 of mine",
        "1.0 of mine",
        "1.0",
    ]
    assert [error["code"] for error in by_name["err"]["answer"]] == [
        "naive-datetime", "value-too-long", "value-out-of-range", "unique-violation",
    ]  # fmt: skip
    assert "session.load(" in by_name["wait"]["answer"]["mend"]
    assert not list((tmp_path / "temporary").iterdir())


def test_every_figure_is_counted(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_demo(capsys)
    saved, *_ = document["steps"]
    theirs, ours = next(step["sides"] for step in document["steps"] if step["sides"])

    assert sum(s["rows"] or 0 for s in saved["statements"]) == document["catalogue"]["rows"]
    assert all(step["count"] == sum(s["times"] for s in step["statements"]) for step in document["steps"])
    assert document["totals"]["statements"] == sum(step["count"] for step in document["steps"])
    # 1 for the packages, 1 for each of 4 packages' needs, 1 for each of 2 needed packages' authors
    assert (theirs["statements"], ours["statements"]) == (7, 3)


def test_no_step_reads_again_after_a_rollback(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = next(step for step in run_demo(capsys)["steps"] if step["name"] == "take_back")

    reads = [s["times"] for s in step["statements"] if s["sql"].startswith("SELECT")]
    assert reads == [1]


def test_the_code_that_is_shown_is_the_code_that_runs() -> None:
    shown = describe(steps.walk)
    function = ast.parse(inspect.getsource(steps.walk)).body[0]
    assert isinstance(function, ast.FunctionDef)
    del function.body[0]  # the docstring is shown as prose

    assert ast.dump(ast.parse(shown.code).body[0]) == ast.dump(function)
    assert shown.title == "A graph, level by level"


@pytest.mark.parametrize(
    "name", ["save", "find", "ask", "lean_on", "walk", "share", "take_back", "err", "show", "wait"]
)
def test_a_step_fits_in_80_columns(name: str) -> None:
    assert max(len(line) for line in describe(getattr(steps, name)).code.splitlines()) <= 78


@pytest.mark.parametrize("width", [30, 80, 120])
def test_the_demo_fits_its_terminal(
    width: int, machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))

    assert run(["demo"]) == exits.DONE

    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines()) <= width
    assert f"{STEPS}/{STEPS} " in said


def test_a_kept_database_can_be_made_again(
    machine: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.db"
    for option in (["--keep", str(kept)], ["--url", f"sqlite:///{kept}"]):
        run_demo(capsys, *option)

    with Database(f"sqlite:///{kept}") as db, db.session() as session:
        assert len(session.scalars(select(Package)).all()) == 4


def test_a_file_that_is_not_ours_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.db"
    with Database(f"sqlite:///{theirs}") as db:
        db.create_all(Package.metadata)
    before = theirs.read_bytes()

    assert run(["demo", "--keep", str(theirs)]) == exits.USAGE

    assert theirs.read_bytes() == before
    assert "not an earlier demo" in capsys.readouterr().err


def test_an_interrupted_demo_leaves_nothing(
    machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(_self: Stage) -> None:
        assert list((tmp_path / "temporary").iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(Stage, "remaining", interrupt)

    assert run(["demo"]) == exits.INTERRUPTED
    assert not list((tmp_path / "temporary").iterdir())
    assert "interrupted" in capsys.readouterr().err


def test_a_step_without_rows_can_be_told(machine: Path) -> None:
    outcome = describe(steps.find)

    assert as_document(outcome)["count"] == 0
