"""The examples are what the README says: they load, their networks are trained, and missing weights name the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoopt.errors import TaskError
from autoopt.task import PreparedTask, load_task, prepare
from autoopt.workers.store import LocalStore

EXAMPLES = Path(__file__).parents[2] / "examples"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def prepare_example(name: str, store: Path) -> PreparedTask:
    return prepare(load_task(f"{EXAMPLES / name / 'task.py'}:task"), LocalStore(store))


def test_digits_is_a_trained_network_with_a_student(tmp_path: Path) -> None:
    task = prepare_example("digits", tmp_path)
    assert task.reference_score > 0.98
    assert task.splits == {"validation": 400, "test": 397, "train": 1000, "calibration": 512}
    assert task.remarks == ()
    assert task.student is not None
    small, whole = task.student(width=0.5, depth=0.34), task.student()
    assert [len(stage) for stage in small.stages] == [1, 1]  # type: ignore[union-attr, arg-type] # the example's ResNet
    assert sum(w.numel() for w in small.parameters()) < 0.2 * sum(w.numel() for w in whole.parameters())


def test_the_onnx_file_is_a_trained_network_without_training_data(tmp_path: Path) -> None:
    task = prepare_example("onnx_file", tmp_path)
    assert task.reference_score > 0.95
    assert task.source_format == "onnx"
    assert not task.has("train")
    assert (EXAMPLES / "onnx_file" / "digits.onnx").stat().st_size < 200_000


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
@pytest.mark.slow
def test_fashion_mnist_is_trained_to_93_percent_on_test(tmp_path: Path) -> None:
    task = prepare_example("fashion_mnist", tmp_path)
    targets = task.arrays("test").targets
    assert task.splits == {"validation": 5000, "test": 10000, "train": 55000, "calibration": 512}
    assert task.score(task.outputs_of_original("test"), targets) > 0.93
    assert task.student is not None
    assert type(task.student(width=0.5, depth=0.5)).__name__ == "ResNet"


@pytest.mark.parametrize(
    ("name", "weights", "script"),
    [("digits", "resnet.safetensors", "train.py"), ("onnx_file", "digits.onnx", "make.py")],
)
def test_missing_weights_name_the_command_that_makes_them(tmp_path: Path, name: str, weights: str, script: str) -> None:
    copy = tmp_path / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("__pycache__", weights))
    with pytest.raises(TaskError, match=f"{weights} is missing: make it with 'python .*{script}'"):
        prepare(load_task(f"{copy / 'task.py'}:task"), LocalStore(tmp_path / "store"))
