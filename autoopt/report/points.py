"""What the page's plots draw: plain JSON values, finite numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from autoopt.front import Config, Front
from autoopt.front.words import ScoreWords, figure, interval
from autoopt.records import Estimate
from autoopt.report.data import ReportData
from autoopt.report.load import bound_ms, curves
from autoopt.report.progress import growth


def page_data(data: ReportData) -> dict[str, Any]:
    """Everything that the page's script reads."""
    front = data.front
    words = ScoreWords(data.task.metric, in_points=False) if front is None else front.words
    roles = _Roles.of(data)
    moments = growth(data)
    ceiling = max(0.0, data.ended_at - data.started_at)
    return {
        "points": [_point(config, words, roles, front) for config in data.configs],
        "load": {"bound_ms": bound_ms(data), "curves": curves(data)},
        "axes": {
            "score": f"{words.metric}, %" if words.in_points else words.metric,
            "drop": f"{words.metric} against the reference, {'points' if words.in_points else 'its unit'}",
            "latency": f"{'1 / rate, ms a request' if bound_ms(data) else 'latency, ms a sample'} (log scale)",
        },
        "progress": {
            "elapsed_s": [moment.elapsed_s for moment in moments],
            "mean_speedup": [moment.mean_speedup for moment in moments],
            "number": [moment.number for moment in moments],
            "end_s": max([ceiling, *(moment.elapsed_s for moment in moments)]),
        },
    }


@dataclass(frozen=True)
class _Roles:
    front: frozenset[str]
    reference: str | None
    lossless: str | None
    pick: str | None

    @classmethod
    def of(cls, data: ReportData) -> _Roles:
        front, pick = data.front, data.recommended
        return cls(
            front=frozenset(() if front is None else (config.id for config in front)),
            reference=None if front is None else front.reference.id,
            lossless=None if front is None or front.lossless is None else front.lossless.id,
            pick=None if pick is None else pick.config.id,
        )

    def named(self, config: Config) -> list[str]:
        held = [("pick", self.pick), ("reference", self.reference), ("lossless", self.lossless)]
        return [name for name, held_by in held if held_by == config.id] + ["front"] * (config.id in self.front)


def roles_of(data: ReportData) -> dict[int, list[str]]:
    """Candidate number to its roles: "pick", "reference", "lossless", "front"."""
    roles = _Roles.of(data)
    return {config.number: roles.named(config) for config in data.configs}


def _point(config: Config, words: ScoreWords, roles: _Roles, front: Front | None) -> dict[str, Any]:
    judged = config.judged
    score, drop = words.scaled(judged.score), words.scaled(judged.score_drop)
    gain = Estimate(-drop.value, -drop.high, -drop.low)
    ties = [] if front is None or config.id not in roles.front else front.indistinguishable_from(config)
    return {
        "number": config.number,
        "name": config.describe(),
        "split": judged.split,
        "roles": roles.named(config),
        "latency_ms": _figure(judged.latency_ms),
        "score": _figure(score),
        "gain": _figure(gain),
        "speedup_text": f"{figure(judged.speedup, '×')} ({interval(judged.speedup)})",
        "latency_text": f"{figure(judged.latency_ms)} ms ({interval(judged.latency_ms)})",
        "score_text": f"{figure(score, words.percent)} ({interval(score)})",
        "gain_text": f"{figure(gain, words.unit)} ({interval(gain)})",
        "ties": [tie.number for tie in ties],
    }


def _figure(estimate: Estimate) -> list[float | None]:
    return [_finite(estimate.value), _finite(estimate.low), _finite(estimate.high)]


def _finite(value: float) -> float | None:
    """JSON knows no NaN: a figure that is none is left out of the plot."""
    return value if math.isfinite(value) else None
