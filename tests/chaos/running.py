"""A job on the cluster, seen from all sides: by the shell, by its folder in the store, and by its processes."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from hosts import DRIVER, Hosts, read_json, said, wait_until

from autoopt.cluster.processes import processes_of
from autoopt.cluster.started import Started
from autoopt.workers.store import LocalStore

ROOT = Path(__file__).parents[2]
TASK = f"{ROOT / 'examples/digits/task.py'}:task"
SPACES = Path(__file__).parent / "spaces"
ENDED = frozenset({"done", "failed", "interrupted", "cancelled"})
JOB_S = 900.0
"""Longer than any of these jobs takes on a busy machine of two cores."""


@dataclass(frozen=True)
class RunningJob:
    """One job, by its name, and the store that it works on."""

    hosts: Hosts
    name: str
    store: Path

    def submit(self, space: str, budget: str, *more: str) -> RunningJob:
        """Begin it."""
        self._shell("submit", TASK, "--space", SPACES / f"{space}.yaml", "--budget", budget, "--name", self.name, *more)
        return self

    def resume(self, *more: str) -> None:
        """Let it go on: the one command that its user needs."""
        self._shell("resume", self.name, *more)
        self.await_driver()  # or what its last one has left would be taken for the end

    def status(self) -> dict[str, Any]:
        """Its state, as the shell tells it."""
        state: dict[str, Any] = json.loads(self._shell("status", self.name, "--json").stdout)["state"]
        return state

    def _shell(self, verb: str, *arguments: str | Path) -> Any:
        return self.hosts.shell(verb, *arguments, "--address", self.hosts.address, "--store", self.store)

    @property
    def folder(self) -> Path:
        """Its own."""
        return self.store / "jobs" / self.name

    @property
    def written(self) -> dict[str, Any]:
        """Its state as its driver wrote it; empty before."""
        return read_json(self.folder / "state.json")

    @property
    def stages(self) -> list[dict[str, Any]]:
        """What was computed for it, in the order in which it ended."""
        path = self.folder / "logs" / "stages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def keys(self) -> list[str]:
        """Of these stages."""
        return [run["key"] for run in self.stages]

    @property
    def candidates(self) -> pd.DataFrame:
        """The table that it leaves."""
        return pd.read_parquet(self.folder / "candidates.parquet")

    @property
    def log(self) -> str:
        """The end of its log, and what the shell said."""
        path = self.folder / "logs" / "job.log"
        told = path.read_text(errors="replace")[-3000:] if path.exists() else "no log"
        return "\n".join([f"{self.name}: {self.written}", told, *self.hosts.told[-6:]])

    def drivers(self) -> list[psutil.Process]:
        """The process that works at it; it is the head's."""
        assert self.hosts.head is not None
        return [each for each in _with(DRIVER, self.hosts.head) if self._is_mine(each)]

    def _is_mine(self, driver: psutil.Process) -> bool:
        with suppress(psutil.Error, KeyError):
            told = json.loads(driver.environ()["RAY_JOB_CONFIG_JSON_ENV_VAR"])
            attempt: str = told["metadata"]["job_submission_id"]
            return attempt.partition(".")[0] == self.name
        return False

    def kill_driver(self) -> None:
        """SIGKILL, while it runs."""
        driver = self.await_driver()
        with suppress(psutil.NoSuchProcess):
            driver.send_signal(signal.SIGKILL)
        driver.wait(20)

    def await_driver(self) -> psutil.Process:
        """The process that works at it."""
        found = wait_until(self.drivers, 90, f"the driver of {self.name}", lambda: self.log)
        return found[0]

    def at_work(self, node: Started) -> list[str]:
        """The kinds of the stages that run on a node for this job, by the logs that are being written there."""
        return [Path(log).name.split("-")[0] for log in self.logs_written(node)]

    def logs_written(self, node: Started) -> list[str]:
        """The logs of the stages that run on a node for this job: ``<kind>-<name>-<key[:12]>.log``."""
        found = []
        for parent in _with("autoopt.workers.process.zygote", node):
            with suppress(psutil.Error):
                found += [file.path for file in parent.open_files() if Path(file.path).parent == self.folder / "logs"]
        return found

    def await_end(self, *expected: str, limit_s: float = JOB_S) -> dict[str, Any]:
        """Its last state."""
        wait_until(
            lambda: self.written.get("status") in ENDED and not self.drivers(),
            limit_s,
            f"the end of {self.name}",
            lambda: self.log,
        )
        state = self.written
        assert not expected or state["status"] in expected, self.log
        return state

    def doubled(self) -> int:
        """Stages that were computed twice, and candidates that were decided twice."""
        twice = sum(count - 1 for count in Counter(self.keys).values())
        return twice + int(self.candidates["id"].duplicated().sum())

    def lost(self, keys: list[str]) -> int:
        """Of stages that had been finished: those that the store has no more."""
        store = LocalStore(self.store)
        return sum(store.get(key) is None for key in keys)

    def trials(self, state: str) -> list[Any]:
        """The study's trials in a state of Optuna's."""
        from optuna.trial import TrialState

        from autoopt.search.journal import open_journal

        storage = open_journal(self.folder / "study.journal", writable=False)
        (study,) = storage.get_all_studies()
        return storage.get_all_trials(study._study_id, deepcopy=False, states=(TrialState[state],))


def _with(words: str, node: Started) -> Iterator[psutil.Process]:
    yield from (process for process in processes_of(node) if words in said(process))
