"""The command line, `holdfast …`: one file per command.

Typer and Rich are imported when a command runs, never by ``import holdfast``.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the process was started with."""
    try:
        from .app import run
    except ModuleNotFoundError as missing:
        if missing.name not in ("typer", "rich", "click"):
            raise
        print(f"holdfast: {missing.name} is not installed. Run: pip install 'holdfast[cli]'", file=sys.stderr)
        sys.exit(3)
    sys.exit(run(sys.argv[1:]))


__all__ = ["main"]
