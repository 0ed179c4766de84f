"""Whether outputs are those that were recorded, as far as the precision lets one ask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The largest difference that passes, in standard deviations of the recorded output. The same artifact on the same machine
# differs by rounding only; other processors have other kernels, which round elsewhere and, for INT8, saturate elsewhere.
TOLERANCE = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1, "int8": 2.5e-1, "int8_dynamic": 2.5e-1}


@dataclass(frozen=True)
class Comparison:
    """Outputs here against outputs recorded."""

    samples: int
    max_difference: float
    """The largest absolute difference, divided by the recorded output's standard deviation; infinite where the two
    cannot be compared."""
    tolerance: float
    agreement: float | None
    """Share of samples with the same arg-max; None where the first output is no row of scores a sample."""
    problem: str = ""
    """Why they cannot be compared, where they cannot."""

    @property
    def same(self) -> bool:
        """Whether they are the recorded ones, within the tolerance."""
        return not self.problem and self.max_difference <= self.tolerance

    def words(self) -> str:
        """``48 samples, largest difference 0.00002 of the outputs' spread (allowed 0.001), same class in 100 %``."""
        if self.problem:
            return self.problem
        same_class = "" if self.agreement is None else f", same class in {100 * self.agreement:.4g} %"
        return (
            f"{self.samples} samples, largest difference {self.max_difference:.2g} of the outputs' spread "
            f"(allowed {self.tolerance:g}){same_class}"
        )


def compare(recorded: tuple[np.ndarray, ...], here: tuple[np.ndarray, ...], precision: str) -> Comparison:
    """Compare all outputs, ``(N, ...)`` each.

    Args:
        recorded: as they were when the bundle was written.
        here: as they are now.
        precision: what the engine executes; decides the tolerance.
    """
    tolerance = TOLERANCE.get(precision, TOLERANCE["fp32"])
    problem = _problem(recorded, here)
    if problem:
        return Comparison(len(recorded[0]), float("inf"), tolerance, None, problem)
    pairs = list(zip(recorded, here, strict=True))
    return Comparison(
        samples=len(recorded[0]),
        max_difference=max(_difference(old, new) for old, new in pairs),
        tolerance=tolerance,
        agreement=_agreement(*pairs[0]),
    )


def _problem(recorded: tuple[np.ndarray, ...], here: tuple[np.ndarray, ...]) -> str:
    shapes = [array.shape for array in recorded], [array.shape for array in here]
    if shapes[0] != shapes[1]:
        return f"outputs of shapes {shapes[1]} here, {shapes[0]} recorded"
    if any(not np.isfinite(new[np.isfinite(old)]).all() for old, new in zip(recorded, here, strict=True)):
        return "NaN or infinity here, where numbers were recorded"
    return ""


def _difference(old: np.ndarray, new: np.ndarray) -> float:
    # What was not finite when it was recorded cannot be asked to be the same now.
    finite = np.isfinite(old)
    if not finite.any():
        return 0.0
    before, now = old[finite].astype(np.float64), new[finite].astype(np.float64)
    spread = float(before.std()) or float(np.abs(before).max()) or 1.0
    return float(np.abs(before - now).max()) / spread


def _agreement(old: np.ndarray, new: np.ndarray) -> float | None:
    scores_a_sample = 2
    if old.ndim != scores_a_sample or old.shape[1] < scores_a_sample or old.dtype.kind != "f":
        return None
    return float(np.mean(old.argmax(axis=1) == new.argmax(axis=1)))
