"""What cannot be used, at the shell, before any work starts; and a disk that is full in the middle of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

TASK = """
import numpy as np
import torch
from torch import nn
from autoopt import Task

rng = np.random.default_rng(0)
x, y = rng.normal(size=(600, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 600)


def nan_metric(outputs, targets):
    return float("nan")


network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
given = dict(network=network, train=(x[:300], y[:300]), validation=(x[300:450], y[300:450]), test=(x[450:], y[450:]))
task = Task(**{**given, **(CHANGE)})
"""

# What is changed in a task that is all right, and what the message must name.
BAD = {
    "a metric that returns NaN": ("dict(metric=nan_metric)", "nan_metric"),
    "splits that overlap": ("dict(test=(x[300:450], y[300:450]))", "give disjoint splits"),
    "an empty split": ("dict(test=(x[:0], y[:0]))", "test"),
    "an example of another shape": ("dict(example=np.zeros((1, 3, 9, 9), np.float32))", "(3, 9, 9)"),
    "a file that does not import": ("dict(network=nowhere)", "nowhere"),
}


def refused(ended: subprocess.CompletedProcess[str], named: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert named in " ".join(ended.stderr.split())


@pytest.mark.parametrize("case", BAD)
def test_a_bad_task_is_one_clear_message(shell: Shell, folder: Path, case: str) -> None:
    change, named = BAD[case]
    file = folder / f"{'_'.join(case.split())}.py"
    file.write_text(TASK.replace("CHANGE", change))
    refused(shell("run", f"{file}:task", "--space", "quick", "--budget", "5 candidates"), named)


@pytest.mark.parametrize("budget", ["0", "0s", "nothing"])
def test_a_budget_of_nothing_is_refused(shell: Shell, task: str, budget: str) -> None:
    refused(shell("run", task, "--space", "quick", "--budget", budget), 'Allowed are a time ("90s"')


def test_an_unknown_name_in_a_space_lists_the_allowed_ones(shell: Shell, folder: Path, task: str) -> None:
    space = folder / "wrong.yaml"
    space.write_text("scenario: single_stream\ndeployment:\n  engine: {onxruntime: {}}\n")
    refused(shell("run", task, "--space", space, "--budget", "5 candidates"), "onnxruntime")


# Full while the first networks are built, and while the first ones train.
@pytest.mark.parametrize("small_disk", ["2m", "4m"], indirect=True)
def test_a_job_whose_disk_is_full_stops_cleanly_and_goes_on_when_there_is_room(
    shell: Shell, folder: Path, small_disk: Path, task: str, spaces: Path
) -> None:
    store = small_disk / "store"
    ended = shell(
        "run",
        task,
        "--space",
        spaces / "tiny.yaml",
        "--budget",
        "8 candidates",
        "--name",
        small_disk.parent.name,
        "--store",
        store,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert 'File "' not in ended.stderr
    assert "No space left on device" in ended.stderr
    assert "resume" in ended.stderr
    subprocess.run(["mount", "-o", "remount,size=600m", str(small_disk)], check=True)
    job = folder / "results" / small_disk.parent.name
    resumed = shell("resume", job)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((job / "state.json").read_text())["status"] == "done"
    assert (job / "bundle" / "bundle.json").exists()
