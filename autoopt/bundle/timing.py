"""How long a call takes here, in a simple way: a bundle carries no reference that it could be timed in turn with.

So this is a check and no measurement: identical artifacts timed like this on a shared machine differ by a quarter now and
then. Bursts in which the process was preempted are left out, as the search leaves them out.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoopt.records import Estimate

# Shorter than a scheduler's time slice, so that there are undisturbed bursts on a busy machine as well.
BURST_S, WARM_UP_S, AT_MOST_S = 0.002, 0.1, 3.0
BURSTS, FEWEST = 200, 20


@dataclass(frozen=True)
class SimpleTiming:
    """Milliseconds a call."""

    median_ms: Estimate
    """The median of the bursts' medians; its interval is that of the order statistics."""
    p90_ms: float
    calls: int
    discarded: int
    """Bursts left out, because the process had been preempted."""
    bursts: int
    """Bursts kept."""

    @property
    def disturbed(self) -> bool:
        """Whether the machine was too busy for the figures to mean much."""
        return self.bursts < FEWEST


def time_calls(call: Callable[[], object]) -> SimpleTiming:
    """Warm up, then call in bursts until there are enough undisturbed ones, or time is up."""
    _burst(call, WARM_UP_S)
    kept: list[np.ndarray] = []
    left_out: list[np.ndarray] = []
    ends = time.perf_counter() + AT_MOST_S
    while len(kept) < BURSTS and (time.perf_counter() < ends or not (kept or left_out)):
        before = _preemptions()
        burst = _burst(call, BURST_S)
        (kept if _preemptions() == before else left_out).append(burst)
    used = kept or left_out
    calls = np.concatenate(used)
    return SimpleTiming(
        median_ms=_median([float(np.median(burst)) for burst in used]),
        p90_ms=float(np.quantile(calls, 0.9)),
        calls=len(calls),
        discarded=len(left_out),
        bursts=len(kept),
    )


def _burst(call: Callable[[], object], seconds: float) -> np.ndarray:
    """Milliseconds of each call; at least one call."""
    times = []
    now = time.perf_counter_ns()
    ends = now + int(seconds * 1e9)
    while True:
        begun = now
        call()
        now = time.perf_counter_ns()
        times.append(now - begun)
        if now >= ends:
            return np.array(times) / 1e6


def _preemptions() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _median(values: list[float]) -> Estimate:
    """The median with its 95 % interval from order statistics (the binomial's normal approximation)."""
    ordered, count = sorted(values), len(values)
    half = 0.98 * math.sqrt(count)
    low, high = max(0, math.floor(count / 2 - half)), min(count - 1, math.ceil(count / 2 + half))
    return Estimate(float(np.median(ordered)), ordered[low], ordered[high])
