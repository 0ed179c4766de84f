"""A cluster of two hosts: two raylets on this machine, with a core each, that know of each other only what Ray tells them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psutil

from autoopt.cluster.processes import is_alive, processes_of
from autoopt.cluster.started import Started, read_all
from autoopt.records import from_json
from autoopt.testing.clusters import Place, free_ports, place_for_clusters

T = TypeVar("T")

MARK = "AUTOOPT_CHAOS"
"""In the environment of all that a cluster of these tests starts."""
DRIVER = "autoopt.jobs.drive"
ZYGOTE = "autoopt.workers.process.zygote"
"""In the command line of a process that works at a job."""
PLANTED = Path(__file__).parent / "planted"
COMMAND_S = 120.0


@dataclass
class Hosts:
    """The head and a worker."""

    place: Place
    cores: tuple[int, int]
    ports: tuple[int, int]
    mark: str
    head: Started | None = None
    worker: Started | None = None
    told: list[str] = field(default_factory=list)
    """What was done, for who reads why a test failed."""

    @property
    def address(self) -> str:
        """Of the dashboard."""
        return f"http://127.0.0.1:{self.ports[1]}"

    def start(self) -> None:
        """Start what does not run."""
        if self.head is None:
            port, dashboard = map(str, self.ports)
            self.head = self._up("--port", port, "--dashboard-port", dashboard, "--cores", str(self.cores[0]))
        if self.worker is None:
            self.worker = self._up("--join", f"127.0.0.1:{self.ports[0]}", "--cores", str(self.cores[1]))

    def kill_worker(self) -> None:
        """Every process of the worker ends at once, as when its power is cut."""
        assert self.worker is not None
        kill(lambda: processes_of(self.worker))
        self._forget(self.worker)
        self.worker = None

    def kill_head(self) -> None:
        """The same for the head; the worker is then without one, and is ended as well."""
        assert self.head is not None
        kill(lambda: processes_of(self.head))
        for node in filter(None, (self.worker, self.head)):
            self._forget(node)
        self.head = self.worker = None

    def shell(self, *arguments: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """``autoopt`` with these arguments, by a user of the cluster; must end with that exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "autoopt", *map(str, arguments)],
            cwd=self.place.home,
            env=self.place.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        self.told.append(f"autoopt {' '.join(map(str, arguments))}: {done.returncode} {done.stderr[-500:]}")
        assert code in (None, done.returncode), f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def end_jobs(self) -> None:
        """Kill the drivers of jobs that a failed test has left: what works for them ends with them."""
        for node in filter(None, (self.head, self.worker)):
            kill(lambda node=node: [each for each in processes_of(node) if DRIVER in said(each)])

    def _up(self, *arguments: str) -> Started:
        said = self.place.up(*arguments)
        return from_json(Started, {name: said[name] for name in Started.__dataclass_fields__})

    def _forget(self, node: Started) -> None:
        done = self.place.run("cluster", "down", "--node", node.id)
        assert done.returncode == 0, done.stderr


@contextmanager
def two_hosts(home: Path, cores: tuple[int, int]) -> Iterator[Hosts]:
    """A cluster that runs; nothing is left of it, however it is left."""
    mark = uuid4().hex
    temporary = home / "tmp"
    temporary.mkdir(parents=True)
    variables = {MARK: mark, "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / "cache")}
    try:
        with place_for_clusters(home) as place:
            paths = (str(PLANTED), place.environment["PYTHONPATH"])
            place.variables.update(variables, PYTHONPATH=os.pathsep.join(paths))
            first, second = free_ports(2)
            hosts = Hosts(place, cores, (first, second), mark)
            hosts.start()
            yield hosts
    finally:
        kill(lambda: marked(mark))


def marked(mark: str) -> list[psutil.Process]:
    """All processes that have the mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark and is_alive(process):
                found.append(process)
    return found


def kill(those: Callable[[], Iterable[psutil.Process]], limit_s: float = 20.0) -> int:
    """SIGKILL for processes until none is left; how many there were."""
    count, ends = 0, time.monotonic() + limit_s
    while there := list(those()):
        assert time.monotonic() < ends, f"these cannot be killed: {there}"
        for process in there:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        count += len(there)
        psutil.wait_procs(there, timeout=2)
    return count


def is_waiting_parent(process: psutil.Process) -> bool:
    """Whether it is a warmed parent in which nothing runs; what runs there has the same command line."""
    with suppress(psutil.Error):
        parent = process.parent()
        return ZYGOTE in said(process) and not process.children() and (parent is None or ZYGOTE not in said(parent))
    return False


def said(process: psutil.Process) -> str:
    """Its command line; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_until(true: Callable[[], T], limit_s: float, what: str, why: Callable[[], str] = lambda: "") -> T:
    """What the condition says as soon as it holds.

    Args:
        true: asked five times a second.
        limit_s: how long.
        what: is waited for.
        why: what to tell where it does not come.
    """
    ends = time.monotonic() + limit_s
    while not (found := true()):
        assert time.monotonic() < ends, f"waited {limit_s:g} s in vain for {what}\n{why()}"
        time.sleep(0.2)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A file that may not be there yet."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def records(place: Place) -> tuple[Started, ...]:
    """The nodes that were started and not stopped."""
    return read_all(place.clusters)
