"""Scores with their intervals, against the reference on the same samples."""

from typing import Any

import numpy as np
import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.task.metrics import resolve_metric
from autoopt.workers.measure.judge import judge


class MetricOnly:
    """As much of a prepared task as judging needs."""

    def __init__(self, metric: Any) -> None:
        self.metric = resolve_metric(metric)
        self.score = self.metric.score
        self.per_sample = self.metric.per_sample


RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 4, 2000)
REFERENCE = np.eye(4, dtype=np.float32)[TARGETS] + RNG.normal(0, 0.5, (2000, 4)).astype(np.float32)
WORSE = REFERENCE + RNG.normal(0, 0.15, (2000, 4)).astype(np.float32)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_the_drop_is_sharper_than_the_two_scores(metric: str) -> None:
    found = judge(MetricOnly(metric), WORSE, REFERENCE, TARGETS)  # type: ignore[arg-type]  # only the metric is used
    assert found.score_drop.low < found.score_drop.value < found.score_drop.high
    assert found.score_drop.low > 0
    assert found.score_drop.high - found.score_drop.low < found.score.high - found.score.low
    assert 0.8 < found.agreement < 1


def test_nan_in_the_outputs_is_divergence() -> None:
    broken = REFERENCE.copy()
    broken[7] = np.nan
    with pytest.raises(StageError) as caught:
        judge(MetricOnly("accuracy"), broken, REFERENCE, TARGETS)  # type: ignore[arg-type]  # only the metric is used
    assert caught.value.kind is FailureKind.DIVERGED


def test_a_metric_without_a_number_is_an_error_that_names_it() -> None:
    def undefined(outputs: np.ndarray, targets: np.ndarray) -> float:
        return float("nan")

    with pytest.raises(StageError, match="'undefined' gives nan") as caught:
        judge(MetricOnly(undefined), WORSE, REFERENCE, TARGETS)  # type: ignore[arg-type]  # only the metric is used
    assert caught.value.kind is FailureKind.ERROR
