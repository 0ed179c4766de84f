"""A small real task, and a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from autoopt.task import PreparedTask, Task, load_task, prepare
from autoopt.workers.store import LocalStore


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images float32, (1797, 1, 8, 8); labels int64."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int64)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.fixture
def make_task(digits: tuple[np.ndarray, np.ndarray], network: nn.Module) -> Callable[..., Task]:
    """A good task, with what the test changes."""
    x, y = digits

    def make(**changes: Any) -> Task:
        good = {
            "network": network,
            "validation": (x[800:1200], y[800:1200]),
            "test": (x[1200:], y[1200:]),
            "train": (x[:800], y[:800]),
        }
        return Task(**{**good, **changes})

    return make


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def prepared(make_task: Callable[..., Task], store: LocalStore) -> Callable[..., PreparedTask]:
    """Prepare a good task, with what the test changes."""

    def make(**changes: Any) -> PreparedTask:
        return prepare(load_task(make_task(**changes)), store)

    return make
