"""Who cannot enter the front any more: latency first, then rung by rung.

A candidate's latency is known before it is trained, since it depends on the structure alone. It is given up as soon as a
measured config is at least as fast and has at least the score that the candidate may reach under the most optimistic
assumptions; and when not even those bring it within the drop that anyone is interested in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoopt.records import Candidate, Eliminated
from autoopt.search.standings import Learning, Point, Row, Scale, learn, measured, pareto
from autoopt.space import Space
from autoopt.workers.entry import Standing

RESERVE_S = 5.0
"""Seconds kept for building and measuring what has been trained."""
_HOPE = 0.1


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


@dataclass(frozen=True)
class Judge:
    """Judges standings by the front as it is now. Plain data: it is sent to where candidates ask."""

    points: tuple[Point, ...]
    scale: Scale
    learning: Learning

    def judge(self, standing: Standing, seconds_left: float | None) -> Judgement:
        """Go on, or end here? With the promise that orders those who wait."""
        optimistic = self.optimistic_score(standing)
        latency_ms = self.scale.reference_latency_ms / standing.speedup_high
        verdict = could_enter(self.points, latency_ms, optimistic, self.scale)
        if not verdict.keep:
            return Judgement(_eliminated(standing, _rung(standing), verdict.reason))
        pace = standing.seconds_per_epoch
        needed = None if pace is None else pace * standing.next_epochs + RESERVE_S
        if not fits(needed, seconds_left):
            reason = f"training {standing.next_epochs:g} epochs takes {needed:.0f} s; {seconds_left:.0f} s are left"
            return Judgement(_eliminated(standing, "budget", reason))
        return Judgement(None, self._promise(standing, optimistic))

    def optimistic_score(self, standing: Standing) -> float:
        """The best score that the candidate may reach at the last rung."""
        if standing.score is None:
            return self.scale.reference_score
        return self.learning.optimistic(standing.score, standing.epochs, self.scale)

    def _promise(self, standing: Standing, optimistic: float) -> float:
        """The gain at the score to be expected, and a little for what may be hoped.

        By hope alone, whoever is not trained yet would always come before those who have shown what they can do.
        """
        scale = self.scale
        pessimistic = scale.floor if standing.score is None else standing.score
        latency_ms = scale.reference_latency_ms / standing.speedup
        expected = scale.gain(self.points, ((pessimistic + optimistic) / 2, latency_ms))
        return expected + _HOPE * scale.gain(self.points, (optimistic, latency_ms))


def make_judge(space: Space, rows: Sequence[Row], reference: Candidate) -> Judge | None:
    """The judge of the outcomes so far; None until the reference has been measured."""
    configs = measured(rows)
    base = next((config for config in configs if config.candidate == reference), None)
    if base is None:
        return None
    scale = Scale(base.score, base.latency_ms, space.max_drop_of_interest)
    return Judge(tuple(config.point for config in pareto(configs)), scale, learn(space, configs, scale))


def _rung(standing: Standing) -> str:
    return "latency" if standing.score is None else f"recovery {standing.epochs:g} epochs"


def _eliminated(standing: Standing, rung: str, reason: str) -> Eliminated:
    return Eliminated(rung, reason, standing.speedup, standing.score)
