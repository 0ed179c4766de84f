import os
import sys
from pathlib import Path

import pytest

from autoopt.jobs import execute

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # for the controller, which tests name things of
TASK = """
import numpy as np, autoopt
task = autoopt.Task(network="net.onnx", validation=(np.zeros((4, 2)), np.zeros(4)), test=(np.ones((4, 2)), np.ones(4)))
"""


@pytest.fixture(autouse=True)
def _small_controller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every job of these tests is run by the fake controller, in this process and in others."""
    monkeypatch.setattr(execute, "CONTROLLER", "fake_controller:run_job")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def task(tmp_path: Path) -> str:
    (tmp_path / "my_task.py").write_text(TASK)
    return f"{tmp_path / 'my_task.py'}:task"
