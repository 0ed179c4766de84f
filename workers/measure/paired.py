"""Two artifacts timed in turn: A B B A, in short bursts, until the interval of their ratio is narrow enough.

Drift of the machine (frequency, neighbours, heat) hits both sides of a pair alike, so their ratio is trusted and single times are
not. A burst that the scheduler interrupted is thrown away, by the processor time that it did not get and not by how long it
took, so that discarding favours neither side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from autoopt.records import Estimate, Latency
from autoopt.workers.measure import statistics
from autoopt.workers.measure.handle import Server
from autoopt.workers.measure.records import TimingSettings
from autoopt.workers.measure.server import Burst

PLACEMENT_HALF_WIDTH = 0.006
"""The same artifact in two processes differs by up to so much, for as long as they live (95 %): their memory lies on other pages, which
collide in the caches in other ways. No number of rounds averages that out, so every interval includes it. Measured with
``benchmarks/timing/aa.py``."""

_WARM_S = 0.05
_FEWEST_ROUNDS = 4
_FEWEST_CALLS = 3
_EXTENSIONS = 2
_WARMUP_SHARE = 0.1
_LOOKS_GROW_BY = 1.15
# Of the share of processor time that a burst gets when it is left alone: below, it was interrupted. What it gets when left
# alone is a high quantile and not the median: on a busy machine most bursts are interrupted, and calls that last longer than
# a time slice then all look slow.
_INTERRUPTED_BELOW = 0.93
_LEFT_ALONE = 0.9


@dataclass(frozen=True)
class Plan:
    """How many calls make a burst of one side."""

    warmup: int
    timed: int


@dataclass
class Side:
    """One artifact's bursts, in the order in which they were taken."""

    batch: int
    plan: Plan
    bursts: list[Burst] = field(default_factory=list)

    def log_times(self) -> np.ndarray:
        """(bursts,): the logarithm of each burst's median time per sample, in ns."""
        return np.log([burst.call_ns / self.batch for burst in self.bursts])

    def undisturbed(self) -> np.ndarray:
        """bool, (bursts,): which got their usual share of processor time."""
        shares = np.array([burst.cpu_ns / burst.wall_ns for burst in self.bursts])
        switched = np.array([burst.switches > 0 for burst in self.bursts])
        kept: np.ndarray = ~(switched & (shares < _INTERRUPTED_BELOW * np.quantile(shares, _LEFT_ALONE)))
        return kept

    def call_ms(self, kept: np.ndarray) -> np.ndarray:
        """Every call's time in ms, of the bursts kept."""
        return np.concatenate([burst.times_ns for burst, keep in zip(self.bursts, kept, strict=True) if keep]) / 1e6


@dataclass(frozen=True)
class Pairs:
    """What the rounds say."""

    speedup: Estimate
    latency: Latency
    sample_ms: float
    """What a sample takes of the machine's time, with all instances and streams at work: the median."""
    timed_s: float
    rounds: int
    remarks: tuple[str, ...]


def time_pair(artifact: Server, reference: Server, settings: TimingSettings) -> Pairs:
    """Time two loaded artifacts in turn."""
    sides = tuple(_side(server, settings.burst_ms) for server in (artifact, reference))
    run = tuple(
        (lambda server=server, plan=side.plan: server.burst(plan.warmup, plan.timed))
        for server, side in zip((artifact, reference), sides, strict=True)
    )
    start = time.monotonic()
    reached = sample(sides, run, settings)
    return _summary(sides, time.monotonic() - start, settings, reached=reached)


def sample(
    sides: tuple[Side, ...],
    run: tuple[Callable[[], Burst], ...],
    settings: TimingSettings,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Take rounds until the interval is narrow enough (True) or the time is over (False).

    The interval is looked at after 16, 19, 22, … rounds, ever more rarely: each look is one more chance to stop on a lucky streak.
    Where it is useless when the time is over, there is more of it.
    """
    end, rounds, look = clock() + settings.max_s, 0, settings.min_rounds
    extensions = _EXTENSIONS
    while True:
        for index in (0, 1, 1, 0):
            sides[index].bursts.append(run[index]())
        rounds += 1
        if rounds >= look:
            look = math.ceil(rounds * _LOOKS_GROW_BY)
            if half_width(log_ratio(*sides)) <= settings.target_half_width:
                return True
        if rounds >= _FEWEST_ROUNDS and clock() >= end:
            if not extensions or half_width(log_ratio(*sides)) <= settings.useless_half_width:
                return False
            extensions -= 1
            end = clock() + settings.max_s


def log_ratio(artifact: Side, reference: Side) -> Estimate:
    """The logarithm of the speed-up: from the pairs A B and B A of which neither side was interrupted."""
    ratios = reference.log_times() - artifact.log_times()
    kept = artifact.undisturbed() & reference.undisturbed()
    # On a machine where hardly a pair is left alone, what is left is no sample of anything.
    chosen = ratios[kept] if kept.mean() >= 0.25 and kept.sum() >= 2 * _FEWEST_ROUNDS else ratios  # noqa: PLR2004
    return statistics.widened(statistics.center(chosen), PLACEMENT_HALF_WIDTH)


def half_width(estimate: Estimate) -> float:
    """Half the interval's width."""
    return (estimate.high - estimate.low) / 2


def _side(server: Server, burst_ms: float) -> Side:
    call_ns = server.warm(_WARM_S)
    timed = max(_FEWEST_CALLS, math.ceil(burst_ms * 1e6 / call_ns))
    if call_ns > burst_ms * 1e6:
        timed = 1
    return Side(server.serving.artifact.deployment.batch, Plan(max(1, math.ceil(timed * _WARMUP_SHARE)), timed))


def _summary(sides: tuple[Side, ...], seconds: float, settings: TimingSettings, *, reached: bool) -> Pairs:
    artifact, reference = sides
    kept = [side.undisturbed() for side in sides]
    times = artifact.call_ms(kept[0])
    rounds, discarded = len(artifact.bursts) // 2, int(sum((~each).sum() for each in kept))
    latency = Latency(
        median_ms=float(np.median(times)),
        p90_ms=float(np.quantile(times, 0.9)),
        mean_ms=float(times.mean()),
        reference_median_ms=float(np.median(reference.call_ms(kept[1]))),
        rounds=rounds,
        calls=len(times),
        discarded=discarded,
    )
    log_speedup = log_ratio(*sides)
    remarks = []
    if not reached:
        remarks.append(
            f"timing stopped after {seconds:.1f} s with ±{100 * half_width(log_speedup):.1f} %, "
            f"short of ±{100 * settings.target_half_width:.1f} %"
        )
    if discarded > len(artifact.bursts) // 2:
        remarks.append(f"the machine was busy: {discarded} of {4 * rounds} bursts were interrupted")
    sample_ms = float(np.exp(np.median(artifact.log_times()[kept[0]]))) / 1e6
    return Pairs(statistics.ratio(log_speedup), latency, sample_ms, seconds, rounds, tuple(remarks))
