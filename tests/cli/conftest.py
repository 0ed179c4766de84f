import os
import sys
from pathlib import Path

import pytest

from autoopt.jobs import execute

JOBS = Path(__file__).parent.parent / "jobs"
sys.path.append(str(JOBS))  # for the small controller of the jobs' tests
TASK = """
import numpy as np, autoopt
task = autoopt.Task(network="net.onnx", validation=(np.zeros((4, 2)), np.zeros(4)), test=(np.ones((4, 2)), np.ones(4)))
"""


@pytest.fixture(autouse=True)
def _small_controller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(execute, "CONTROLLER", "fake_controller:run_job")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(JOBS), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_task.py").write_text(TASK)
