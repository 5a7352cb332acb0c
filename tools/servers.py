"""Servers for the tests: those given by URL, else private ones that live as long as the tests do.

For each kind of server, in this order: the URL in ``HOLDFAST_TEST_<KIND>_URL``; a throwaway server from the
programs installed here, on a free loopback port, its data in a temporary folder; the same after installing
Debian's packages, where that is allowed; else none, which the tests show as skips (under ``CI``: as failures).
A kind that stands before another one, as PgBouncer does, is told that one's URL.

The rule of the file: standard library only, and a new kind of server is one entry in `KINDS`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

START_SECONDS = 60.0
STOP_SECONDS = 15.0
PREPARE_SECONDS = 120.0
INSTALL_SECONDS = 600.0
TRIES = 3  # another program may take the free port between our finding it and the server's binding it


@dataclass(frozen=True)
class Place:
    """Where one throwaway server lives: its programs, folder, port, user and password."""

    programs: Path
    folder: Path
    port: int
    user: str | None = None
    behind: str | None = field(default=None, repr=False)  # the URL of the server that it stands before
    password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"


@dataclass(frozen=True)
class Kind:
    """All that differs from one kind of server to another."""

    name: str
    program: str
    folders: tuple[str, ...]  # glob patterns, searched after PATH; the last match in natural order wins
    packages: tuple[str, ...]  # Debian's
    users: tuple[str, ...]  # whom to run as when we are root; the first that exists
    prepare: Callable[[Place], list[list[str]]]
    serve: Callable[[Place], list[str]]
    is_ready: Callable[[Place], bool]
    url: Callable[[Place], str]
    stop_signal: signal.Signals  # end now, tell the clients, no recovery needed
    before: str | None = None  # the name of the kind that it stands before, which comes earlier in `KINDS`

    @property
    def variable(self) -> str:
        return f"HOLDFAST_TEST_{self.name.upper()}_URL"


@dataclass(frozen=True)
class Lent:
    """One kind of server as the tests will find it: a URL, or why there is none."""

    kind: Kind
    url: str | None
    note: str


class ServerFailed(Exception):
    """A server could not be prepared or did not start; the text ends with its log."""


# ---------------------------------------------------------------------------------------------- PostgreSQL


def _postgresql_prepare(place: Place) -> list[list[str]]:
    secret = place.folder / "password"
    secret.write_text(place.password)
    secret.chmod(0o600)
    _give_to(place.user, secret)
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    return [
        [
            str(place.programs / "initdb"),
            "-D",
            str(place.data),
            "-U",
            "holdfast",
            "--pwfile",
            str(secret),
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            f"--locale={locale}",
            "--no-sync",
        ]
    ]


def _postgresql_serve(place: Place) -> list[str]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(place.folder),
        "max_connections": "200",
        "fsync": "off",  # nothing here outlives the tests
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "autovacuum": "on",
        "timezone": "UTC",
        "log_min_messages": "warning",
        "max_prepared_transactions": "20",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(place.programs / "postgres"), "-D", str(place.data), "-p", str(place.port), *options]


def _postgresql_is_ready(place: Place) -> bool:
    # The eighth line of postmaster.pid is the state, since PostgreSQL 10 (src/include/utils/pidfile.h).
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


POSTGRESQL = Kind(
    name="postgresql",
    program="postgres",
    folders=(
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/usr/local/pgsql/bin",
        "/opt/homebrew/opt/postgresql*/bin",
        "/usr/local/opt/postgresql*/bin",
    ),
    packages=("postgresql",),
    users=("postgres", "nobody"),
    prepare=_postgresql_prepare,
    serve=_postgresql_serve,
    is_ready=_postgresql_is_ready,
    url=lambda place: f"postgresql://holdfast:{place.password}@127.0.0.1:{place.port}/postgres",
    stop_signal=signal.SIGINT,  # "fast": ends sessions, no waiting for clients
)


# ----------------------------------------------------------------------------------------------- PgBouncer

BOUNCED = 3  # server connections per database and user: few, so that many clients must share them


def _pgbouncer_prepare(place: Place) -> list[list[str]]:
    server = urlsplit(place.behind or "")
    user, password = unquote(server.username or ""), unquote(server.password or "")
    where = f"host={server.hostname or '127.0.0.1'} port={server.port or 5432}"
    name = server.path.lstrip("/") or user
    users = place.folder / "users.txt"
    # To log in to a server by SCRAM, PgBouncer needs the password itself.
    users.write_text(f'"{user}" "{password}"\n')
    users.chmod(0o600)
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(place.port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256" if password else "trust",
        "auth_file": str(users),
        "pool_mode": "transaction",
        "default_pool_size": str(BOUNCED),
        "max_client_conn": "400",
        "admin_users": user,
        "server_login_retry": "1",
    }
    databases = [
        f"* = {where}",
        f"{SESSION_MODE} = {where} dbname={name} pool_mode=session",
    ]
    lines = ["[databases]", *databases, "[pgbouncer]", *(f"{name} = {v}" for name, v in settings.items())]
    (place.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    for path in (users, place.folder / "pgbouncer.ini"):
        _give_to(place.user, path)
    return []


SESSION_MODE = "holdfast_session_mode"  # the name under which the maintenance database is pooled by session


def _pgbouncer_is_ready(place: Place) -> bool:
    # It writes this line after it listens; that the port answers could be another program's doing.
    with contextlib.suppress(OSError):
        return "process up" in place.log.read_text(errors="replace")
    return False


PGBOUNCER = Kind(
    name="pgbouncer",
    program="pgbouncer",
    folders=("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/opt/homebrew/opt/pgbouncer/bin"),
    packages=("pgbouncer",),
    users=("postgres", "nobody"),  # it refuses to run as root
    prepare=_pgbouncer_prepare,
    serve=lambda place: [str(place.programs / "pgbouncer"), str(place.folder / "pgbouncer.ini")],
    is_ready=_pgbouncer_is_ready,
    url=lambda place: _at(place.behind or "", place.port),
    stop_signal=signal.SIGTERM,
    before="postgresql",
)


def _at(url: str, port: int) -> str:
    """The same user, password and database at a port of this machine."""
    parts = urlsplit(url)
    who = parts.netloc.rpartition("@")[0]
    return f"postgresql://{who}{'@' if who else ''}127.0.0.1:{port}{parts.path}"


# ------------------------------------------------------------------------------------------------- MariaDB


def _mariadb_prepare(place: Place) -> list[list[str]]:
    first = place.folder / "first.sql"
    first.write_text(
        f"CREATE USER 'holdfast'@'127.0.0.1' IDENTIFIED BY '{place.password}';\n"
        "GRANT ALL ON *.* TO 'holdfast'@'127.0.0.1' WITH GRANT OPTION;\n"
        "CREATE DATABASE holdfast CHARACTER SET utf8mb4;\n"
    )
    first.chmod(0o600)
    _give_to(place.user, first)
    return [
        [
            _mariadb_installer(place),
            "--no-defaults",
            f"--datadir={place.data}",
            "--auth-root-authentication-method=socket",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
    ]


def _mariadb_installer(place: Place) -> str:
    """The installer stands beside the server, or in the folder of what every user may run."""
    beside = (place.programs / "mariadb-install-db", place.programs.parent / "bin" / "mariadb-install-db")
    return str(
        next((path for path in beside if path.exists()), shutil.which("mariadb-install-db") or beside[0])
    )


def _mariadb_serve(place: Place) -> list[str]:
    settings = {
        "datadir": str(place.data),
        "port": str(place.port),
        "bind-address": "127.0.0.1",
        "socket": str(place.folder / "s"),
        "pid-file": str(place.folder / "pid"),
        "init-file": str(place.folder / "first.sql"),
        "skip-name-resolve": "1",
        "max-connections": "200",
        "character-set-server": "utf8mb4",
        "innodb-flush-log-at-trx-commit": "0",  # nothing here outlives the tests
        "innodb-doublewrite": "0",
        "innodb-buffer-pool-size": "64M",
        "sync-binlog": "0",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    return [str(place.programs / "mariadbd"), "--no-defaults", *options]


def _mariadb_is_ready(place: Place) -> bool:
    # It writes this line after it has run the init-file.
    with contextlib.suppress(OSError):
        return "ready for connections" in place.log.read_text(errors="replace")
    return False


MARIADB = Kind(
    name="mariadb",
    program="mariadbd",
    folders=(
        "/usr/sbin",
        "/usr/libexec",
        "/usr/local/sbin",
        "/opt/homebrew/opt/mariadb*/bin",
        "/usr/local/opt/mariadb*/bin",
    ),
    packages=("mariadb-server-core", "mariadb-client-core"),
    users=("mysql", "nobody"),  # it refuses to run as root
    prepare=_mariadb_prepare,
    serve=_mariadb_serve,
    is_ready=_mariadb_is_ready,
    url=lambda place: f"mariadb://holdfast:{place.password}@127.0.0.1:{place.port}/holdfast",
    stop_signal=signal.SIGTERM,
)


KINDS: tuple[Kind, ...] = (POSTGRESQL, PGBOUNCER, MARIADB)


# ------------------------------------------------------------------------------------------------- lending


@contextlib.contextmanager
def lend(kinds: tuple[Kind, ...] = KINDS, *, say: Callable[[str], None] = print) -> Iterator[list[Lent]]:
    """Lend a server of each kind for as long as the block runs; end what was started, whatever happens."""
    _sweep_leftovers()
    with contextlib.ExitStack() as stack:
        lent: list[Lent] = []
        for kind in kinds:
            behind = next((one.url for one in lent if one.kind.name == kind.before), None)
            lent.append(_lend_one(kind, stack, say, behind))
            say(f"{kind.name}: {lent[-1].note}")
        yield lent


def _lend_one(
    kind: Kind, stack: contextlib.ExitStack, say: Callable[[str], None], behind: str | None = None
) -> Lent:
    given = os.environ.get(kind.variable)
    if given:
        return Lent(kind, given, f"the server given by {kind.variable}")
    if kind.before and behind is None:
        return Lent(kind, None, f"NO SERVER: there is no {kind.before} for it to stand before")
    programs = find_programs(kind)
    if programs is None and _may_install():
        problem = _install(kind, say)
        programs = find_programs(kind)
        if programs is None:
            return Lent(kind, None, f"NO SERVER: {problem or 'the packages brought no ' + kind.program}")
    if programs is None:
        return Lent(
            kind,
            None,
            f"NO SERVER: found no {kind.program!r}; install {' '.join(kind.packages)}, or set {kind.variable}; "
            f"its tests are {'FAILURES, because CI is set' if os.environ.get('CI') else 'skipped'}",
        )
    try:
        place = stack.enter_context(throwaway(kind, programs, behind))
    except (ServerFailed, OSError) as error:
        return Lent(kind, None, f"NO SERVER: {error}")
    return Lent(kind, kind.url(place), f"{_version(kind, programs)}, private, on 127.0.0.1:{place.port}")


def find_programs(kind: Kind) -> Path | None:
    """Find the folder that holds the server's programs; links are followed, for helpers may lie only there."""
    on_path = shutil.which(kind.program)
    if on_path:
        return Path(on_path).resolve().parent
    for pattern in kind.folders:
        found = [path for path in Path("/").glob(pattern.lstrip("/")) if (path / kind.program).is_file()]
        if found:
            return max(found, key=_natural).resolve()
    return None


