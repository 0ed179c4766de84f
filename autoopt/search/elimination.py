"""Who cannot enter the front any more: latency first, then rung by rung.

A candidate's latency is known before it is trained, since it depends on the structure alone. It is given up as soon as a
measured config is at least as fast and has at least the score that the candidate may reach under the most optimistic
assumptions; and when not even those bring it within the drop that anyone is interested in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoopt.records import Candidate, Eliminated
from autoopt.search.learning import Learning, family_of, learn
from autoopt.search.standings import Point, Row, Scale, measured, network_id, pareto
from autoopt.space import Space
from autoopt.workers.entry import Standing

RESERVE_S = 12.0
"""Seconds kept for quantizing, building and measuring what has been trained."""
_HOPE = 0.1
_FASTER = 1.2


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate may still enter the front."""

    keep: bool
    reason: str = ""
    promise: float = 0.0
    """What it would add to the front's hypervolume, in score times doublings of speed."""


@dataclass(frozen=True)
class Judgement:
    """What the judge says of a standing."""

    eliminated: Eliminated | None
    promise: float = 0.0
    """Expected gain in hypervolume by second of training: what orders those who wait."""


def could_enter(points: Sequence[Point], latency_ms: float, optimistic_score: float, scale: Scale) -> Verdict:
    """Whether a config of this latency and score would stand on the front of the measured ``points``.

    Args:
        points: (score, latency in ms) of what was measured.
        latency_ms: the candidate's, at the optimistic end of its interval.
        optimistic_score: the best score that it may reach.
        scale: the reference, and what is of interest.
    """
    if optimistic_score < scale.floor:
        drop = scale.reference_score - optimistic_score
        return Verdict(
            keep=False, reason=f"loses at least {drop:.3g}; losses above {scale.max_drop:.3g} are not of interest"
        )
    betters = [point for point in points if point[0] >= optimistic_score and point[1] <= latency_ms]
    if betters:
        score, latency = min(betters, key=lambda point: point[1])
        reason = (
            f"{latency_ms:.3g} ms with a score of {optimistic_score:.4g} at best; measured already: {latency:.3g} ms "
            f"with {score:.4g}"
        )
        return Verdict(keep=False, reason=reason)
    promise = scale.gain(points, (optimistic_score, latency_ms))
    if promise < scale.negligible:
        reason = f"{latency_ms:.3g} ms with a score of {optimistic_score:.4g} at best adds next to nothing to the front"
        return Verdict(keep=False, reason=reason, promise=promise)
    return Verdict(keep=True, promise=promise)


def fits(seconds_needed: float | None, seconds_left: float | None) -> bool:
    """Whether there is time for it; what is not known does not stop anyone."""
    return seconds_needed is None or seconds_left is None or seconds_needed <= seconds_left


def worth(  # noqa: PLR0913 (what is known of a network in training)
    points: Sequence[Point],
    scale: Scale,
    learning: Learning,
    latency_ms: float,
    score: float,
    epochs: float,
    *,
    until: float | None = None,
    seconds_per_epoch: float = 1.0,
    beside_s: float = 0.0,
    seconds_left: float | None = None,
) -> float:
    """What training on is worth: of the rungs ahead that the time allows, the most gain to be expected by second.

    By second, because a trainer is what a search has least of: the network that is nearly finished comes before one of the
    same promise that has not begun, and a small one before a large one. What may be hoped for counts a little, so that a gain
    that nobody expects is still tried when there is nothing better.

    Args:
        points: the front.
        scale: what counts as gain.
        learning: what training is expected to bring.
        latency_ms: the network's, where it is served fastest.
        score: after ``epochs``; for a network that was not trained, the one that the first rung is expected to bring.
        epochs: trained so far.
        until: the next rung, where the space's rungs are not all that there is.
        seconds_per_epoch: its pace.
        beside_s: what a rung takes beyond its epochs.
        seconds_left: for training; None where time is no limit.
    """
    since = epochs if epochs > 0 else min(learning.rungs, default=0.0)
    best, spent = 0.0, 0.0
    for rung in sorted({*learning.rungs, *(() if until is None else (until,))}):
        if rung <= epochs:
            continue
        spent += beside_s + seconds_per_epoch * (rung - max(epochs, _before(rung, learning.rungs)))
        if seconds_left is None or spent + RESERVE_S <= seconds_left:
            expected = scale.gain(points, (learning.expected(score, since, rung, scale), latency_ms))
            best = max(best, expected / spent)
    hoped = scale.gain(points, (learning.optimistic(score, epochs, scale), latency_ms))
    return best + _HOPE * hoped / spent if spent else 0.0


