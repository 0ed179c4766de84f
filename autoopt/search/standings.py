"""What the outcomes so far say, in the terms in which a search decides: configs, points, and what counts as gain.

Pure: made anew from the outcomes whenever something ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from autoopt.front.hypervolume import doublings
from autoopt.records import Candidate, Measured, Outcome
from autoopt.space import Space

Row: TypeAlias = tuple[int, Candidate, Outcome]
Point: TypeAlias = tuple[float, float]
"""(score, latency in ms)."""

FASTER = 4.0
"""The corner from which gains are counted lies this much slower than the reference, so that every config counts."""


@dataclass(frozen=True)
class Scale:
    """What counts as gain: scores above the floor, latencies below the ceiling, faster on a log scale."""

    reference_score: float
    reference_latency_ms: float
    max_drop: float
    """In the score's unit: what nobody would give up."""

    @property
    def floor(self) -> float:
        """The worst score that counts."""
        return self.reference_score - self.max_drop

    @property
    def negligible(self) -> float:
        """A gain that is not worth a training: a hundredth of the interesting drop, at twice the speed."""
        return self.max_drop / 100

    def volume(self, points: Sequence[Point]) -> float:
        """What the points cover, in score times doublings of speed."""
        return doublings(points, self.floor, self.reference_latency_ms * FASTER)

    def gain(self, points: Sequence[Point], point: Point) -> float:
        """What the point would add to them."""
        return self.volume([*points, point]) - self.volume(points)


@dataclass(frozen=True)
class Config:
    """A measured candidate, as a point."""

    candidate: Candidate
    score: float
    latency_ms: float

    @property
    def point(self) -> Point:
        """(score, latency in ms)."""
        return (self.score, self.latency_ms)


def measured(rows: Iterable[Row]) -> tuple[Config, ...]:
    """The measured candidates whose figures are numbers."""
    found = []
    for _, candidate, outcome in rows:
        if isinstance(outcome, Measured):
            config = Config(candidate, outcome.measurement.score.value, outcome.measurement.latency_ms.value)
            if math.isfinite(config.score) and math.isfinite(config.latency_ms):
                found.append(config)
    return tuple(found)


def pareto(configs: Iterable[Config]) -> tuple[Config, ...]:
    """Those that no other precedes on both figures (point estimates), the fastest first."""
    kept: list[Config] = []
    for config in sorted(configs, key=lambda config: (config.latency_ms, -config.score)):
        if not kept or config.score > kept[-1].score:
            kept.append(config)
    return tuple(kept)


def network_id(space: Space, candidate: Candidate) -> str:
    """Equal for candidates with the same network, however long it was trained."""
    return _known(("network", space.fingerprint, candidate.id), lambda: _network_id(space, candidate))


def trained_id(space: Space, candidate: Candidate) -> str:
    """Equal for candidates with the same network, trained equally long; empty where the network is unchanged."""
    return _known(("trained", space.fingerprint, candidate.id), lambda: _trained_id(space, candidate))


# Asked of every candidate whenever something ends: at ten thousand, computing them took seconds each time.
_IDENTIFIERS: dict[tuple[str, str, str], str] = {}


def _known(key: tuple[str, str, str], find: Callable[[], str]) -> str:
    if key not in _IDENTIFIERS:
        _IDENTIFIERS[key] = find()
    return _IDENTIFIERS[key]


def _network_id(space: Space, candidate: Candidate) -> str:
    trainer = space.trainer
    steps = tuple(
        replace(step, params={name: value for name, value in step.params.items() if name != "epochs"})
        if trainer is not None and step.technique == trainer.technique
        else step
        for step in space.network(candidate)
    )
    return Candidate(steps, candidate.deployment).model_id


def _trained_id(space: Space, candidate: Candidate) -> str:
    steps = space.network(candidate)
    return Candidate(steps, candidate.deployment).model_id if steps else ""
