"""What the service's benchmarks share: a cluster of this machine's own, jobs on it, and where processor time goes.

Everything is started through the shell, as a user does, in a home of its own with ports of its own, and ended whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from autoopt.cluster import started
from autoopt.cluster.processes import processes_of

HERE = Path(__file__).parent
TASK = f"{HERE / 'task' / 'task.py'}:task"
SIMULATED = HERE / "simulated"
_COMMAND_S = 180.0


@dataclass(frozen=True)
class StageTime:
    """A stage that was computed: a line of a job's ``stages.jsonl``."""

    kind: str
    name: str
    began: float
    """Seconds since the epoch."""
    seconds: float

    @property
    def ended(self) -> float:
        """Seconds since the epoch."""
        return self.began + self.seconds


@dataclass(frozen=True)
class JobHere:
    """A job that was submitted to a `Service`, seen through the folder that it leaves in the store."""

    name: str
    folder: Path

    def stages(self) -> list[StageTime]:
        """All stages that were computed so far, in the order in which they ended."""
        path = self.folder / "logs" / "stages.jsonl"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [StageTime(line["kind"], line["name"], line["started_at"], line["seconds"]) for line in lines]

    def state(self) -> Mapping[str, Any]:
        """As the job last wrote it; empty before it has begun."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return found

    def decided(self) -> int:
        """How many candidates have ended."""
        progress = self.state().get("progress", {})
        return sum(progress.get(name, 0) for name in ("measured", "eliminated", "failed"))

    def ended(self) -> bool:
        """Whether nobody works at it any more."""
        return self.state().get("status") in ("done", "failed", "cancelled", "interrupted")


@dataclass
class Service:
    """A cluster on this machine. See `service`."""

    root: Path
    port: int
    dashboard_port: int
    environment: dict[str, str] = field(repr=False)

    @property
    def address(self) -> str:
        """Of its dashboard."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def store(self) -> Path:
        """Its jobs' store."""
        return self.root / "store"

    def up(self, *flags: str) -> None:
        """Start a node; the first is the head."""
        head = not started.read_all(self._folder)
        ports = ("--port", str(self.port), "--dashboard-port", str(self.dashboard_port))
        how = ports if head else ("--join", f"127.0.0.1:{self.port}")
        self.shell("cluster", "up", *how, "--temp-dir", str(self._folder), *flags)

    def submit(self, name: str, space: Path | str, budget: str, task: str = TASK, store: Path | None = None) -> JobHere:
        """Submit a job by ``autoopt submit``; returns when the command has ended. ``store``: another than the usual one."""
        root = store or self.store
        asked = ("--space", str(space), "--budget", budget, "--name", name, "--store", str(root))
        self.shell("submit", task, *asked, "--address", self.address)
        return JobHere(name, root / "jobs" / name)

    def cancel(self, job: JobHere) -> None:
        """End a job."""
        self.shell("cancel", job.name, "--address", self.address, "--store", str(job.folder.parents[1]))

    def shell(self, *arguments: str) -> str:
        """A command of ``autoopt``; what it prints.

        Raises:
            SystemExit: it failed; the message is what it said.
        """
        command = [sys.executable, "-m", "autoopt", *arguments]
        ended = subprocess.run(
            command,
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
        if ended.returncode:
            sys.exit(f"autoopt {' '.join(arguments)} failed:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def processor_s(self) -> dict[str, float]:
        """Processor seconds that the cluster's processes have used so far, by what they are for."""
        used: Counter[str] = Counter()
        seen: set[int] = set()
        for record in started.read_all(self._folder):
            for process in processes_of(record):
                if process.pid not in seen:
                    seen.add(process.pid)
                    used += _used(process)
        return dict(used)

    def down(self) -> None:
        """Stop every node."""
        with contextlib.suppress(SystemExit, subprocess.TimeoutExpired):
            self.shell("cluster", "down", "--temp-dir", str(self._folder))

    @property
    def _folder(self) -> Path:
        return self.root / "c"


@contextlib.contextmanager
def service(*nodes: Sequence[str], simulated: bool = True) -> Iterator[Service]:
    """A cluster of these nodes, as long as the context lasts.

    Args:
        nodes: the flags of ``autoopt cluster up`` for each, the head's first.
        simulated: whether the plugins that only take their time are installed on them.
    """
    # A terminated benchmark takes its cluster along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root = Path(tempfile.mkdtemp(prefix="autoopt-"))
    (root / "home").mkdir()
    (root / "c" / "nodes").mkdir(parents=True)
    made = Service(root, _free_port(), _free_port(), _environment(root, simulated=simulated))
    try:
        for flags in nodes:
            made.up(*flags)
        yield made
    finally:
        # Nothing may interrupt this: a cluster that is left behind eats the machine.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        made.down()
        shutil.rmtree(root, ignore_errors=True)


def wait_for(true: Callable[[], bool], what: str, limit_s: float, every_s: float = 0.2) -> None:
    """Wait until something is so.

    Raises:
        SystemExit: it was not within the limit.
    """
    end = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end:
            sys.exit(f"waited {limit_s:g} s in vain for {what}")
        time.sleep(every_s)


def figure(value: float | None, target: float, *, at_least: bool = True) -> dict[str, float | bool | None]:
    """A figure beside its target."""
    met = value is not None and (value >= target if at_least else value <= target)
    return {"value": value, "target": target, "met": met}


def load() -> float:
    """How many processes of the machine wanted a core during the last minute."""
    return round(os.getloadavg()[0], 1)


def told(text: str) -> None:
    """What a person who waits may want to know; the figures go to stdout."""
    print(text, file=sys.stderr, flush=True)


def _environment(root: Path, *, simulated: bool) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AUTOOPT_"))}
    home = str(HERE.parents[1])
    path = [*([str(SIMULATED)] if simulated else []), home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"HOME": str(root / "home"), "PYTHONPATH": os.pathsep.join(path)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _used(process: psutil.Process) -> Counter[str]:
    """A process's seconds; those of a stage are in its parent's, which forked it and heard of its end."""
    try:
        name, command = process.name(), " ".join(process.cmdline())
        times = process.cpu_times()
    except psutil.Error:
        return Counter()
    own, ended = times.user + times.system, times.children_user + times.children_system
    kind = _kind(name, command)
    return Counter({kind: own + ended if kind == "stages" else own})


def _kind(name: str, command: str) -> str:
    if "autoopt.jobs.drive" in command:
        return "controller"
    if "autoopt.workers.process.zygote" in command:
        return "stages"
    if any(actor in command for actor in ("TrainingDesk", "Commons")):
        return "desk and commons"
    if "Trainable" in command or "CandidateTrial" in command:
        return "coordinators"
    if command.startswith("ray::") and "JobSupervisor" not in command and "Agent" not in command:
        return "Ray's workers"
    return f"Ray's servers ({name})" if name in ("raylet", "gcs_server") else "Ray's dashboard, agents and others"
