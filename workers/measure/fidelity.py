"""Whether an artifact computes what the network computes that it was built from.

An export or a build that "succeeds" with wrong numbers is the field's commonest silent fault. Outputs on the same real samples are
compared; how much they may differ depends on the precision that is executed, for rounding is expected and another function is not.
Differences are told in standard deviations of what an output does from sample to sample: what is the same for every sample (a class that
always scores high) tells nothing of the function, and would hide a kernel applied the wrong way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Fidelity

_TIE = 1e-3
"""Class scores this close to the best, in standard deviations, are a tie: rounding may decide it either way."""
_CLOSE = 0.1
"""Outputs that are no class scores agree where a sample's mean difference is below this, in standard deviations."""
_CLASS_AXES = 2
_FEW = 8


@dataclass(frozen=True)
class Tolerance:
    """What is still the same network."""

    agreement: float
    max_difference: float
    mean_difference: float


TOLERANCES = {
    # Other orders of summation and fast convolutions differ by 1e-5 to 1e-3; a lost bias or a transposed axis by 1e-1 and more.
    "fp32": Tolerance(agreement=0.99, max_difference=0.02, mean_difference=0.005),
    # 11 bits of mantissa.
    "fp16": Tolerance(agreement=0.97, max_difference=0.2, mean_difference=0.02),
    # 8 bits of mantissa: each layer rounds by up to 0.4 %. Seen in 17 artifacts of jobs: 0.07 on average at most.
    "bf16": Tolerance(agreement=0.93, max_difference=1.0, mean_difference=0.15),
    # Quantization may cost accuracy, which the score then tells; but unrelated networks differ by 1.1 on average, kernels applied
    # the wrong way round by 0.4. Seen in 268 artifacts of jobs: 0.13 at most.
    "int8": Tolerance(agreement=0.7, max_difference=float("inf"), mean_difference=0.3),
}
_LENIENT = TOLERANCES["int8"]


def compare(outputs: np.ndarray, source: np.ndarray, *, class_scores: bool) -> Fidelity:
    """Compare outputs on the same inputs.

    Args:
        outputs: the artifact's, (K, ...).
        source: those of the network it was built from, (K, ...).
        class_scores: whether axis 1 holds scores of classes.

    Raises:
        StageError: DISAGREEMENT where the shapes differ, DIVERGED where the artifact's outputs are not finite.
    """
    require_finite(outputs)
    if outputs.shape != source.shape:
        message = f"the artifact's outputs are {outputs.shape}, those of the network it was built from {source.shape}"
        raise StageError(FailureKind.DISAGREEMENT, message)
    differences = np.abs(outputs.astype(np.float64) - source) / _variation(source)
    return Fidelity(
        agreement=agreement(outputs, source, class_scores=class_scores),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        samples=len(source),
    )


def agreement(outputs: np.ndarray, source: np.ndarray, *, class_scores: bool) -> float:
    """The share of predictions that are the same, in [0, 1]; ties in the source count as the same."""
    scale = _scale(source)
    if class_scores:
        chosen = outputs.argmax(axis=1)
        given = np.take_along_axis(source, np.expand_dims(chosen, 1), axis=1).squeeze(1)
        return float((given >= source.max(axis=1) - _TIE * scale).mean())
    differences = np.abs(outputs.astype(np.float64) - source).reshape(len(source), -1) / scale
    return float((differences.mean(axis=1) <= _CLOSE).mean())


def require_faithful(fidelity: Fidelity, precision: str) -> None:
    """Refuse an artifact that is not the network it was built from.

    Raises:
        StageError: DISAGREEMENT, with the figures and what is allowed.
    """
    allowed = TOLERANCES.get(precision, _LENIENT)
    if (
        fidelity.agreement >= allowed.agreement
        and fidelity.max_difference <= allowed.max_difference
        and fidelity.mean_difference <= allowed.mean_difference
    ):
        return
    message = (
        f"the artifact does not compute what the network computes that it was built from: on {fidelity.samples} samples it "
        f"agrees on {fidelity.agreement:.1%} ({precision}: at least {allowed.agreement:.0%}), and its outputs differ by "
        f"{fidelity.mean_difference:.3g} standard deviations on average (at most {allowed.mean_difference:g}) and "
        f"{fidelity.max_difference:.3g} at most (at most {allowed.max_difference:g})"
    )
    raise StageError(FailureKind.DISAGREEMENT, message)


def require_finite(outputs: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Raises:
        StageError: DIVERGED, with how many samples are concerned.
    """
    bad = ~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if bad.any():
        message = f"the artifact's outputs hold NaN or infinity for {int(bad.sum())} of {len(outputs)} samples"
        raise StageError(FailureKind.DIVERGED, message)


def are_class_scores(outputs: np.ndarray, targets: np.ndarray) -> bool:
    """Whether outputs (N, classes, ...) are scores for integer targets (N, ...)."""
    return (
        outputs.ndim >= _CLASS_AXES
        and targets.dtype.kind in "iu"
        and targets.shape == outputs.shape[:1] + outputs.shape[2:]
    )


def _variation(source: np.ndarray) -> float:
    """The standard deviation of what outputs do from sample to sample; of a few samples that of all outputs."""
    source = source.astype(np.float64)
    if len(source) < _FEW:
        return _scale(source)
    return float(max((source - source.mean(axis=0)).std(), 1e-3 * np.abs(source).max(), np.finfo(np.float32).tiny))


def _scale(source: np.ndarray) -> float:
    """The outputs' standard deviation; of nearly constant outputs, a thousandth of their size."""
    source = source.astype(np.float64)
    return float(max(source.std(), 1e-3 * np.abs(source).max(), np.finfo(np.float32).tiny))
