"""The load generator: a process of its own that lets requests arrive at random times, whether or not anybody keeps up.

Arrivals are a Poisson process (exponential gaps), as in MLPerf's server scenario: an open loop, so that a slow server meets a growing
queue and not a patient client (Schroeder, Wierman, Harchol-Balter, "Open versus closed", NSDI 2006).
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

import numpy as np

from autoopt.workers.measure.requests import CAPACITY, Descriptors, RequestQueue
from autoopt.workers.process import system

_PR_SET_TIMERSLACK = 29
_SPIN_NS = 30_000
"""The kernel wakes a sleeper some ten microseconds late; the rest of the time is spent looking at the clock."""
_BEGIN_NS = 2_000_000


def arrivals(rate: float, count: int, seed: int) -> np.ndarray:
    """When requests arrive, ns from the beginning, int64 (count,): a Poisson process of ``rate`` a second."""
    gaps = np.random.default_rng(seed).exponential(1e9 / rate, count)
    return np.cumsum(gaps).astype(np.int64)


def generate(descriptors: Descriptors, planned: np.ndarray, cores: tuple[int, ...], parent: int) -> None:
    """Release a request at each of these times, then close the queue. Runs in a process of its own.

    Args:
        descriptors: of the queue.
        planned: int64 (count,), ns from the beginning; see `arrivals`.
        cores: to run on.
        parent: the process that wants it.
    """
    system.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, cores)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # the default, 50 µs, is longer than some networks take
    assert len(planned) <= CAPACITY
    queue, clock = RequestQueue(descriptors), time.perf_counter_ns
    begin = clock() + _BEGIN_NS
    queue.begin(begin)
    for due in (planned + begin).tolist():
        while (left := due - clock()) > 0:
            if left > _SPIN_NS:
                time.sleep((left - _SPIN_NS) / 1e9)
        if queue.closed:
            break
        queue.release()
    queue.close()
    os._exit(0)
