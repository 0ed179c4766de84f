"""A GPU that is none: the driver's functions, compiled from ``fake_driver.c``, in the place of NVIDIA's libraries.

It shows that what we call has the arguments that NVIDIA's references declare, and that their order is right; no GPU is needed.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from autoopt.records import nvidia
from autoopt.workers.engines import cuda_driver


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the compiled library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("driver") / "fake_driver.so"
    source = Path(__file__).with_name("fake_driver.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    return str(path)


@pytest.fixture
def driver(library: str, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """This process sees that GPU."""
    monkeypatch.setattr(nvidia, "LIBRARY", library)
    monkeypatch.setattr(cuda_driver, "LIBRARY", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return ctypes.CDLL(library)
