"""How good a deployed artifact is on a split: its own outputs, by the task's metric, against the reference network's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Estimate
from autoopt.task.prepared import PreparedTask
from autoopt.workers.measure import statistics
from autoopt.workers.measure.fidelity import agreement, are_class_scores, require_finite

_SEED = 0


@dataclass(frozen=True)
class Judgement:
    """An artifact's quality on one split."""

    score: Estimate
    score_drop: Estimate
    """The reference's score less the artifact's, on the same samples."""
    agreement: float
    """Share of samples on which both predict the same."""
    samples: int
    remarks: tuple[str, ...] = ()


def judge(task: PreparedTask, outputs: np.ndarray, reference: np.ndarray, targets: np.ndarray) -> Judgement:
    """Judge outputs.

    Args:
        task: for its metric.
        outputs: the artifact's first output, (N, ...).
        reference: the reference network's, (N, ...), for the same samples.
        targets: (N, ...).

    Raises:
        StageError: DIVERGED where outputs are not finite; ERROR where the metric gives no number.
    """
    require_finite(outputs)
    score, drop = _scores(task, outputs, reference, targets)
    if not np.isfinite((score.value, drop.value)).all():
        message = f"the metric {task.metric.name!r} gives {score.value} for finite outputs; it must give a number"
        raise StageError(FailureKind.ERROR, message)
    scores_classes = are_class_scores(reference, targets)
    agree = agreement(outputs, np.asarray(reference), class_scores=scores_classes)
    return Judgement(score, drop, agree, samples=len(targets))


def _scores(
    task: PreparedTask, outputs: np.ndarray, reference: np.ndarray, targets: np.ndarray
) -> tuple[Estimate, Estimate]:
    rng = np.random.default_rng(_SEED)
    mine, theirs = task.per_sample(outputs, targets), task.per_sample(reference, targets)
    if mine is not None and theirs is not None:
        return statistics.mean(mine, rng), statistics.mean_difference(theirs, mine, rng)
    own, original = task.score(outputs, targets), task.score(reference, targets)

    def both(chosen: np.ndarray) -> tuple[float, float]:
        return task.score(outputs[chosen], targets[chosen]), task.score(reference[chosen], targets[chosen])

    draws = statistics.resampled(both, len(targets), rng)
    return (
        statistics.percentiles(own, draws[:, 0]),
        statistics.percentiles(original - own, draws[:, 1] - draws[:, 0]),
    )
