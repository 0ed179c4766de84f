"""How far training brings a network, learnt from those that were trained: what may be hoped for, and what is to be expected.

Hope decides who may go on: it is wrong on one side only, so nobody is eliminated who could have entered the front. Expectation
decides who goes first. Pure: made anew from the outcomes whenever something ends.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from autoopt.records import Candidate, Deployment, Eliminated, Step
from autoopt.search.standings import Config, Row, Scale, measured, network_id
from autoopt.space import Listed, Space, StepChoice

HOPED, EXPECTED = 0.87, 0.45
"""Before anything is known, training longer leaves a share of the loss to the reference that is a power of how much longer: with the
first exponent at best, with the second as a rule. Curves of errors are power laws (Hestness et al. 2017); these are of residual networks
cut to 15 to 60 % of their blocks, which in four times the epochs lost half of their loss."""
PRIOR_WEIGHT = 2
"""It counts as much as so many rungs seen."""
STEEPNESS = 1.5
"""Before anything is known: a network made twice as fast by its structure has lost this many times the drop of interest after
the first rung."""
MARGIN = 0.8
"""Learnt hopes are this much more optimistic than the best that was seen."""
ENOUGH = 3
"""Rungs seen before the prior hope is dropped."""
_NEXT_TO_NOTHING = 0.1

Family: TypeAlias = tuple[str, ...]
"""The techniques that changed a network's structure, each with those of its choices that are names and not amounts."""


@dataclass(frozen=True)
class Learning:
    """Of the loss to the reference, a rung leaves a share: the least seen is hope, the median is expectation.

    Shares and not gains, because a network that has lost much gains more in a rung than one that has lost little. The idea of an
    optimistic learning curve is that of Domhan et al. (IJCAI 2015); ours needs a handful of curves.

    What a network has lost after the first rung is expected to grow with the square of the doublings of speed that its structure
    brought, at a rate of its family's own: students that lost 4 and 15 points at 0.9 and 1.7 doublings fit it, and pruned
    networks that lost 40 at 0.4 tell a search to leave their like alone.
    """

    rungs: tuple[float, ...] = ()
    hoped: Mapping[float, float] = field(default_factory=dict)
    """Rung to the least share of the loss that the next rung may leave."""
    expected_shares: Mapping[float, float] = field(default_factory=dict)
    """Rung to the share of the loss that the next rung probably leaves."""
    steepness: Mapping[Family, float] = field(default_factory=dict)
    """Family to the loss after the first rung by squared doublings."""
    plain_ms: Mapping[Deployment, float] = field(default_factory=dict)
    """The unchanged network's latency in each deployment that was timed."""

    def optimistic(self, score: float, epochs: float, scale: Scale) -> float:
        """The best score that a network may have at the last rung, which has this one after so many epochs.

        Never above the reference's, unless it is there already: whoever hopes for more can eliminate nobody.
        """
        loss = scale.reference_score - score
        for rung in self.rungs[:-1]:
            if rung >= epochs:
                loss *= self.hoped[rung] if loss > 0 else 1.0
        slack = scale.max_drop / 20 if self.rungs and epochs < self.rungs[-1] else 0.0
        return max(score, min(scale.reference_score - loss + slack, scale.reference_score))

    def expected(self, score: float, epochs: float, until: float, scale: Scale) -> float:
        """The score to be expected after training until a rung, of a network that has this one after so many epochs."""
        loss = scale.reference_score - score
        for rung in self.rungs[:-1]:
            if epochs <= rung < until and loss > 0:
                loss *= self.expected_shares[rung]
        return scale.reference_score - loss

    def expected_start(self, family: Family, doublings: float, scale: Scale) -> float:
        """The score to be expected after the first rung, of a network that its structure made so many times twice as fast."""
        known = self.steepness.values()
        steepness = self.steepness.get(family, median(known) if known else STEEPNESS * scale.max_drop)
        return scale.reference_score - steepness * max(doublings, 0.0) ** 2

    def doublings(self, deployment: Deployment, latency_ms: float) -> float | None:
        """How many times twice as fast as the unchanged network, served alike; None where that was not measured."""
        plain = self.plain_ms.get(deployment)
        return None if plain is None else math.log2(plain / latency_ms)


