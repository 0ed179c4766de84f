"""What the outcomes so far say, in the terms in which a search decides: points, networks, and how far training brings one.

Pure: made anew from the outcomes whenever something ends.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from autoopt.front.hypervolume import doublings
from autoopt.records import Candidate, Measured, Outcome, Step
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


PRIOR = 0.3
"""Before anything is known: a rung may leave as little as this share of the loss to the reference."""
MARGIN = 0.8
"""Learnt shares are taken this much more optimistic than the best that was seen."""
ENOUGH = 3
"""Rungs seen before the prior is dropped."""


@dataclass(frozen=True)
class Learning:
    """How far training on brings a network, learnt from those that went on.

    Of the loss to the reference, a rung leaves a share: what is kept here is the least share seen, with a margin. Shares and
    not gains, because a network that has lost much gains more in a rung than one that has lost little. The idea of an
    optimistic learning curve is that of Domhan et al. (IJCAI 2015); ours needs a handful of curves.
    """

    rungs: tuple[float, ...] = ()
    shares: Mapping[float, float] = field(default_factory=dict)
    """Rung to the least share of the loss that the next rung may leave."""

    def optimistic(self, score: float, epochs: float, scale: Scale) -> float:
        """The best score that a network may have at the last rung, which has this one after so many epochs.

        Never above the reference's, unless it is there already: whoever hopes for more can eliminate nobody.
        """
        loss = scale.reference_score - score
        for rung in self.rungs[:-1]:
            if rung >= epochs:
                loss *= self.shares.get(rung, PRIOR) if loss > 0 else 1.0
        slack = scale.max_drop / 20 if self.rungs and epochs < self.rungs[-1] else 0.0
        return max(score, min(scale.reference_score - loss + slack, scale.reference_score))


def learn(space: Space, configs: Sequence[Config], scale: Scale) -> Learning:
    """The shares seen between neighbouring rungs of the same network."""
    rungs = space.rungs
    curves: dict[tuple[Step, ...] | str, dict[float, float]] = defaultdict(dict)
    for config in configs:
        epochs = space.trained_for(config.candidate)
        if epochs is not None:
            curve = curves[network_id(space, config.candidate)]
            curve[epochs] = max(config.score, curve.get(epochs, -math.inf))
    shares: dict[float, float] = {}
    for rung, following in itertools.pairwise(rungs):
        seen = [
            _share(curve[rung], curve[following], scale) for curve in curves.values() if {rung, following} <= set(curve)
        ]
        known = [share for share in seen if share is not None]
        least = min(known, default=PRIOR) * MARGIN
        shares[rung] = least if len(known) >= ENOUGH else min(least, PRIOR)
    return Learning(rungs, shares)


def _share(before: float, after: float, scale: Scale) -> float | None:
    """The share of the loss that was left; None where there was next to none to lose."""
    loss = scale.reference_score - before
    if loss < scale.max_drop / 5:
        return None
    return min(1.0, max(0.0, (scale.reference_score - after) / loss))


def network_id(space: Space, candidate: Candidate) -> str:
    """Equal for candidates with the same network, however long it was trained."""
    trainer = space.trainer
    steps = tuple(
        replace(step, params={name: value for name, value in step.params.items() if name != "epochs"})
        if trainer is not None and step.technique == trainer.technique
        else step
        for step in space.network(candidate)
    )
    return Candidate(steps, candidate.deployment).model_id
