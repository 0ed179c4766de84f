"""Intervals that hold what they promise, with numpy alone.

All intervals are two-sided, 95 %. Functions are pure; those that resample take a generator, so that equal data give equal records.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from autoopt.records import Estimate

BLOCKS = 6
RESAMPLES = 2000
SCORE_RESAMPLES = 200
_FEWEST_RESAMPLES = 50
_Z = 1.959964
_TO_SIGMA = 1.4826  # of a normal distribution: its median absolute deviation to its standard deviation
# Student's t, 97.5 %, by degrees of freedom 1, 2, …
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_FEW_VALUES = 32
_CHUNK = 2_000_000
_TWOFOLD = 2.0


def center(series: np.ndarray) -> Estimate:
    """The location of an autocorrelated series with outliers: its median, with a conservative interval.

    The wider of two. Batch means: the series is cut into up to `BLOCKS` consecutive blocks, whose medians are nearly independent where
    neighbours are not, and a spike moves one of them a little; Student's interval of those (Law and Kelton, Simulation Modeling and
    Analysis, 9.5.3). And the normal interval of a median of independent values, from the median absolute deviation: whoever samples
    until an interval is narrow stops when few blocks happen to lie close together, and this one is hardly subject to such luck.

    Args:
        series: (n,), n >= 2, in the order in which it was taken.
    """
    middle = float(np.median(series))
    medians = [np.median(block) for block in np.array_split(series, min(BLOCKS, len(series)))]
    by_blocks = _T[len(medians) - 2] * float(np.std(medians, ddof=1)) / math.sqrt(len(medians))
    deviation = _TO_SIGMA * float(np.median(np.abs(series - middle)))
    if_independent = _Z * math.sqrt(math.pi / 2) * deviation / math.sqrt(len(series))
    half = max(by_blocks, if_independent)
    return Estimate(middle, middle - half, middle + half)


def proportion(successes: int, count: int) -> Estimate:
    """A share, with Wilson's interval: sound near 0 and 1 too (Wilson 1927; Brown, Cai, DasGupta 2001)."""
    share = successes / count
    denominator = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / denominator
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / denominator
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def mean(values: np.ndarray, rng: np.random.Generator) -> Estimate:
    """The mean of independent values, (n,): Wilson's interval where all are 0 or 1, else the percentile bootstrap."""
    if np.isin(values, (0.0, 1.0)).all():
        return proportion(int(values.sum()), len(values))
    return _spanning(float(values.mean()), _resampled_means(values, rng))


def mean_difference(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> Estimate:
    """The mean of ``first - second``, of paired values, (n,): the percentile bootstrap.

    Before resampling, one difference of the largest size is added in each direction, as Bonett and Price (2012) do for
    paired proportions: two networks that differ in no sample of a hundred are not known to be equal.
    """
    differences = first - second
    values = np.concatenate((first, second))
    bounded = bool(((values >= 0) & (values <= 1)).all())
    largest = 1.0 if bounded else float(np.abs(differences).max())
    padded = np.append(differences, (largest, -largest))
    return _spanning(float(differences.mean()), _resampled_means(padded, rng))


def resampled(
    score: Callable[[np.ndarray], tuple[float, float]], count: int, rng: np.random.Generator, max_s: float = 5.0
) -> np.ndarray:
    """The bootstrap of a pair of scores that are no means: (resamples, 2).

    Args:
        score: both scores of the samples with these indices, (count,).
        count: the number of samples.
        rng: the source of chance.
        max_s: after so many seconds, 50 resamples are enough.
    """
    start = time.monotonic()
    found: list[tuple[float, float]] = []
    while len(found) < SCORE_RESAMPLES:
        found.append(score(rng.integers(0, count, count)))
        if len(found) >= _FEWEST_RESAMPLES and time.monotonic() - start > max_s:
            break
    return np.array(found)


def percentiles(value: float, draws: np.ndarray) -> Estimate:
    """A value with the central 95 % of its bootstrap draws."""
    return _spanning(value, draws)


def ratio(log_ratio: Estimate) -> Estimate:
    """Out of the logarithm."""
    return Estimate(math.exp(log_ratio.value), math.exp(log_ratio.low), math.exp(log_ratio.high))


def widened(estimate: Estimate, half_width: float) -> Estimate:
    """The interval with an independent uncertainty of that 95 % half-width added, in quadrature."""
    low = math.hypot(estimate.value - estimate.low, half_width)
    high = math.hypot(estimate.high - estimate.value, half_width)
    return Estimate(estimate.value, estimate.value - low, estimate.value + high)


def inverse(speedup: Estimate, numerator: float) -> Estimate:
    """``numerator / speedup``, with its interval."""
    return Estimate(numerator / speedup.value, numerator / speedup.high, numerator / speedup.low)


def product(first: Estimate, second: Estimate) -> Estimate:
    """The product of two independent positive figures: their relative uncertainties add in quadrature."""

    def spread(bounds: tuple[float, float], values: tuple[float, float]) -> float:
        return math.hypot(*(math.log(bound / value) for bound, value in zip(bounds, values, strict=True)))

    value, values = first.value * second.value, (first.value, second.value)
    low, high = spread((first.low, second.low), values), spread((first.high, second.high), values)
    return Estimate(value, value * math.exp(-low), value * math.exp(high))


def words(speedup: Estimate) -> str:
    """A speed-up for people: ``1.8 % faster (95 % CI 1.2–2.4)``, ``14.2× faster (…)``, ``not distinguishable (…)``."""
    if speedup.low <= 1 <= speedup.high:
        low, high = (100 * (bound - 1) for bound in (speedup.low, speedup.high))
        return f"not distinguishable (95 % CI of the difference {low:+.1f} to {high:+.1f} %)"
    faster = speedup.value > 1
    shown = speedup if faster else inverse(speedup, 1.0)
    comparative = "faster" if faster else "slower"
    if shown.value >= _TWOFOLD:
        return f"{shown.value:.3g}× {comparative} (95 % CI {shown.low:.3g}–{shown.high:.3g})"
    value, low, high = (100 * (bound - 1) for bound in (shown.value, shown.low, shown.high))
    return f"{value:.1f} % {comparative} (95 % CI {low:.1f}–{high:.1f})"


def _resampled_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW_VALUES:
        # Drawing how often each value occurs is the same as drawing samples, and much quicker.
        drawn = rng.multinomial(len(values), counts / len(values), RESAMPLES)
        means: np.ndarray = drawn @ distinct / len(values)
        return means
    rows = max(1, _CHUNK // len(values))
    parts = [
        values[rng.integers(0, len(values), (min(rows, RESAMPLES - start), len(values)))].mean(axis=1)
        for start in range(0, RESAMPLES, rows)
    ]
    return np.concatenate(parts)


def _spanning(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Estimate(value, min(value, float(low)), max(value, float(high)))
