"""How documentation is executed: the blocks of one file run in order and share one namespace.

A fenced block marked ``python`` runs.  What a reader need not see stands in an HTML comment above it::

    <!-- run: skip WHY -->              the next block is not run, and is listed as skipped
    <!-- run: setup
    hidden = "code"
    -->                                 runs here, in the same namespace
    <!-- run: include FILE.py -->       runs a file that stands beside the Markdown file
    <!-- run: before BEGINNING
    hidden = "code"
    -->                                 runs before the statement of the next block that begins so

``await``, ``async with`` and ``async for`` may stand at top level; all blocks of a file share one event loop
(``<!-- run: async -->`` may say so, and changes nothing).  A line that ends in ``# raises X …`` must raise an ``X``
(or a subclass), and the block goes on after it.  Tracebacks show the lines of the Markdown file.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_BLOCK = re.compile(
    r"<!--\s*run:\s*(?P<word>\w+)(?P<rest>.*?)-->|^(?P<indent>[ \t]*)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_RAISES = re.compile(r"#\s*raises\s+([A-Z]\w*)")


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of code of a Markdown file; ``line`` is where its code begins, ``skip`` why it does not run."""

    line: int
    code: str
    skip: str | None = None
    hidden: tuple[tuple[str, str], ...] = ()
    """(how a statement begins, what runs before it)."""


class NothingRaised(AssertionError):
    """A line that promises an error raised none."""


def read_blocks(text: str, folder: Path | None = None) -> Iterator[Block]:
    """Read what a Markdown file has to run, in order; an unknown directive is an error.

    ``folder`` is where included files stand.
    """
    skip: str | None = None
    before: list[tuple[str, str]] = []
    for found in _BLOCK.finditer(text):
        if found["word"] == "before":
            beginning, _, code = found["rest"].strip().partition("\n")
            before.append((beginning, code))
        elif found["word"]:
            hidden = _read_directive(text, found, folder)
            if isinstance(hidden, Block):
                yield hidden
            else:
                skip = hidden
        elif found["info"].split(" ")[0].strip().lower() in ("python", "py"):
            code = _dedent(found["code"], found["indent"])
            yield Block(_line_of(text, found.start("code")), code, skip, tuple(before))
            skip, before = None, []


def _read_directive(text: str, found: re.Match[str], folder: Path | None) -> Block | str | None:
    word, rest = found["word"], found["rest"]
    if word == "include" and folder is not None:
        return Block(1, (folder / rest.strip()).read_text(encoding="utf-8"))
    if word == "setup":
        return Block(_line_of(text, found.start("rest")), rest)
    if word == "skip" and rest.strip():
        return rest.strip()
    if word == "async":
        return None
    raise ValueError(
        f"line {_line_of(text, found.start())}: 'run: {word}{rest}' is no directive; skip needs a reason"
    )


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _dedent(code: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))


def run_blocks(blocks: list[Block], *, filename: str, module: ModuleType, replace: Mapping[str, str]) -> None:
    """Run the blocks in the module's namespace; ``replace`` puts real addresses in the place of written ones."""
    module.__dict__["__expect__"] = expect
    with asyncio.Runner() as runner:
        for block in blocks:
            if block.skip is None:
                _run_block(block, filename=filename, module=module, replace=replace, runner=runner)


def _run_block(
    block: Block, *, filename: str, module: ModuleType, replace: Mapping[str, str], runner: asyncio.Runner
) -> None:
    source = block.code
    for written, real in replace.items():
        source = source.replace(written, real)
    tree = _expect_errors(source)
    for beginning, hidden in block.hidden:
        _put_before(tree, source.splitlines(), beginning, hidden)
    ast.increment_lineno(tree, block.line - 1)
    code = compile(tree, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        runner.run(_awaited(eval(code, module.__dict__)))
    else:
        exec(code, module.__dict__)


def _put_before(tree: ast.Module, lines: list[str], beginning: str, hidden: str) -> None:
    """Insert hidden code before the one statement that begins so; its lines are that statement's."""
    places = [n for n, node in enumerate(tree.body) if lines[node.lineno - 1].startswith(beginning)]
    if len(places) != 1:
        raise ValueError(f"{len(places)} statements of the block begin with {beginning!r}")
    code = ast.parse(hidden).body
    for statement in code:
        for node in ast.walk(statement):
            if hasattr(node, "lineno"):
                ast.copy_location(node, tree.body[places[0]])
    tree.body[places[0] : places[0]] = code


async def _awaited(coroutine: object) -> None:
    await coroutine  # type: ignore[misc]


@contextmanager
def expect(name: str) -> Iterator[None]:
    """Expect an error whose class, or a base of it, has this name."""
    try:
        yield
    except BaseException as error:
        if name not in [base.__name__ for base in type(error).__mro__]:
            raise
    else:
        raise NothingRaised(f"this line promises to raise {name} and raised nothing")


def _expect_errors(source: str) -> ast.Module:
    """Parse, with each statement whose last line says ``# raises X`` put into ``with __expect__("X"):``."""
    tree = ast.parse(source)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    promised = {
        token.end[0]: said[1]
        for token in tokens
        if token.type == tokenize.COMMENT and (said := _RAISES.match(token.string))
    }
    rewriter = _ExpectErrors(promised)
    tree = rewriter.visit(tree)
    if left := sorted(promised.keys() - rewriter.done):
        raise ValueError(f"'# raises' in line {left[0]} of the block ends no simple statement")
    return ast.fix_missing_locations(tree)


class _ExpectErrors(ast.NodeTransformer):
    def __init__(self, promised: dict[int, str]) -> None:
        self.promised = promised
        self.done: set[int] = set()

    def visit(self, node: ast.AST) -> ast.AST:
        simple = isinstance(node, ast.stmt) and not hasattr(node, "body")
        name = self.promised.get(node.end_lineno or 0) if simple else None  # type: ignore[attr-defined]
        if name is None:
            return self.generic_visit(node)
        self.done.add(node.end_lineno)  # type: ignore[attr-defined]
        guard = ast.parse(f"with __expect__({name!r}): pass").body[0]
        assert isinstance(guard, ast.With)
        guard.body = [node]  # type: ignore[list-item]
        for part in ast.walk(guard.items[0].context_expr):
            ast.copy_location(part, node)
        return ast.copy_location(guard, node)


def read_file(path: Path) -> list[Block]:
    return list(read_blocks(path.read_text(encoding="utf-8"), path.parent))
