"""A real cluster for tests: several nodes on this machine, started and stopped by the shell's own commands."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import autoopt

LIMIT_S = 200.0


@dataclass(frozen=True)
class Place:
    """A user's home (for the token) and a folder of clusters, both nobody else's."""

    home: Path
    clusters: Path
    """With a short path: sockets lie below it."""
    variables: dict[str, str] = field(default_factory=dict)
    """More of the environment."""

    @property
    def environment(self) -> dict[str, str]:
        """Of the commands, and so of the nodes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AUTOOPT_"))}
        root = str(Path(autoopt.__file__).parent.parent)
        paths = os.pathsep.join(
            dict.fromkeys(filter(None, [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
        )
        return kept | {"HOME": str(self.home), "PYTHONPATH": paths, "COLUMNS": "100"} | self.variables

    @property
    def token_file(self) -> Path:
        """The token of all its clusters."""
        return self.home / ".ray" / "auth_token"

    @property
    def token(self) -> str:
        """What is in it."""
        return self.token_file.read_text().strip()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``autoopt`` with these arguments and the folder of clusters."""
        return subprocess.run(
            [sys.executable, "-m", "autoopt", *arguments, "--temp-dir", str(self.clusters)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def up(self, *arguments: str) -> dict[str, Any]:
        """``autoopt cluster up``; what it says of the node."""
        done = self.run("cluster", "up", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def head(self, *arguments: str) -> dict[str, Any]:
        """The same for a head, on ports that nobody uses."""
        port, dashboard = free_ports(2)
        return self.up("--port", str(port), "--dashboard-port", str(dashboard), *arguments)

    def down(self) -> None:
        """``autoopt cluster down``."""
        done = self.run("cluster", "down")
        assert done.returncode == 0, done.stderr

    def records(self) -> list[Path]:
        """Of the nodes that were started and not stopped."""
        return sorted((self.clusters / "nodes").glob("*.json"))

    def ask(self, address: str, path: str, post: Any = None) -> Any:
        """What a head's dashboard answers, as JSON values; asked to do something where there is something to send."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = None if post is None else json.dumps(post).encode()
        asked = urllib.request.Request(address + path, body, headers)  # noqa: S310 (a head's)
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read())


@dataclass(frozen=True)
class TwoNodes:
    """A head of the kind "default" and a node of the kind "edge", as `autoopt cluster up` has told of them."""

    place: Place
    head: dict[str, Any]
    edge: dict[str, Any]

    @property
    def address(self) -> str:
        """Of the dashboard."""
        return str(self.head["dashboard"])

    def ask(self, path: str, post: Any = None) -> Any:
        """See `Place.ask`."""
        return self.place.ask(self.address, path, post)


@contextmanager
def place_for_clusters(home: Path, variables: Mapping[str, str] | None = None) -> Iterator[Place]:
    """A place where nothing runs; whatever is started there is stopped at the end. ``variables``: more of its environment."""
    with tempfile.TemporaryDirectory(prefix="ac-", dir="/tmp") as folder:  # its path must be short
        place = Place(home, Path(folder), dict(variables or {}))
        try:
            yield place
        finally:
            place.down()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
