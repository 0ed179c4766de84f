"""The wheel: one top-level name, and a search that works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TASK = """
from sklearn.datasets import load_digits
from torch import nn

from autoopt import Task

x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
task = Task(network=nn.Sequential(nn.Linear(64, 10)), validation=(x[:900], y[:900]), test=(x[900:], y[900:]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)], check=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_one_top_level_name(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"autoopt"}
    inside = zipfile.ZipFile(wheel).namelist()
    assert "autoopt/workers/entry.py" in inside
    assert "autoopt/search_spaces/quick.yaml" in inside
    assert "autoopt/py.typed" in inside


@pytest.mark.slow
def test_an_installed_wheel_searches_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    # The dependencies that are installed here; the editable checkout is not among them, since nested .pth files are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (tmp_path / "my_task.py").write_text(TASK)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["AUTOOPT_STORE"] = str(tmp_path / "store")
    python = str(tmp_path / "venv" / "bin" / "python")
    where = subprocess.run(
        [python, "-c", "import autoopt, autoopt.workers; print(autoopt.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(packages))
    done = subprocess.run(
        [
            python,
            "-m",
            "autoopt",
            "run",
            "my_task.py:task",
            "--space",
            "quick",
            "--budget",
            "4 candidates",
            "--name",
            "job",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "job" / "report.html").exists()
