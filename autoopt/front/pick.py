"""Picking: the fastest config that meets every goal at 95 %, or the nearest one with the reason why none does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from autoopt.errors import UserError
from autoopt.front.config import Config
from autoopt.front.goals import Goal, Goals
from autoopt.front.words import ScoreWords, plain, speed, times, with_interval
from autoopt.records import Estimate
from autoopt.records.estimates import ratio

Exporter: TypeAlias = Callable[[Config, Path], Path]
"""Writes a config as a bundle into a folder and returns the folder. Given by whoever knows the store."""


@dataclass(frozen=True)
class Pick:
    """One config, picked for goals."""

    config: Config
    met: bool
    """Whether it meets every goal at 95 %."""
    reason: str
    """Why this one, in a sentence."""
    goals: Goals
    reference: Config
    reference_name: str
    words: ScoreWords
    lossless: Config | None = None
    exporter: Exporter | None = None

    def sentence(self) -> str:
        """``… is 14.2× faster (95 % CI 13.6–14.9) than PyTorch eager FP32 at 0.4 points less accuracy (…), measured on …``."""
        judged = self.config.judged
        if self.config.id == self.reference.id:
            return f"{spoken(self.config)} is {self.reference_name} itself, what all others are compared with."
        if judged.served is not None:
            rate = with_interval(judged.served.rate)
            return (
                f"{spoken(self.config)} serves {rate} requests a second, 99 % of them within {plain(judged.served.bound_ms)} ms: "
                f"that is {times(judged.speedup)} what {self.reference_name} can do at most, {self.words.drop(judged.score_drop)}, "
                f"measured on the {judged.split} split."
            )
        return (
            f"{spoken(self.config)} is {speed(judged.speedup)} {self.reference_name} "
            f"{self.words.drop(judged.score_drop)}, measured on the {judged.split} split."
        )

    @property
    def speedup_vs_lossless(self) -> Estimate | None:
        """Against the fastest config with the network unchanged in FP32, from the two paired speed-ups."""
        if self.lossless is None:
            return None
        return speedup_over(self.config, self.lossless)

    def lossless_sentence(self) -> str:
        """The honest comparison: how much is left over the same weights in the best engine; empty where unknown."""
        gain = self.speedup_vs_lossless
        if gain is None or self.lossless is None:
            return ""
        if self.config.id == self.lossless.id:
            return "It is itself the fastest lossless config (network unchanged, FP32)."
        return f"It is {speed(gain)} the fastest lossless config ({spoken(self.lossless)})."

    def export(self, path: str | Path) -> Path:
        """Write the config as a bundle into the folder ``path``, which is returned.

        Raises:
            UserError: this front does not know its job's store.
        """
        if self.exporter is None:
            message = "this front was made without its job's store; take it from Job.result().front to export from it"
            raise UserError(message)
        return self.exporter(self.config, Path(path))


def spoken(config: Config) -> str:
    """The description within a sentence: ``pruned … on openvino int8, 1 thread``."""
    return config.describe().replace(" | ", " on ")


def speedup_over(config: Config, other: Config) -> Estimate:
    """How many times as fast as ``other``, from the two paired speed-ups (independent errors, log scale)."""
    if config.id == other.id:
        return Estimate(1.0, 1.0, 1.0)
    return ratio(config.speedup, other.speedup)


def choose(configs: Sequence[Config], goals: tuple[Goal, ...]) -> tuple[Config, bool, str]:
    """The config, whether it meets all goals, and why it is the one. ``configs`` is not empty."""
    meeting = [config for config in configs if all(goal.met_by(config) for goal in goals)]
    if meeting:
        return min(meeting, key=_speed_order), True, _why_met(goals)
    nearest = min(configs, key=lambda config: (_distance(config, goals, configs), *_speed_order(config)))
    return nearest, False, _why_none(nearest, goals, configs)


def _speed_order(config: Config) -> tuple[float, float, int]:
    return (config.latency_ms.value, config.score_drop.value, config.number)


def _distance(config: Config, goals: Sequence[Goal], configs: Sequence[Config]) -> float:
    """The sum of shortfalls, each as a share of the worst config's: goals have different units."""
    worst = [max(goal.shortfall(other) for other in configs) for goal in goals]
    return sum(goal.shortfall(config) / most for goal, most in zip(goals, worst, strict=True) if most > 0)


def _why_met(goals: Sequence[Goal]) -> str:
    if not goals:
        return "The fastest config; no goal was given."
    return f"The fastest config that {_joined(goals)}, at 95 % confidence."


def _why_none(nearest: Config, goals: Sequence[Goal], configs: Sequence[Config]) -> str:
    alone = [goal for goal in goals if not any(goal.met_by(config) for config in configs)]
    if not alone:
        opening = f"No config {_joined(goals)} at once, though each goal alone is met by some config."
    else:
        opening = " ".join(_why_not(goal, configs) for goal in alone)
    missed = [goal for goal in goals if not goal.met_by(nearest)]
    has = "; ".join(f"{goal.measured(nearest)}" for goal in missed)
    return f"{opening} This is the nearest: it has {has}."


def _why_not(goal: Goal, configs: Sequence[Config]) -> str:
    best = min(configs, key=goal.worst)
    if any(goal.typical(config) <= 0 for config in configs):
        return (
            f"No config {goal.text} at 95 % confidence, though some measure so: "
            f"more samples or longer timing would narrow their intervals."
        )
    return f"No config {goal.text}: the best, {spoken(best)}, has {goal.measured(best)}."


def _joined(goals: Sequence[Goal]) -> str:
    return " and ".join(goal.text for goal in goals)
