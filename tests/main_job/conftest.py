"""The main job for real: the shell, Ray, engines and processes, on the digits of scikit-learn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASK = f"{ROOT / 'examples/digits/task.py'}:task"
PLANTED = Path(__file__).parent / "planted"

Shell = Callable[..., subprocess.CompletedProcess[str]]


def environment(folder: Path, *, planted: bool = False) -> dict[str, str]:
    """A user's, with a store of the test's own."""
    path = os.pathsep.join(filter(None, [str(PLANTED) if planted else "", os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "AUTOOPT_STORE": str(folder / "store")}


def command(*arguments: str | Path) -> list[str]:
    """The shell's command, in this interpreter."""
    return [sys.executable, "-m", "autoopt", *map(str, arguments)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("main_job")


@pytest.fixture(scope="module")
def shell(folder: Path) -> Shell:
    """Run a command in the module's folder and wait for it."""

    def run(*arguments: str | Path, planted: bool = False, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=folder,
            env=environment(folder, planted=planted),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def task() -> str:
    return TASK


@pytest.fixture(scope="module")
def spaces() -> Path:
    return Path(__file__).parent


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command in a folder of the test's own, and do not wait."""

    def begin(*arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(*arguments),
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    return begin


@pytest.fixture
def environment_of() -> Callable[[Path], dict[str, str]]:
    """Of a user who works in a folder."""
    return environment
