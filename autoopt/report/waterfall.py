"""The waterfall as bars: where each begins and ends on a log scale of speed-up, as shares of the drawing's width."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoopt.front.words import ScoreWords, figure, interval
from autoopt.records import Estimate
from autoopt.report.ablation import Gain, ablate
from autoopt.report.data import ReportData

PERCENT = 100


@dataclass(frozen=True)
class Bar:
    """One bar, in percent of the width."""

    label: str
    together: bool
    left: float
    width: float
    slower: bool
    factor: str
    """What this group multiplied the speed by, with its interval."""
    total: str
    """The speed-up so far."""
    extra_drop: str
    drop: str
    number: int


@dataclass(frozen=True)
class Waterfall:
    """All bars, and what to say about them."""

    bars: tuple[Bar, ...]
    note: str


def waterfall(data: ReportData) -> Waterfall:
    """For the recommended config."""
    front, pick = data.front, data.recommended
    if front is None or pick is None:
        return Waterfall((), "There is no recommended config to take apart.")
    gains = ablate(pick.config, front.reference, data.configs, data.quantizers)
    if not gains:
        return Waterfall((), "The recommended config is the reference itself: there is nothing to take apart.")
    return Waterfall(_bars(gains, front.words), _note(gains))


def _note(gains: tuple[Gain, ...]) -> str:
    groups = [" + ".join(gain.choices) for gain in gains if gain.together]
    measured = "Every bar ends at a config that was measured, on the validation split; nothing is modelled."
    if not groups:
        return measured
    return f"{measured} Not measured apart from one another, hence in one bar: {'; '.join(groups)}."


def _bars(gains: tuple[Gain, ...], words: ScoreWords) -> tuple[Bar, ...]:
    ends = [0.0, *(math.log(gain.speedup.value) for gain in gains)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    bars = []
    for gain, before, after in zip(gains, ends, ends[1:], strict=False):
        extra, drop = words.scaled(gain.extra_drop), words.scaled(gain.drop)
        bars.append(
            Bar(
                label=" + ".join(gain.choices),
                together=gain.together,
                left=PERCENT * (min(before, after) - low) / span,
                width=PERCENT * abs(after - before) / span,
                slower=after < before,
                factor=_text(gain.factor, "×"),
                total=figure(gain.speedup, "×"),
                extra_drop=_text(extra),
                drop=figure(drop),
                number=gain.config.number,
            )
        )
    return tuple(bars)


def _text(estimate: Estimate, unit: str = "") -> str:
    exact = estimate.low == estimate.high
    return figure(estimate, unit) + ("" if exact else f" ({interval(estimate)})")
