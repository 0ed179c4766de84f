"""What goes wrong becomes an outcome, and what was finished is not lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil

Shell = Callable[..., subprocess.CompletedProcess[str]]


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


def test_a_killed_job_goes_on_and_does_nothing_twice(
    start: Callable[..., subprocess.Popen[str]], shell: Shell, tmp_path: Path, task: str, spaces: Path
) -> None:
    job = tmp_path / "results" / "killed"
    others = workers()
    running = start("run", task, "--space", spaces / "tiny.yaml", "--budget", "7 candidates", "--name", job.name)
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
    assert len(candidates) == 7
    assert candidates["id"].is_unique


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
