"""``python -m bench``: one run, all systems in turn, tables and JSON out."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import placement, report
from bench.harness import Entry, Harness
from bench.placement import Placement
from bench.schema import MariadbAdmin, PostgresAdmin, SqliteAdmin
from bench.systems import BARE, MODULES, find
from bench.workloads import WORKLOADS

URLS = {"postgresql": "HOLDFAST_TEST_POSTGRESQL_URL", "mariadb": "HOLDFAST_TEST_MARIADB_URL"}
SHARED: dict[str, type[PostgresAdmin | MariadbAdmin]] = {"postgresql": PostgresAdmin, "mariadb": MariadbAdmin}


def main() -> int:
    if sys.argv[1:2] == ["pools"]:
        from bench import pools

        return pools.main(sys.argv[2:])
    if sys.argv[1:2] == ["collector"]:
        from bench import collector

        return collector.main(sys.argv[2:])
    if sys.argv[1:2] == ["hops"]:
        from bench import hops

        return hops.main(sys.argv[2:])
    options = _read_arguments()
    urls = {server: os.environ.get(variable) for server, variable in URLS.items()}
    if options.server in urls and not urls[options.server]:
        variable = URLS[options.server]
        print(
            f"Set {variable}={options.server}://…, or run `./dev bench`, which lends a server.",
            file=sys.stderr,
        )
        return 2
    pinned = Placement(options.pin)
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder, ExitStack() as stack:
        harness = Harness([], pinned, _tell if sys.stderr.isatty() else lambda _: None)
        for server in [options.server] if options.server else list(MODULES):
            if server in urls and not urls[server]:
                print(f"{server} is left out: {URLS[server]} is not set.")
                continue
            admins = _make_admins(server, urls.get(server), Path(folder), stack)
            harness.entries += _open_all(harness, server, admins, options)
        stack.callback(harness.close)  # before the admins drop the tables, which a system may still hold
        harness.run(
            [one for one in WORKLOADS if not options.only or one.name in options.only], options.rounds
        )
        _report(harness, pinned, options)
    return 0


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time Holdfast beside its peers.")
    names = [one.name for one in WORKLOADS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="WORK", help=f"any of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each workload (25)")
    parser.add_argument("--server", choices=list(MODULES), help="one server only")
    parser.add_argument("--door", choices=("blocking", "async"), help="one door only")
    parser.add_argument(
        "--systems",
        nargs="+",
        metavar="NAME",
        help="only systems whose name begins so; the driver always runs",
    )
    parser.add_argument(
        "--pin", choices=placement.MODES, default="apart", help="which core runs what; see bench/README.md"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    return parser.parse_args()


def _tell(text: str) -> None:
    print(f"\r\033[K{text}", end="\r", file=sys.stderr, flush=True)


def _make_admins(server: str, url: str | None, folder: Path, stack: ExitStack) -> Iterator[Any]:
    """Give each system its admin: a server's is one for all, SQLite's one for each."""
    if server in SHARED:
        assert url is not None
        shared = stack.enter_context(_closing(SHARED[server](url)))
        while True:
            yield shared
    for number in range(100):
        yield stack.enter_context(_closing(SqliteAdmin(folder, f"system{number}")))


@contextmanager
def _closing(admin: Any) -> Iterator[Any]:
    try:
        yield admin
    finally:
        admin.close()


def _open_all(
    harness: Harness, server: str, admins: Iterator[Any], options: argparse.Namespace
) -> list[Entry]:
    entries = []
    for name, found in find(server):
        if isinstance(found, Exception):
            print(f"{server} {name} is left out: {type(found).__name__}: {found}")
            continue
        wanted = found.name == BARE or not options.systems or found.name.startswith(tuple(options.systems))
        if wanted and options.door in (None, found.door):
            entry = Entry(found(), next(admins))
            if server == "sqlite":
                entry.admin.seed(found.stamp)
            harness.call(entry.system.open, entry.admin.place)
            entries.append(entry)
    return entries


def _report(harness: Harness, pinned: Placement, options: argparse.Namespace) -> None:
    servers = {entry.admin.place.server: entry.admin.describe() for entry in harness.entries}
    versions = report.find_versions()
    print("; ".join([*servers.values(), *(f"{name} {number}" for name, number in versions.items())]))
    print(f"{options.rounds} rounds; client and server pinned: {pinned.mode}")
    report.print_tables(harness.samples, harness.entries)
    if options.json:
        settings = {"servers": servers, "rounds": options.rounds, "pinned": pinned.mode}
        report.write_json(options.json, harness.samples, harness.entries, settings)


if __name__ == "__main__":
    sys.exit(main())
