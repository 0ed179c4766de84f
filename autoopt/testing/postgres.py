"""A PostgreSQL server of one's own, for tests and benchmarks: on the loopback, a free port, a password, a temporary folder.

It is as safe as its folder: nothing is synced to the disk, since nothing in it outlives the test.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

PROGRAMS = ("initdb", "pg_ctl")
USER = "autoopt"
# Who runs the server where root does: it refuses to run as root.
_UNPRIVILEGED = ("postgres", "nobody")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}


# The server is a daemon: it outlives a test that is killed.
_SWEEP = """
import os, pathlib, shutil, signal, sys, time
sys.stdin.read()
folder = pathlib.Path(sys.argv[1])
try:
    server = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(server, signal.SIGQUIT)
    for _ in range(500):
        if pathlib.Path(f"/proc/{server}").exists():
            time.sleep(0.02)
except (FileNotFoundError, ProcessLookupError):
    pass
shutil.rmtree(folder, ignore_errors=True)
"""


class MissingServerError(Exception):
    """PostgreSQL's programs are not installed; the message says how to get them."""


@dataclass(frozen=True)
class PostgresServer:
    """A running server, or one that was stopped and can be started again."""

    folder: Path
    port: int
    binaries: Path
    user: str = USER
    password: str = field(default="", repr=False)

    def url(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """Where a study is: ``postgresql+psycopg://user:password@127.0.0.1:port/database``."""
        named, secret = user or self.user, self.password if password is None else password
        return f"postgresql+psycopg://{named}:{secret}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; its URL."""
        name = f"study_{token_hex(4)}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def execute(
        self, statement: str, parameters: tuple[object, ...] = (), database: str = "postgres"
    ) -> list[tuple[object, ...]]:
        """Run a statement outside of a transaction; its rows."""
        import psycopg

        dsn = f"host=127.0.0.1 port={self.port} user={self.user} password={self.password} dbname={database}"
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def cut(self, database: str) -> int:
        """End every connection to the database, as a network that fails does; how many."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        return len(self.execute(ended, (database,)))

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._pg_ctl("start", "--wait", "--log", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends the connections in good order, "immediate" is a crash."""
        self._pg_ctl("stop", "--wait", "--mode", mode)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def ensure_running(self) -> None:
        """Start it where it was stopped."""
        if not (self.folder / "data" / "postmaster.pid").exists():
            self.start()

    def _pg_ctl(self, *arguments: str) -> None:
        _run(
            [str(self.binaries / "pg_ctl"), "--pgdata", str(self.folder / "data"), "--silent", *arguments], self.folder
        )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server as long as the context lasts.

    Raises:
        MissingServerError: its programs are not installed.
    """
    binaries = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="autoopt-postgres-"))
    with _swept(folder):
        _give_away(folder)
        server = _made(folder, binaries)
        server.start()
        yield server


@contextmanager
def _swept(folder: Path) -> Iterator[None]:
    """Whatever becomes of this process, no server stays behind: another one waits for its end."""
    command = [sys.executable, "-c", _SWEEP, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


def find_programs() -> Path:
    """The folder of PostgreSQL's programs: of those on the path, else where Debian puts them.

    Raises:
        MissingServerError: there are none.
    """
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.partition(".")[0]))
    for folder in (*([Path(on_path).resolve().parent] if on_path else []), *reversed(debian)):
        if all((folder / name).exists() for name in PROGRAMS):
            return folder
    message = "PostgreSQL's server is not installed (no initdb); on Debian: sudo apt-get install postgresql"
    raise MissingServerError(message)


def _made(folder: Path, binaries: Path) -> PostgresServer:
    password = token_hex(8)
    secret = folder / "password"
    secret.write_text(password)
    _give_away(secret)
    initdb = [str(binaries / "initdb"), "--pgdata", str(folder / "data"), "--username", USER, "--pwfile", str(secret)]
    _run([*initdb, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"], folder)
    secret.unlink()
    port = _free_port()
    lines = [f"{name} = '{value}'" for name, value in {**_SETTINGS, "port": port}.items()]
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("\n".join(lines) + "\n")
    return PostgresServer(folder, port, binaries, password=password)


def _run(command: list[str], folder: Path) -> None:
    """As somebody who is not root: the server refuses to be."""
    owner = _owner()
    identity = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": ()}
    # The server goes on with the files that it is given: a pipe would be waited for until it ends.
    with (folder / "commands.log").open("a+") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False, timeout=120, **identity)  # type: ignore[call-overload]  # a dict of its keywords
        log.seek(0)
        said = log.read()
    if done.returncode:
        message = f"{Path(command[0]).name} failed ({done.returncode}):\n{said[-2000:]}"
        raise RuntimeError(message)


def _owner() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in _UNPRIVILEGED if name in known)


def _give_away(path: Path) -> None:
    owner = _owner()
    if owner is not None:
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
