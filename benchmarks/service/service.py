"""What the service's benchmarks share: a cluster of this machine's own, jobs on it, and where processor time goes.

Everything is started through the shell, as a user does, in a home of its own with ports of its own, and ended whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from autoopt.cluster import started
from autoopt.cluster.processes import processes_of
from autoopt.testing.clusters import place_for_clusters
from autoopt.testing.service import Service as Client

HERE = Path(__file__).parent
TASK = f"{HERE / 'task' / 'task.py'}:task"
SIMULATED = HERE / "simulated"


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


@dataclass(frozen=True)
class Service:
    """A cluster on this machine, and a client of it. See `service`."""

    client: Client

    @property
    def root(self) -> Path:
        """The client's folder, for whatever a benchmark writes."""
        return self.client.folder

    @property
    def store(self) -> Path:
        """Its jobs' store."""
        return self.client.store

    def submit(self, name: str, space: Path | str, budget: str, task: str = TASK, store: Path | None = None) -> JobHere:
        """Submit a job by ``autoopt submit``; returns when the command has ended. ``store``: another than the usual one."""
        root = store or self.store
        asked = ("--space", str(space), "--budget", budget, "--name", name, "--store", str(root))
        self._shell("submit", task, *asked, "--address", self.client.address)
        return JobHere(name, root / "jobs" / name)

    def cancel(self, job: JobHere) -> None:
        """End a job."""
        self._shell("cancel", job.name, "--address", self.client.address, "--store", str(job.folder.parents[1]))

    def _shell(self, *arguments: str) -> None:
        ended = self.client.shell(*arguments)
        if ended.returncode:
            sys.exit(f"autoopt {' '.join(arguments)} failed:\n{ended.stdout}{ended.stderr}")

    def processor_s(self) -> dict[str, float]:
        """Processor seconds that the cluster's processes have used so far, by what they are for."""
        used: Counter[str] = Counter()
        seen: set[int] = set()
        for record in started.read_all(self.client.place.clusters):
            for process in processes_of(record):
                if process.pid not in seen:
                    seen.add(process.pid)
                    used += _used(process)
        return dict(used)


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
    plugins = os.pathsep.join(filter(None, [str(SIMULATED), str(HERE.parents[1]), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="autoopt-", ignore_cleanup_errors=True) as folder:
        home = Path(folder, "home")
        home.mkdir()
        with place_for_clusters(home, {"PYTHONPATH": plugins} if simulated else {}) as place, _to_its_end():
            head = place.head(*nodes[0])
            for flags in nodes[1:]:
                place.up("--join", head["address"], *flags)
            yield Service(Client(place, head["dashboard"], Path(folder, "store"), Path(folder)))


@contextlib.contextmanager
def _to_its_end() -> Iterator[None]:
    """What comes after the context is not interrupted: a cluster that is left behind eats the machine."""
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


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
