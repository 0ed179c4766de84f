"""A noisy machine, simulated: what the bursts of two artifacts look like on it."""

from __future__ import annotations

import numpy as np

from autoopt.workers.measure.paired import Plan, Side
from autoopt.workers.measure.server import Burst

TIMED = 8
CALL_NS = 1e6


class Machine:
    """Two artifacts of a true ratio, under noise.

    Common drift and autocorrelated common load (they hit both sides), autocorrelated noise of each side's own, lognormal noise of single
    calls, spikes, and bursts that the scheduler interrupts.
    """

    def __init__(self, ratio: float, seed: int, own_noise: float = 0.02) -> None:
        self._rng = np.random.default_rng(seed)
        self._ratio = ratio
        self._own_noise = own_noise
        self._common = 0.0
        self._own = [0.0, 0.0]
        self._drift = self._rng.normal(0, 2e-3)
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def burst(self, index: int) -> Burst:
        rng = self._rng
        self._common = 0.95 * self._common + rng.normal(0, 0.03) + self._drift
        self._own[index] = 0.6 * self._own[index] + rng.normal(0, self._own_noise)
        level = CALL_NS * (self._ratio if index == 1 else 1.0) * np.exp(self._common + self._own[index])
        times = level * rng.lognormal(0, 0.03, TIMED)
        times[rng.random(TIMED) < 0.02] *= rng.uniform(2, 20)
        cpu = times.sum()
        switches = 0
        if rng.random() < 0.05:
            times[rng.integers(TIMED)] += 4e6  # a time slice of somebody else
            switches = 1
        self.seconds += 1.2 * times.sum() / 1e9
        return Burst(times.astype(np.int64), int(times.sum()), int(cpu), switches)


def sides() -> tuple[Side, Side]:
    return Side(1, Plan(1, TIMED)), Side(1, Plan(1, TIMED))
