"""What the task's own file defines goes along with the prepared task, as far as that is enough."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from autoopt.task import load_task, prepare
from autoopt.workers.store import LocalStore

HEAD = """
import numpy as np
import torch
from torch import nn
from autoopt.task import Task
from beside import scaled

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 6)).astype(np.float32)
y = rng.integers(0, 3, 300)
torch.manual_seed(0)
"""
NETWORK = """
def activation(x):
    return torch.relu(scaled(x))

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

class Net(Base):
    def forward(self, x):
        return activation(self.layer(x))
"""
METRIC = """
def metric(outputs, targets):
    return (outputs.argmax(1) == targets).astype(float)
"""
TASK = """
task = Task(Net(), (x[:100], y[:100]), (x[100:200], y[100:200]), (x[200:], y[200:]), metric=metric, student=Net)
"""
# Running the file does more than define things.
OPERATOR = """
@torch.library.custom_op("autoopt_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return torch.ops.autoopt_tests.twice(self.layer(x))
"""
LARGE = """
table = np.zeros((3, 1_000_000))

def metric(outputs, targets):
    return (outputs.argmax(1) == targets) + table[:, 0].sum()
"""
OPEN_FILE = """
log = open(__file__)

def metric(outputs, targets):
    assert log.readable()
    return (outputs.argmax(1) == targets).astype(float)
"""


def write(folder: Path, *parts: str) -> Path:
    folder.mkdir()
    (folder / "beside.py").write_text("def scaled(x):\n    return 0.5 * x\n")
    (folder / "task.py").write_text("".join((HEAD, *parts, TASK)))
    return folder / "task.py"


def opened(folder: Path) -> dict[str, object]:
    """In another process: what the prepared task answers, and whether its file has been run."""
    code = """
        import json, sys
        from pathlib import Path
        import numpy as np
        from autoopt.task import PreparedTask
        prepared = PreparedTask.open(Path(sys.argv[1]))
        arrays = prepared.arrays("test")
        outputs = prepared.open_original().run(arrays.inputs, prepared.signature)
        print(json.dumps({
            "score": prepared.score(outputs, arrays.targets),
            "student": prepared.student().__class__.__name__,
            "ran": any(name.startswith("autoopt_task_") for name in sys.modules),
        }))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_what_is_in_the_tasks_file_is_used_without_running_it_again(tmp_path: Path, store: LocalStore) -> None:
    file = write(tmp_path / "user", NETWORK, METRIC)
    prepared = prepare(load_task(f"{file}:task"), store)
    file.write_text("raise RuntimeError('it reads its data again')")
    there = opened(prepared.folder)
    arrays = prepared.arrays("test")
    assert there["score"] == prepared.score(
        prepared.open_original().run(arrays.inputs, prepared.signature), arrays.targets
    )
    assert there["student"] == "Net"
    assert not there["ran"]
    assert not (prepared.folder / "carried").exists()


@pytest.mark.parametrize(
    "parts",
    [(OPERATOR, METRIC), (NETWORK, LARGE), (NETWORK, OPEN_FILE)],
    ids=["registers an operator", "refers to an array of 24 MB", "refers to an open file"],
)
def test_where_that_is_not_enough_the_file_is_run_as_ever(
    tmp_path: Path, store: LocalStore, parts: tuple[str, ...]
) -> None:
    prepared = prepare(load_task(f"{write(tmp_path / 'user', *parts)}:task"), store)
    there = opened(prepared.folder)
    assert there["ran"]
    assert there["student"] == "Net"
    assert sum(path.stat().st_size for path in prepared.folder.glob("*.pkl")) < 100_000
    assert not (prepared.folder / "carried").exists()
