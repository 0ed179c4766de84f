"""What goes wrong becomes an outcome, and what was finished is not lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from autoopt.testing.postgres import PostgresServer

Shell = Callable[..., subprocess.CompletedProcess[str]]

UNUSUAL = """
import numpy as np
import torch
from torch import nn
from autoopt import Task


class Network(nn.Module):
    \"\"\"How many rows pass depends on the data, and complex numbers stand between.\"\"\"

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(17, 10)

    def forward(self, x):
        present = torch.nonzero(x.abs().sum(1) > 0).squeeze(1)
        return self.head(torch.fft.rfft(x[present]).abs())


torch.manual_seed(0)
network = Network().eval()
x = np.random.default_rng(0).normal(size=(900, 32)).astype(np.float32)
with torch.inference_mode():
    y = network(torch.from_numpy(x)).argmax(1).numpy()
task = Task(network=network, train=(x[:300], y[:300]), validation=(x[300:600], y[300:600]), test=(x[600:], y[600:]))
"""
FOUR_ENGINES = """
about: What each engine makes of it.
scenario: single_stream
deployment:
  engine:
    pytorch: {precision: fp32}
    onnxruntime: {precision: fp32}
    litert: {precision: fp32}
    xla: {precision: fp32}
  threads: 1
"""


def test_planted_failures_end_as_outcomes_of_their_class(shell: Shell, folder: Path, task: str, spaces: Path) -> None:
    ended = shell(
        "run", task, "--space", spaces / "planted.yaml", "--budget", "10 candidates", "--name", "planted", planted=True
    )
    assert ended.returncode == 0, ended.stderr
    job = folder / "results" / "planted"
    candidates = pd.read_parquet(job / "candidates.parquet")
    causes = Counter(candidates[candidates["outcome"] == "failed"]["failure"])
    assert {"error", "crashed", "timed out", "diverged"} <= set(causes), causes
    assert "SIGSEGV" in " ".join(candidates["message"].dropna())
    assert "planted failure" in " ".join(candidates["message"].dropna())
    report = (job / "report.md").read_text()
    assert all(cause in report for cause in causes)
    assert (job / "bundle" / "bundle.json").exists()


def test_a_network_that_engines_refuse_is_searched_in_the_others(shell: Shell, folder: Path) -> None:
    """Operators that an engine lacks and shapes that depend on the data: a reason for each candidate."""
    task, space = folder / "unusual.py", folder / "four_engines.yaml"
    task.write_text(UNUSUAL)
    space.write_text(FOUR_ENGINES)
    ended = shell("run", f"{task}:task", "--space", space, "--budget", "4 candidates", "--name", "unusual")
    assert ended.returncode == 0, ended.stderr
    candidates = pd.read_parquet(folder / "results" / "unusual" / "candidates.parquet").set_index("engine")
    assert candidates.loc["pytorch", "outcome"] == "measured"
    for name in ("litert", "xla"):
        assert candidates.loc[name, "failure"] == "unsupported", name
        message = candidates.loc[name, "message"]
        assert message, name
        assert "Traceback" not in message, name


def test_a_killed_job_goes_on_and_does_nothing_twice(
    start: Callable[..., subprocess.Popen[str]], shell: Shell, tmp_path: Path, task: str, spaces: Path
) -> None:
    job = tmp_path / "results" / "killed"
    others = workers()
    running = start("run", task, "--space", spaces / "tiny.yaml", "--budget", "5 candidates", "--name", job.name)
    wait_for(lambda: len(lines(job)) >= 8, running)
    working = workers() - others
    assert working
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = lines(job)
    # What trained, built or measured for the dead job ends with it (Ray's own agents take longer to notice).
    _, alive = psutil.wait_procs(working, timeout=60)
    assert not alive
    assert json.loads(shell("status", job, "--json").stdout)["state"]["status"] == "interrupted"

    resumed = start("resume", job)
    assert resumed.wait(timeout=240) == 0
    after = lines(job)
    assert after[: len(before)] == before
    keys = Counter(run["key"] for run in after)
    assert max(keys.values()) == 1, "a finished stage was computed twice"
    state = json.loads((job / "state.json").read_text())
    assert state["status"] == "done"
    candidates = pd.read_parquet(job / "candidates.parquet")
    assert len(candidates) == 5
    assert candidates["id"].is_unique


@pytest.mark.slow
def test_a_job_with_its_study_in_postgresql_outlives_the_server_and_its_own_death(
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    task: str,
    spaces: Path,
    postgres: PostgresServer,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server crashes, is away for a while, the job is killed, and resumed while the server is away again."""
    monkeypatch.setenv("AUTOOPT_STUDY", database)
    job = tmp_path / "results" / "remembered"
    running = start("run", task, "--space", spaces / "tiny.yaml", "--budget", "7 candidates", "--name", job.name)
    wait_for(lambda: len(lines(job)) >= 3, running)
    postgres.restart("immediate")
    wait_for(lambda: len(lines(job)) >= 6, running)
    assert not [each for each in psutil.process_iter() if postgres.password in " ".join(safely(each.cmdline))]
    postgres.stop()
    time.sleep(10)
    postgres.start()
    wait_for(lambda: len(lines(job)) >= 8, running)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = lines(job)

    postgres.stop()
    back = threading.Timer(30, postgres.start)
    back.start()
    resumed = start("resume", job)
    assert resumed.wait(timeout=900) == 0, (job / "logs" / "job.log").read_text()
    back.join()
    keys = Counter(run["key"] for run in lines(job))
    assert max(keys.values()) == 1, "a finished stage was computed twice"
    assert lines(job)[: len(before)] == before
    log = (job / "logs" / "job.log").read_text()
    assert log.count("does not answer") >= 2, "of the job, and of its going on"
    assert "answers again" in log
    candidates = pd.read_parquet(job / "candidates.parquet")
    assert len(candidates) == 7
    assert candidates["id"].is_unique
    for path in job.rglob("*"):
        assert path.is_dir() or postgres.password.encode() not in path.read_bytes(), path
    (job / "report.md").unlink()
    monkeypatch.delenv("AUTOOPT_STUDY")
    assert start("report", job).wait(timeout=60) == 2, "the password is not known"
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    assert start("report", job).wait(timeout=60) == 0
    assert (job / "report.md").exists()


def workers() -> set[psutil.Process]:
    """Warmed parents and what runs in them; they are nobody's children, since several processes share them."""
    return {process for process in psutil.process_iter() if "autoopt.workers" in " ".join(safely(process.cmdline))}


def safely(ask: Callable[[], list[str]]) -> list[str]:
    try:
        return ask()
    except psutil.NoSuchProcess:
        return []


def lines(job: Path) -> list[dict[str, str]]:
    path = job / "logs" / "stages.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(true: Callable[[], bool], running: subprocess.Popen[str], limit_s: float = 200) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert running.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.2)