def _before(rung: float, rungs: Sequence[float]) -> float:
    return max((other for other in rungs if other < rung), default=0.0)


@dataclass(frozen=True)
class Judge:
    """Judges standings by the front as it is now. Plain data: it is sent to where candidates ask."""

    points: tuple[Point, ...]
    scale: Scale
    learning: Learning
    space: Space
    networks: int = 0
    """So many were trained and measured."""

    @property
    def compares(self) -> bool:
        """Whether something faster than the reference has been measured."""
        return any(latency_ms < self.scale.reference_latency_ms / _FASTER for _, latency_ms in self.points)

    def judge(self, standing: Standing, seconds_left: float | None, beside_s: float = 0.0) -> Judgement:
        """Go on, or end here? With the promise that orders those who wait.

        ``beside_s``: what a rung takes beyond its epochs.
        """
        optimistic = self.optimistic_score(standing)
        latency_ms = self.scale.reference_latency_ms / standing.speedup_high
        verdict = could_enter(self.points, latency_ms, optimistic, self.scale)
        if not verdict.keep:
            return Judgement(_eliminated(standing, _rung(standing), verdict.reason))
        pace = 0.0 if standing.cached else standing.seconds_per_epoch
        needed = None if pace is None else pace * standing.next_epochs + RESERVE_S
        if not fits(needed, seconds_left):
            reason = f"training {standing.next_epochs:g} epochs takes {needed:.0f} s; {seconds_left:.0f} s are left"
            return Judgement(_eliminated(standing, "budget", reason))
        return Judgement(None, self._promise(standing, seconds_left, beside_s))

    def optimistic_score(self, standing: Standing) -> float:
        """The best score that the candidate may reach at the last rung."""
        if standing.score is None:
            return self.scale.reference_score
        return self.learning.optimistic(standing.score, standing.epochs, self.scale)

    def _promise(self, standing: Standing, seconds_left: float | None, beside_s: float) -> float:
        latency_ms = self.scale.reference_latency_ms / standing.speedup
        known = standing.seconds_per_epoch is not None
        return worth(
            self.points,
            self.scale,
            self.learning,
            latency_ms,
            self._start(standing, latency_ms) if standing.score is None else standing.score,
            standing.epochs,
            until=standing.epochs + standing.next_epochs,
            # A small network trains as much faster as it runs faster, roughly.
            seconds_per_epoch=standing.seconds_per_epoch or 1.0 / standing.speedup,
            beside_s=beside_s if known else 0.0,
            seconds_left=seconds_left if known else None,
        )

    def _start(self, standing: Standing, latency_ms: float) -> float:
        """The score after the first rung that is to be expected of a network that has not been trained."""
        doublings = self.learning.doublings(standing.candidate.deployment, latency_ms)
        if doublings is None:
            return (self.scale.floor + self.scale.reference_score) / 2
        return self.learning.expected_start(family_of(self.space, standing.candidate), doublings, self.scale)


def make_judge(space: Space, rows: Sequence[Row], reference: Candidate) -> Judge | None:
    """The judge of the outcomes so far; None until the reference has been measured."""
    configs = measured(rows)
    base = next((config for config in configs if config.candidate == reference), None)
    if base is None:
        return None
    scale = Scale(base.score, base.latency_ms, space.max_drop_of_interest)
    trained = {network_id(space, c.candidate) for c in configs if space.trained_for(c.candidate) is not None}
    front = tuple(config.point for config in pareto(configs))
    return Judge(front, scale, learn(space, rows, scale), space, len(trained))


def _rung(standing: Standing) -> str:
    return "latency" if standing.score is None else f"recovery {standing.epochs:g} epochs"


def _eliminated(standing: Standing, rung: str, reason: str) -> Eliminated:
    return Eliminated(rung, reason, standing.speedup, standing.score)
