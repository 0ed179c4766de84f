"""Every way in which a task cannot be used is told: what was given, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoopt.errors import TaskError
from autoopt.task import PreparedTask
from autoopt.workers.store import LocalStore

Prepare = Callable[..., PreparedTask]
X = np.random.default_rng(1).normal(size=(400, 1, 8, 8)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 10, 400)


def with_nan(array: np.ndarray, row: int) -> np.ndarray:
    changed = array.astype(np.float32)
    changed[row] = np.nan
    return changed


def nan_metric(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float("nan")


def raising_metric(outputs: np.ndarray, targets: np.ndarray) -> float:
    message = "no such column"
    raise KeyError(message)


def wrong_metric(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.zeros((2, 2))


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        message = "this network is for colour images"
        raise ValueError(message)


class Says(nn.Module):
    """A network that returns what the test wants."""

    def __init__(self, answer: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer(x)


def raising_factory() -> nn.Module:
    message = "weights.bin"
    raise FileNotFoundError(message)


class Breaking:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return [(X[0], 1), (X[1], 2)][index]


class Ragged(Breaking):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.zeros(index + 3, np.float32), 1


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "metric NaN": ({"metric": nan_metric}, "'nan_metric' gives nan for the original network.*divisions by zero"),
    "metric raises": ({"metric": raising_metric}, r"'raising_metric' fails on outputs \(400, 10\).*no such column"),
    "metric of another shape": ({"metric": wrong_metric}, r"returns an array \(2, 2\) for 400 samples; it must return"),
    "metric unknown": ({"metric": "f2"}, "unknown metric 'f2'; allowed are accuracy"),
    "loss unknown": ({"loss": "f2"}, "unknown loss 'f2'; allowed are auto"),
    "loss raises": ({"loss": raising_metric}, r"the loss fails on outputs \(128, 10\).*no such column.*one number"),
    "loss per sample": ({"loss": lambda outputs, targets: outputs.sum(1)}, "the loss fails on outputs .*one number"),
    "loss NaN": ({"loss": nan_metric}, "the loss of the original network is nan"),
    "student no function": ({"student": 3}, "student is a int"),
    "no test": ({"test": None}, "no test split; give"),
    "empty": ({"validation": (X[:0], Y[:0])}, "validation is empty; give at least one sample"),
    "empty data set": ({"train": []}, "train is empty"),
    "same split": ({"validation": (X, Y), "test": (X.copy(), Y)}, r"400 of the 400 samples .* also in .*disjoint"),
    "overlap of 2.5 %": (
        {"validation": (X, Y), "test": (np.concatenate([X[:10] + 0, -X]), np.concatenate([Y[:10], Y]))},
        r"10 of the 400 samples of validation \(2.50%\) are also in test; at most 1%.*disjoint splits",
    ),
    "train holds validation": (
        {"train": (np.concatenate([X, -X]), np.concatenate([Y, Y])), "validation": (X, Y)},
        "400 of the 400 samples of validation .* are also in train",
    ),
    "lengths": (
        {"train": (X, Y[:-1])},
        r"train has inputs \(400, 1, 8, 8\) and targets \(399,\): of different lengths",
    ),
    "no split": ({"train": 3}, r"train is a int; a split is \(inputs, targets\)"),
    "a dict of columns": ({"train": {"x": X, "y": Y}}, "train is a dict; a split is"),
    "no pairs": ({"train": [X[0], X[1], X[2]]}, r"train\[0\] is a ndarray, not an \(input, target\) pair"),
    "item raises": ({"train": Breaking()}, r"train\[2\] cannot be read: IndexError"),
    "items of different shapes": ({"train": Ragged()}, r"different shapes \(\(3,\), \(4,\), \(5,\)\).*crop, pad"),
    "strings": ({"train": (np.array(["a", "b"]), Y[:2])}, "an input of train has the type <U1; allowed are real"),
    "train of another shape": ({"train": (X[..., :7], Y)}, r"train has inputs .*8, 7.* validation has .*8, 8"),
    "train of another type": (
        {"train": (X.astype(np.uint8), Y)},
        "train has inputs .*uint8.* validation has .*float32",
    ),
    "train of another structure": ({"train": ({"a": X}, Y)}, "train has inputs a .a dict.; validation has input"),
    "example of another shape": (
        {"example": X[:1, :, :7]},
        r"the example is input \(1, 7, 8\) float32, the validation",
    ),
    "example of another type": ({"example": X[:1].astype(np.int64)}, "the example is .*int64.*Give one batch"),
    "NaN in inputs": ({"test": (with_nan(X, 7), Y)}, "test has NaN in its inputs, first in sample 7; remove"),
    "NaN in targets": ({"train": (X, with_nan(Y, 9))}, "train has NaN in its targets, first in sample 9"),
    "class too high": ({"train": (X, Y + 1)}, "train has targets from 1 to 10, the network scores 10 classes"),
    "class negative": ({"test": (X, Y - 1)}, "test has targets from -1 to 8, .*allowed are 0 to 9.*from 0"),
    "network raises": ({"network": Raises()}, "does not run on its example.*this network is for colour images"),
    "network of other shapes": ({"network": nn.Linear(3, 3)}, r"does not run on its example, inputs \(2, 1, 8, 8\)"),
    "output without batch": ({"network": Says(lambda x: x.mean())}, r"first output is \(\) for 2 samples"),
    "output of other length": ({"network": Says(lambda x: x.flatten()[:7])}, r"first output is \(7,\) for 2 samples"),
    "output no tensor": ({"network": Says(lambda x: "ten")}, "returns a str without a tensor"),
    "output NaN": ({"network": Says(lambda x: x.flatten(1)[:, :10] / 0)}, "NaN or infinite for .* validation samples"),
    "network no module": ({"network": 3}, "network is a int; give an nn.Module"),
    "factory raises": ({"network": raising_factory}, "factory fails: FileNotFoundError: weights.bin"),
    "factory of no module": ({"network": dict}, "network is a dict; give an nn.Module"),
    "no such file": ({"network": "missing.onnx"}, "no file .*missing.onnx"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_in_words(prepared: Prepare, store: LocalStore, case: str) -> None:
    changes, expected = CASES[case]
    with pytest.raises(TaskError, match=f"(?s){expected}"):
        prepared(**changes)
    assert not list(store.keys()), "nothing half-prepared is published"
    assert not list((store.root / "scratch").iterdir())


def test_the_same_object_twice_is_told(prepared: Prepare) -> None:
    split = (X, Y)
    with pytest.raises(TaskError, match="validation and test are the same split"):
        prepared(validation=split, test=split)


def test_a_file_that_is_no_onnx_is_told(prepared: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"this is no protobuf")
    with pytest.raises(TaskError, match=r"bad.onnx (cannot be read as ONNX|is no ONNX)"):
        prepared(network=path)


def test_regression_targets_are_not_taken_for_classes(prepared: Prepare) -> None:
    task = prepared(
        network=nn.Sequential(nn.Flatten(), nn.Linear(64, 1)),
        validation=(X, Y.astype(np.float64)),
        test=(-X, Y.astype(np.float64)),
        train=None,
        metric="negative_mse",
    )
    assert task.reference_score < 0