def _natural(path: Path) -> list[tuple[int, str]]:
    digits = "".join(char if char.isdigit() else " " for char in str(path)).split()
    return [(int(number), "") for number in digits] + [(0, str(path))]


def _version(kind: Kind, programs: Path) -> str:
    asked = subprocess.run(
        [str(programs / kind.program), "--version"], capture_output=True, text=True, check=False, timeout=30
    )
    return asked.stdout.strip().partition("\n")[0] or kind.name


# ---------------------------------------------------------------------------------------- throwaway servers


@contextlib.contextmanager
def throwaway(kind: Kind, programs: Path, behind: str | None = None) -> Iterator[Place]:
    """Run a private server for as long as the block runs, and remove all it leaves."""
    for tries_left in reversed(range(TRIES)):
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(prepared(kind, programs, behind))
                stack.enter_context(running(kind, place))
            except ServerFailed:
                if tries_left:
                    continue
                raise
            yield place
            return


@contextlib.contextmanager
def prepared(kind: Kind, programs: Path, behind: str | None = None) -> Iterator[Place]:
    """Prepare a private server that does not run yet, and remove all it leaves at the end."""
    with _place(kind, programs, behind) as place:
        for command in kind.prepare(place):
            _run_as(place, command)
        yield place


@contextlib.contextmanager
def _place(kind: Kind, programs: Path, behind: str | None) -> Iterator[Place]:
    user = next((name for name in kind.users if _exists(name)), None) if _is_root() else None
    folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-"))
    try:
        _give_to(user, folder)
        yield Place(programs=programs, folder=folder, port=find_free_port(), user=user, behind=behind)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(kind: Kind, place: Place) -> Iterator[None]:
    """Run a prepared server for as long as the block runs; it may run again afterwards."""
    with place.log.open("wb") as log:  # anew: what an earlier run wrote says nothing of this one
        process = subprocess.Popen(
            kind.serve(place),
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=place.user,
            group=_group(place.user),
            extra_groups=[] if place.user else None,
            start_new_session=True,  # a Ctrl-C at the terminal ends the tests first, and then, by us, the server
            preexec_fn=_die_with_parent(kind.stop_signal),  # noqa: PLW1509 - no thread runs yet
        )
    try:
        _wait_until_ready(kind, place, process)
        yield
    finally:
        _stop(process, kind.stop_signal)


