"""How good outputs are: higher is better, and one number per sample where the metric has one.

Numbers per sample make paired comparisons of two networks possible, which are far sharper than comparing two scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoopt.errors import TaskError

Function = Callable[[np.ndarray, np.ndarray], Any]

FIRST_CLASS_AXIS = 2
"""Outputs that are class scores have at least this many axes: (N, classes, ...)."""
TOP = 5


@dataclass(frozen=True)
class Metric:
    """A metric by name, or a user's function."""

    name: str
    function: Function

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """One number for the split: the mean of the values per sample where there are any.

        Args:
            outputs: the network's first output, (N, ...).
            targets: (N, ...).

        Raises:
            TaskError: the metric raises, or its result is neither a number nor (N,).
        """
        return float(np.mean(self._value(outputs, targets)))

    def per_sample(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """float64, (N,), whose mean is the score; None for metrics of the split as a whole (F1, R²)."""
        value = self._value(outputs, targets)
        return value if value.ndim == 1 else None

    def _value(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        try:
            value = np.asarray(self.function(outputs, targets), np.float64)
        except TaskError:
            raise
        except Exception as error:  # the user's own function: whatever it raises becomes an error that names it
            message = (
                f"the metric {self.name!r} fails on outputs {outputs.shape} {outputs.dtype} and targets {targets.shape} "
                f"{targets.dtype}: {type(error).__name__}: {error}. It must take numpy arrays (outputs, targets)."
            )
            raise TaskError(message) from error
        if value.shape not in ((), (len(targets),)):
            message = (
                f"the metric {self.name!r} returns an array {value.shape} for {len(targets)} samples; "
                "it must return one number, or an array (N,) of one per sample"
            )
            raise TaskError(message)
        return value


def resolve_metric(metric: str | Function) -> Metric:
    """The metric of that name, or the user's function as a metric.

    Raises:
        TaskError: an unknown name (the allowed ones are listed).
    """
    if not isinstance(metric, str):
        function = function_of(metric, "metric", tuple(METRICS))
        return Metric(getattr(metric, "__name__", type(metric).__name__), function)
    if metric not in METRICS:
        message = f"unknown metric {metric!r}; allowed are {', '.join(METRICS)}, or a function (outputs, targets)"
        raise TaskError(message)
    return Metric(metric, METRICS[metric])


def function_of(given: object, what: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """The user's function; raises TaskError for what cannot be called."""
    if not callable(given):
        message = f"{what} is a {type(given).__name__}; give one of {', '.join(names)} or a function (outputs, targets)"
        raise TaskError(message)
    return given


def _class_scores(outputs: np.ndarray, targets: np.ndarray) -> None:
    expected = outputs.shape[:1] + outputs.shape[2:]
    if outputs.ndim < FIRST_CLASS_AXIS or targets.shape != expected or targets.dtype.kind not in "iu":
        message = (
            f"outputs {outputs.shape} and targets {targets.shape} {targets.dtype} are no classification; expected are "
            "class scores (N, classes, ...) and integer targets (N, ...). Choose another metric (r2, negative_mse) "
            "or give a function."
        )
        raise TaskError(message)


def _mean_over_rest(values: np.ndarray) -> np.ndarray:
    means: np.ndarray = values.reshape(len(values), -1).mean(axis=1, dtype=np.float64)
    return means


def _accuracy(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    _class_scores(outputs, targets)
    return _mean_over_rest(outputs.argmax(axis=1) == targets)


def _top5(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    _class_scores(outputs, targets)
    top = min(TOP, outputs.shape[1])
    best = np.argpartition(outputs, -top, axis=1)[:, -top:]
    return _mean_over_rest((best == targets[:, None]).any(axis=1))


def _f1_macro(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The mean over the classes that occur, in targets or predictions, of the harmonic mean of precision and recall."""
    _class_scores(outputs, targets)
    predicted, classes = outputs.argmax(axis=1).ravel(), outputs.shape[1]
    truth = targets.ravel()
    right = np.bincount(truth[predicted == truth], minlength=classes)
    found, present = (np.bincount(values, minlength=classes) for values in (predicted, truth))
    occurring = (found + present) > 0
    return float((2 * right[occurring] / (found + present)[occurring]).mean())


def _errors(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if outputs.size != targets.size:
        message = (
            f"outputs {outputs.shape} and targets {targets.shape} differ in size; this metric compares them one to one"
        )
        raise TaskError(message)
    errors: np.ndarray = outputs.reshape(len(targets), -1).astype(np.float64) - targets.reshape(len(targets), -1)
    return errors


def _r2(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The share of the variance explained, averaged over the output dimensions (constant ones left out)."""
    residual = (_errors(outputs, targets) ** 2).sum(axis=0)
    flat = targets.reshape(len(targets), -1).astype(np.float64)
    total = ((flat - flat.mean(axis=0)) ** 2).sum(axis=0)
    return float((1 - residual[total > 0] / total[total > 0]).mean()) if (total > 0).any() else float("nan")


def _negative_mse(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -_mean_over_rest(_errors(outputs, targets) ** 2)


def _negative_mae(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -_mean_over_rest(np.abs(_errors(outputs, targets)))


METRICS: dict[str, Function] = {
    "accuracy": _accuracy,
    "top5": _top5,
    "f1_macro": _f1_macro,
    "r2": _r2,
    "negative_mse": _negative_mse,
    "negative_mae": _negative_mae,
}
