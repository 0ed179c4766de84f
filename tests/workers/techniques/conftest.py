"""A small residual network, trained on scikit-learn's digits once for the module, and a task around it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from autoopt.records import Signature, TensorSpec
from autoopt.testing.networks import ResidualCNN
from autoopt.testing.tasks import Arrays, memory_context
from autoopt.workers.techniques.base import Context

DIGITS = Signature("array", (TensorSpec("image", (1, 8, 8), "float32"),))


def digits() -> dict[str, Arrays]:
    """1,100 to train with, 200 of them to calibrate, 697 to validate."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32)
    splits = {"train": slice(0, 1100), "calibration": slice(0, 200), "validation": slice(1100, None)}
    return {name: Arrays((images[rows],), labels[rows].astype(np.int64)) for name, rows in splits.items()}


def trained() -> ResidualCNN:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, data = ResidualCNN(width=8, blocks=2), digits()["train"]
    images, labels = torch.from_numpy(data.inputs[0]), torch.from_numpy(data.targets)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    for epoch in range(6):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - epoch / 6)
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def _trained() -> ResidualCNN:
    return trained()


@pytest.fixture
def network(_trained: ResidualCNN) -> ResidualCNN:
    """Knows digits: over 95 % right on validation."""
    return copy.deepcopy(_trained)


@pytest.fixture
def context(network: ResidualCNN, tmp_path: Path) -> Context:
    return memory_context(network, DIGITS, digits(), tmp_path / "original")


@pytest.fixture
def with_task(context: Context) -> Callable[..., Context]:
    """The context with some of the task's fields replaced."""

    def change(**fields: Any) -> Context:
        task: Any = context.task
        return replace(context, task=replace(task, **fields))

    return change


def score(model: nn.Module, context: Context) -> float:
    """Accuracy on the whole validation split."""
    arrays = context.task.arrays("validation")
    with torch.inference_mode():
        outputs = model(torch.from_numpy(arrays.inputs[0])).numpy()
    return float((outputs.argmax(1) == arrays.targets).mean())
