"""Figures in words, with no more digits than their interval supports."""

from __future__ import annotations

import math

from autoopt.records import Estimate

MAX_DECIMALS = 6
SIGNIFICANT_DIGITS = 3  # of a figure that has no uncertainty, such as a size

PERCENT = 100.0


def decimals_for(estimate: Estimate) -> int:
    """So many that the last digit printed is of the order of the interval's half width."""
    half_width = (estimate.high - estimate.low) / 2
    if half_width > 0:
        return min(MAX_DECIMALS, max(0, -math.floor(math.log10(half_width))))
    return _significant_decimals(estimate.value)


def _significant_decimals(value: float) -> int:
    if value == 0:
        return 0
    return min(MAX_DECIMALS, max(0, SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value)))))


def number(value: float, decimals: int | None = None) -> str:
    """With a true minus sign and without a minus zero; three significant digits where no decimals are given."""
    places = _significant_decimals(value) if decimals is None else decimals
    text = f"{value:.{places}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def plain(value: float) -> str:
    """A number that a person gave: as they would write it."""
    return f"{round(value, MAX_DECIMALS):.12g}".replace("-", "−")


def figure(estimate: Estimate, unit: str = "") -> str:
    """The value alone: ``14.2×``."""
    return number(estimate.value, decimals_for(estimate)) + unit


def interval(estimate: Estimate) -> str:
    """The interval alone: ``13.6–14.9``."""
    places = decimals_for(estimate)
    low, high = number(estimate.low, places), number(estimate.high, places)
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"


def with_interval(estimate: Estimate, unit: str = "") -> str:
    """Both: ``14.2× (95 % CI 13.6–14.9)``."""
    return f"{figure(estimate, unit)} (95 % CI {interval(estimate)})"


def times(estimate: Estimate) -> str:
    """A multiple: ``14.2 times (95 % CI 13.6–14.9)``."""
    return with_interval(estimate, " times")


def negative(estimate: Estimate) -> Estimate:
    """The same, counted in the other direction."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def reciprocal(estimate: Estimate) -> Estimate:
    """One over a positive figure."""
    return Estimate(1 / estimate.value, 1 / estimate.high, 1 / estimate.low)


class ScoreWords:
    """Scores in words: a metric that lies in [0, 1] is spoken of in percent and points, any other in its own unit."""

    def __init__(self, metric: str, *, in_points: bool) -> None:
        self.metric = metric
        self.in_points = in_points
        self.factor = PERCENT if in_points else 1.0
        self.unit = " points" if in_points else ""
        self.percent = " %" if in_points else ""

    def scaled(self, estimate: Estimate) -> Estimate:
        """In percent or points, where the metric allows it."""
        return Estimate(*(self.factor * part for part in (estimate.value, estimate.low, estimate.high)))

    def score(self, estimate: Estimate) -> str:
        """``92.4 %``."""
        return figure(self.scaled(estimate), self.percent)

    def points(self, difference: float) -> str:
        """``1 point``, ``0.5 points``, or the plain number."""
        value = plain(float(f"{self.factor * difference:.3g}"))
        return value + (" point" if self.in_points and value == "1" else self.unit)

    def drop(self, drop: Estimate) -> str:
        """``at 0.4 points less accuracy (CI 0.1–0.7)``, ``at 0.2 points more …``, ``at … that cannot be told apart``."""
        scaled = self.scaled(drop)
        if scaled.value == scaled.low == scaled.high == 0:
            return f"at the same {self.metric}"
        if scaled.low > 0:
            return f"at {figure(scaled, self.unit)} less {self.metric} (CI {interval(scaled)})"
        if scaled.high < 0:
            gain = negative(scaled)
            return f"at {figure(gain, self.unit)} more {self.metric} (CI {interval(gain)})"
        return (
            f"at {self._metric_noun()} that cannot be told from its own "
            f"(drop {figure(scaled, self.unit)}, CI {interval(scaled)})"
        )

    def _metric_noun(self) -> str:
        return f"{'an' if self.metric[:1] in 'aeiou' else 'a'} {self.metric}"


def speed(speedup: Estimate) -> str:
    """``14.2× faster (95 % CI 13.6–14.9) than``, ``1.3× slower … than``, ``as fast … as``."""
    if speedup.low > 1:
        return f"{figure(speedup, '×')} faster (95 % CI {interval(speedup)}) than"
    if speedup.high < 1:
        slowdown = reciprocal(speedup)
        return f"{figure(slowdown, '×')} slower (95 % CI {interval(slowdown)}) than"
    return f"not distinguishably faster or slower ({figure(speedup, '×')}, 95 % CI {interval(speedup)}) than"