def family_of(space: Space, candidate: Candidate) -> Family:
    """How the candidate's structure is changed: taking the last blocks out may cost four times what taking the idlest does."""
    kinds = [(step, space.kind(step)) for step in candidate.model]
    return tuple(
        " ".join([step.technique, *_names(step, kind)])
        for step, kind in kinds
        if kind is not None and kind.changes_structure
    )


def _names(step: Step, kind: StepChoice) -> Iterator[str]:
    for parameter in kind.parameters:
        domain, applies = parameter.domain, parameter.name in step.params
        if applies and isinstance(domain, Listed) and not domain.ordered and len(domain.values) > 1:
            yield str(step.params[parameter.name])


def learn(space: Space, rows: Sequence[Row], scale: Scale) -> Learning:
    """What the outcomes so far teach."""
    configs = measured(rows)
    plain = _plain(space, rows, configs, scale)
    networks: dict[str, list[Config]] = defaultdict(list)
    for config in configs:
        if space.trained_for(config.candidate) is not None:
            networks[network_id(space, config.candidate)].append(config)
    curves = [_curve(space, each) for each in networks.values()]
    hoped, expected = {}, {}
    for rung, following in itertools.pairwise(space.rungs):
        seen = [_share(curve[rung], curve[following], scale) for curve in curves if {rung, following} <= curve.keys()]
        known = [share for share in seen if share is not None]
        longer = following / rung
        least = min(known, default=1.0) * MARGIN
        hoped[rung] = least if len(known) >= ENOUGH else min(least, longer**-HOPED)
        # One network that had little to lose says little of the others.
        expected[rung] = median([*known, *(longer**-EXPECTED,) * PRIOR_WEIGHT])
    fits: dict[Family, list[tuple[float, float]]] = defaultdict(list)
    for each, curve in zip(networks.values(), curves, strict=True):
        gained = _doublings(each, plain)
        if space.rungs and space.rungs[0] in curve and gained > _NEXT_TO_NOTHING:
            loss = max(0.0, scale.reference_score - curve[space.rungs[0]])
            fits[family_of(space, each[0].candidate)].append((gained**2, loss))
    steepness = {family: _slope(seen) for family, seen in fits.items()}
    return Learning(space.rungs, hoped, expected, steepness, plain)


def _plain(space: Space, rows: Sequence[Row], configs: Sequence[Config], scale: Scale) -> dict[Deployment, float]:
    """The unchanged network's latency in each deployment: as measured, or as probed where it was eliminated."""
    probed = {
        candidate.deployment: scale.reference_latency_ms / outcome.speedup
        for _, candidate, outcome in rows
        if isinstance(outcome, Eliminated) and outcome.speedup and not space.network(candidate)
    }
    return probed | {c.candidate.deployment: c.latency_ms for c in configs if not space.network(c.candidate)}


def _curve(space: Space, configs: Iterable[Config]) -> dict[float, float]:
    """Epochs to the best score of one network."""
    curve: dict[float, float] = {}
    for config in configs:
        epochs = space.trained_for(config.candidate) or 0.0
        curve[epochs] = max(config.score, curve.get(epochs, -math.inf))
    return curve


def _share(before: float, after: float, scale: Scale) -> float | None:
    """The share of the loss that was left; None where there was next to none to lose."""
    loss = scale.reference_score - before
    if loss < scale.max_drop / 5:
        return None
    return min(1.0, max(0.0, (scale.reference_score - after) / loss))


def _slope(seen: Sequence[tuple[float, float]]) -> float:
    """By least squares, through the origin: who gained little speed says little, the less the noisier the timing."""
    return sum(x * y for x, y in seen) / sum(x * x for x, _ in seen)


def _doublings(configs: Iterable[Config], plain: Mapping[Deployment, float]) -> float:
    """What its structure brought a network, as the deployments in which it was timed say."""
    gained = [
        math.log2(plain[c.candidate.deployment] / c.latency_ms) for c in configs if c.candidate.deployment in plain
    ]
    return median(gained) if gained else 0.0
