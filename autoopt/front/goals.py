"""What a user demands of a config, and how far a config is from it.

A goal is met "at 95 %": the end of the 95 % interval that is worse for the config still meets it. One-sided, that is
even 97.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from autoopt.errors import UserError
from autoopt.front.config import Config
from autoopt.front.words import ScoreWords, number, plain

# Floating-point noise in a bound (0.93 - 0.92 against 0.01) must not decide.
TOLERANCE = 1e-9
_NOT_SERVED = 100.0
"""On a log scale: as far off as anything."""
RECOMMENDED_DROP = 0.01
"""What is recommended loses no more at 95 %: one point of an accuracy, one percent of the reference's score elsewhere."""


@dataclass(frozen=True)
class Goal:
    """One demand: ``worst(config)`` must not exceed 0 (on a scale of its own: a log for latency and size)."""

    text: str
    """``stays within 1 point of the reference's accuracy``, said of a config."""
    worst: Callable[[Config], float]
    """The excess over the goal at the worse end of the interval."""
    typical: Callable[[Config], float]
    """The excess of the point estimate."""
    measured: Callable[[Config], str]
    """What the config has, in words."""

    def met_by(self, config: Config) -> bool:
        """Whether the config meets the goal at 95 %."""
        return self.worst(config) <= TOLERANCE

    def shortfall(self, config: Config) -> float:
        """How far the config is off; 0 where it meets the goal."""
        return max(0.0, self.worst(config))


@dataclass(frozen=True)
class Goals:
    """The demands of `Front.pick`; those that are None are not made.

    Raises:
        UserError: a latency, size, memory, time or rate that is not positive, or a value that is not finite.
    """

    max_accuracy_drop: float | None = None
    """In the metric's unit: 0.01 is one point of an accuracy in [0, 1]."""
    max_latency_ms: float | None = None
    """Per sample."""
    max_size_mb: float | None = None
    """In units of 1,000,000 bytes."""
    min_accuracy: float | None = None
    max_memory_mb: float | None = None
    """That loading and running adds to a process, in units of 1,000,000 bytes."""
    max_load_s: float | None = None
    """From the file to a session, without the first call."""
    min_rate: float | None = None
    """Of a server: requests a second under its bound."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                message = f"{name} is {value}; give a finite number, or leave it out"
                raise UserError(message)
        for name in ("max_latency_ms", "max_size_mb", "max_memory_mb", "max_load_s", "min_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                message = f"{name} is {value}; give a number above 0, or leave it out"
                raise UserError(message)

    def listed(self, words: ScoreWords) -> tuple[Goal, ...]:
        """Those that are made."""
        made = [
            (self.max_accuracy_drop, _drop),
            (self.min_accuracy, _score),
            (self.max_latency_ms, _latency),
            (self.max_size_mb, _size),
            (self.max_memory_mb, _memory),
            (self.max_load_s, _load),
            (self.min_rate, _rate),
        ]
        return tuple(make(value, words) for value, make in made if value is not None)


def _drop(limit: float, words: ScoreWords) -> Goal:
    return Goal(
        text=f"stays within {words.points(limit)} of the reference's {words.metric}",
        worst=lambda config: config.score_drop.high - limit,
        typical=lambda config: config.score_drop.value - limit,
        measured=lambda config: (
            f"a drop of {words.points(config.score_drop.value)}, up to {words.points(config.score_drop.high)} at 95 %"
        ),
    )


def _score(limit: float, words: ScoreWords) -> Goal:
    return Goal(
        text=f"reaches at least {plain(words.factor * limit)}{words.percent} {words.metric}",
        worst=lambda config: limit - config.score.low,
        typical=lambda config: limit - config.score.value,
        measured=lambda config: (
            f"{words.score(config.score)}, down to {number(words.factor * config.score.low)}{words.percent} at 95 %"
        ),
    )


def _latency(limit: float, _: ScoreWords) -> Goal:
    return Goal(
        text=f"runs in at most {plain(limit)} ms a sample",
        worst=lambda config: math.log(config.latency_ms.high / limit),
        typical=lambda config: math.log(config.latency_ms.value / limit),
        measured=lambda config: (
            f"{number(config.latency_ms.value)} ms, up to {number(config.latency_ms.high)} ms at 95 %"
        ),
    )


def _size(limit: float, _: ScoreWords) -> Goal:
    return _exact(f"fits in {plain(limit)} MB", limit, "MB", lambda config: config.size_mb)


def _memory(limit: float, _: ScoreWords) -> Goal:
    text = f"takes at most {plain(limit)} MB of memory"
    return _exact(text, limit, "MB of memory", lambda config: config.judged.peak_rss_bytes / 1e6)


def _load(limit: float, _: ScoreWords) -> Goal:
    return _exact(f"loads in at most {plain(limit)} s", limit, "s to load", lambda config: config.judged.load_s)


def _exact(text: str, limit: float, unit: str, figure: Callable[[Config], float]) -> Goal:
    """A figure without an interval that must not exceed the limit."""

    def excess(config: Config) -> float:
        return math.log(max(figure(config), 1e-9) / limit)

    return Goal(text, worst=excess, typical=excess, measured=lambda config: f"{number(figure(config))} {unit}")


def _rate(limit: float, _: ScoreWords) -> Goal:
    def short_of(value: float) -> float:
        return math.log(limit / value) if value > 0 else _NOT_SERVED

    return Goal(
        text=f"serves at least {plain(limit)} requests a second",
        worst=lambda config: short_of(config.rate.low) if config.rate else _NOT_SERVED,
        typical=lambda config: short_of(config.rate.value) if config.rate else _NOT_SERVED,
        measured=lambda config: (
            f"{number(config.rate.value)} requests a second, down to {number(config.rate.low)} at 95 %"
            if config.rate
            else "no rate, for it was not measured under load (scenario server)"
        ),
    )
