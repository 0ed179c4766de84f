"""The called functions, importable by name here and in the processes that are started."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.workers import process


@pytest.fixture(scope="package", autouse=True)
def _functions() -> Iterator[None]:
    sys.path.insert(0, str(Path(__file__).parent))
    yield
    process.shutdown()
    sys.path.remove(str(Path(__file__).parent))
