"""The highest rate of requests that a server keeps up with: which rates are tried, and when one has held.

Pure: how a rate is tried is somebody else's (`autoopt.workers.measure.service`), so that the search can be tested against a queue whose
answer is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoopt.records import Estimate

LATE = 0.01
"""Of the requests so many may come too late: the bound is one of the 99th percentile."""
FRACTIONS = (0.85, 0.65, 0.45, 0.3, 0.15, 0.05)
"""Of the rate at which the instances are never idle; tried from above, since a static batch is late at low rates too."""
_WARM_UP = 0.1
_GROWTH, _GROWTH_OF_BOUND = 1.5, 0.1
_FEWEST = 30
_MOST = 12
"""Rates that one search tries: on a quiet machine it takes half as many."""


@dataclass(frozen=True)
class Window:
    """A server watched at one rate."""

    rate: float
    """Requests a second, on average."""
    requests: int
    p50_ms: float
    p99_ms: float
    late: float
    """The share of requests that were answered after the bound, or not at all."""
    growing: bool
    """Whether the later ones waited longer than the earlier ones: then the queue grows, and no percentile will stay."""
    mean_batch: float
    lag_ms: float
    """The load generator's own lateness: the 99th percentile."""

    @property
    def held(self) -> bool:
        """Whether the server kept up."""
        return self.late <= LATE and not self.growing


@dataclass(frozen=True)
class Found:
    """The rate, and what was seen on the way."""

    rate: Estimate
    """The highest that held; the interval reaches to the lowest that did not. Zero where none held."""
    windows: tuple[Window, ...]


def window(rate: float, latency_ms: np.ndarray, batches: np.ndarray, lag_ms: np.ndarray, bound_ms: float) -> Window:
    """What was seen.

    Args:
        rate: that was asked for.
        latency_ms: (requests,), in the order of arrival; infinity for those without an answer.
        batches: (requests,), the batch that each was answered in; 0 for those without an answer.
        lag_ms: (requests,), how much later than planned each arrived.
        bound_ms: the job's.
    """
    kept = latency_ms[int(_WARM_UP * len(latency_ms)) :]
    answered = batches[batches > 0]
    return Window(
        rate=rate,
        requests=len(kept),
        p50_ms=float(np.quantile(kept, 0.5, method="higher")),
        p99_ms=float(np.quantile(kept, 1 - LATE, method="higher")),
        late=float((kept > bound_ms).mean()),
        growing=_grows(kept, bound_ms),
        # Every request of a batch says so: their mean would be that of the requests, not of the batches.
        mean_batch=float(len(answered) / (1 / answered).sum()) if len(answered) else 0.0,
        lag_ms=float(np.quantile(lag_ms, 1 - LATE)),
    )


def _grows(latency_ms: np.ndarray, bound_ms: float) -> bool:
    """Whether the last third waited longer than the first, beyond what chance does."""
    third = len(latency_ms) // 3
    if third < _FEWEST:
        return False
    first, last = float(np.median(latency_ms[:third])), float(np.median(latency_ms[-third:]))
    return last > _GROWTH * first + _GROWTH_OF_BOUND * bound_ms


def highest_rate(
    watch: Callable[[float], Window],
    capacity: float,
    step: float,
    searches: int,
    late: Callable[[], bool] = lambda: False,
) -> Found:
    """Search.

    Each search goes down until a rate holds, then bisects between it and the lowest above that did not, until they are no further apart than
    ``step``; what holds then must hold once more (the stability rule), or the search goes on below it.

    Args:
        watch: tries a rate.
        capacity: samples a second when the instances are never idle; nothing can be faster.
        step: when to stop, as a factor.
        searches: how often to search; the middle one counts.
        late: whether the time is over: then no other rate is tried, and no other search begun.
    """
    windows: list[Window] = []
    found = []
    for number in range(searches):
        if number and late():
            break
        tries = _Tries(watch, late)
        found.append(_search(tries, capacity, step))
        windows += tries.windows
    lows, highs = sorted(low for low, _ in found), [high for _, high in found]
    value = lows[(len(lows) - 1) // 2]
    rate = Estimate(value, max(lows[0], FRACTIONS[-1] * capacity) if value else 0.0, max(highs))
    return Found(rate, tuple(windows))


class _Tries:
    """The rates that one search has tried."""

    def __init__(self, watch: Callable[[float], Window], late: Callable[[], bool]) -> None:
        self._watch, self._late = watch, late
        self.windows: list[Window] = []

    @property
    def over(self) -> bool:
        """Whether there were enough."""
        return len(self.windows) >= _MOST or self._late()

    def hold(self, rate: float) -> bool:
        """Whether the server keeps up with this one."""
        self.windows.append(self._watch(rate))
        return self.windows[-1].held


def _search(tries: _Tries, capacity: float, step: float) -> tuple[float, float]:
    """The highest rate that held twice, and the lowest above it that did not; the one reached so far when there were enough tries."""
    low, high = 0.0, capacity
    for fraction in FRACTIONS:
        if tries.over and tries.windows:
            return 0.0, high
        if tries.hold(fraction * capacity):
            low = fraction * capacity
            break
        high = fraction * capacity
    if not low:
        return 0.0, high
    down = step
    while True:
        while high / low > step and not tries.over:
            middle = math.sqrt(low * high)
            if tries.hold(middle):
                low = middle
            else:
                high = middle
        if tries.over or tries.hold(low):
            return low, high
        # Ever longer steps, so that a disturbed machine does not keep the search for minutes.
        down *= step
        high, low = low, low / down
        if low < FRACTIONS[-1] * capacity:
            return 0.0, high
