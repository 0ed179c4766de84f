from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from autoopt.errors import TaskError
from autoopt.task.losses import resolve_loss
from autoopt.task.metrics import METRICS, resolve_metric

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.normal(size=(300, 8)).astype(np.float32)
LABELS = RANDOM.integers(0, 8, 300)
OUTPUTS = RANDOM.normal(size=(300, 3)).astype(np.float32)
REAL = (OUTPUTS + RANDOM.normal(size=(300, 3))).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "expected"),
    [
        ("accuracy", SCORES, LABELS, sklearn_metrics.accuracy_score(LABELS, SCORES.argmax(1))),
        ("top5", SCORES, LABELS, sklearn_metrics.top_k_accuracy_score(LABELS, SCORES, k=5)),
        ("f1_macro", SCORES, LABELS, sklearn_metrics.f1_score(LABELS, SCORES.argmax(1), average="macro")),
        ("r2", OUTPUTS, REAL, sklearn_metrics.r2_score(REAL, OUTPUTS)),
        ("negative_mse", OUTPUTS, REAL, -sklearn_metrics.mean_squared_error(REAL, OUTPUTS)),
        ("negative_mae", OUTPUTS, REAL, -sklearn_metrics.mean_absolute_error(REAL, OUTPUTS)),
    ],
)
def test_a_metric_gives_what_scikit_learn_gives(
    name: str, outputs: np.ndarray, targets: np.ndarray, expected: float
) -> None:
    assert resolve_metric(name).score(outputs, targets) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_the_mean_of_the_values_per_sample_is_the_score(name: str) -> None:
    data = (OUTPUTS, REAL) if name in {"r2", "negative_mse", "negative_mae"} else (SCORES, LABELS)
    metric = resolve_metric(name)
    values = metric.per_sample(*data)
    assert (values is None) == (name in {"r2", "f1_macro"})
    if values is not None:
        assert values.shape == (300,)
        assert values.mean() == pytest.approx(metric.score(*data))


def test_accuracy_of_a_segmentation_is_that_of_its_pixels() -> None:
    outputs, targets = RANDOM.normal(size=(4, 3, 5, 6)), RANDOM.integers(0, 3, (4, 5, 6))
    values = resolve_metric("accuracy").per_sample(outputs, targets)
    np.testing.assert_allclose(values, (outputs.argmax(1) == targets).mean((1, 2)))


def test_a_column_of_outputs_is_compared_with_flat_targets_one_to_one() -> None:
    assert resolve_metric("negative_mse").score(OUTPUTS[:, :1], OUTPUTS[:, 0]) == 0


def test_an_unknown_name_lists_the_allowed_ones() -> None:
    with pytest.raises(TaskError, match=r"unknown metric 'acuracy'; allowed are accuracy, top5"):
        resolve_metric("acuracy")
    with pytest.raises(TaskError, match="unknown loss 'hinge'; allowed are auto, cross_entropy, mse"):
        resolve_loss("hinge", "int64")
    with pytest.raises(TaskError, match="metric is a int"):
        resolve_metric(3)  # type: ignore[arg-type] # what a user may give
    with pytest.raises(TaskError, match="loss is a int"):
        resolve_loss(3, "int64")  # type: ignore[arg-type] # what a user may give


@pytest.mark.parametrize("name", ["accuracy", "top5", "f1_macro"])
def test_classification_metrics_refuse_what_is_none(name: str) -> None:
    with pytest.raises(TaskError, match="no classification"):
        resolve_metric(name).score(OUTPUTS, REAL)
    with pytest.raises(TaskError, match="no classification"):
        resolve_metric(name).score(SCORES[:, 0], LABELS)


def test_a_users_function_may_give_a_number_or_one_per_sample() -> None:
    def hits(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return outputs.argmax(1) == targets

    def share(outputs: np.ndarray, targets: np.ndarray) -> float:
        return float(hits(outputs, targets).mean())

    assert resolve_metric(hits).score(SCORES, LABELS) == pytest.approx(resolve_metric(share).score(SCORES, LABELS))
    assert resolve_metric(hits).per_sample(SCORES, LABELS) is not None
    assert resolve_metric(share).per_sample(SCORES, LABELS) is None
    assert resolve_metric(hits).name == "hits"


def test_a_users_function_that_fails_or_gives_another_shape_is_named() -> None:
    def wrong(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return outputs

    def broken(outputs: np.ndarray, targets: np.ndarray) -> float:
        return 1 / 0

    with pytest.raises(TaskError, match=r"'wrong' returns an array \(300, 8\) for 300 samples"):
        resolve_metric(wrong).score(SCORES, LABELS)
    with pytest.raises(TaskError, match=r"'broken' fails on outputs .*ZeroDivisionError"):
        resolve_metric(broken).score(SCORES, LABELS)


def test_r2_of_constant_targets_is_undefined() -> None:
    assert math.isnan(resolve_metric("r2").score(OUTPUTS, np.ones_like(OUTPUTS)))


def test_auto_chooses_the_loss_by_the_targets_type() -> None:
    outputs = torch.from_numpy(SCORES)
    labels = torch.from_numpy(LABELS)
    expected = torch.nn.functional.cross_entropy(outputs, labels)
    assert resolve_loss("auto", "int64")(outputs, labels.to(torch.uint8)) == expected
    assert resolve_loss("auto", "float32")(outputs, outputs + 1) == pytest.approx(1)


def test_mse_does_not_broadcast_flat_targets() -> None:
    column = torch.arange(4.0)[:, None]
    assert resolve_loss("mse", "float32")(column, torch.arange(4.0)) == 0


def test_a_users_loss_is_used_as_it_is() -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.sum() + targets.sum()

    assert resolve_loss(loss, "int64") is loss