def _wait_until_ready(kind: Kind, place: Place, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not kind.is_ready(place):
        if process.poll() is not None:
            raise ServerFailed(
                f"{kind.program} ended at its start with {process.returncode}\n{_tail(place.log)}"
            )
        if time.monotonic() > deadline:
            raise ServerFailed(f"{kind.program} was not ready within {START_SECONDS:g} s\n{_tail(place.log)}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    for number in (stop_signal, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


def _run_as(place: Place, command: list[str]) -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            user=place.user,
            group=_group(place.user),
            extra_groups=[] if place.user else None,
            timeout=PREPARE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServerFailed(f"{name} took more than {PREPARE_SECONDS:g} s") from None
    if done.returncode:
        raise ServerFailed(f"{name} failed with {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """Let Linux end the server should we be killed outright.

    PR_SET_PDEATHSIG must be set after the change of user, which would clear it; hence in the child.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, int(stop_signal)) and None


def _prefix() -> str:
    return "holdfast-server-"


def _sweep_leftovers() -> None:
    """Remove folders whose `./dev` was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*-*"):
        owner = folder.name.removeprefix(_prefix()).split("-")[0]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace")[-2000:]
    return "(it wrote no log)"


# --------------------------------------------------------------------------------------- users and packages


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _exists(user: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _group(user: str | None) -> int | None:
    import pwd

    return pwd.getpwnam(user).pw_gid if user else None


def _give_to(user: str | None, path: Path) -> None:
    if user:
        shutil.chown(path, user, _group(user))


def _may_install() -> bool:
    return _is_root() and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def _install(kind: Kind, say: Callable[[str], None]) -> str | None:
    """Install Debian's packages without letting them start a server of their own; answer what went wrong."""
    say(f"{kind.name}: not installed; installing Debian's {' '.join(kind.packages)} …")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *kind.packages],
    )
    with _no_services():
        for command in commands:
            try:
                done = subprocess.run(
                    command,
                    env=quiet,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=INSTALL_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{' '.join(command)} took more than {INSTALL_SECONDS:g} s"
            if done.returncode:
                return f"{' '.join(command)} failed with {done.returncode}\n{done.stdout[-1500:]}"
    return None


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting what they bring: invoke-rc.d asks policy-rc.d, and 101 means "not allowed"."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    try:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)
