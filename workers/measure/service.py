"""A server under load: instances take batches from a queue, a generator fills it, and rates are tried until the highest is found.

Three kinds of processes, none of which waits for another's Python: the load generator, beside the lane's cores where the node has others;
the instances, on theirs; and this one, which looks at the clock a few times a second.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Estimate, RatePoint, Served
from autoopt.workers.measure.generator import arrivals, generate
from autoopt.workers.measure.handle import Server
from autoopt.workers.measure.rates import Found, Window, highest_rate, window
from autoopt.workers.measure.records import TimingSettings
from autoopt.workers.measure.requests import CAPACITY, RequestQueue

_FEWEST_REQUESTS = 200
"""One of a hundred may be late: below this, a rate would hold or not by a single request."""
_LONGEST, _FEW_REQUESTS = 4, 40
"""A window gets so many times longer for those, at most; at the slowest rates there are fewer."""
_OVERDUE = 10
"""A request that has waited so many times the bound shows that the server does not keep up: the window ends."""
_LOOK_S = 0.01
_LAG_OF_BOUND = 0.25
"""A generator that is later than this share of the bound was disturbed, and the window is repeated."""
_REPEATS, _REPEATS_IN_ALL = 3, 6
_BARE_S, _BARE_RATE = 0.5, 1000.0
_SHARES = (0.25, 0.5, 0.75)
"""Of the rate found: points of the curve that no search passes."""
_fork = multiprocessing.get_context("fork")


@dataclass
class _Disturbed:
    windows: int = 0


def serve(
    server: Server,
    queue: RequestQueue,
    capacity: float,
    bound_ms: float,
    cores: tuple[int, ...],
    settings: TimingSettings,
) -> Served:
    """Find the highest rate under the bound.

    Args:
        server: loaded and warm, with this queue.
        queue: empty.
        capacity: samples a second that the instances do when they are never idle.
        bound_ms: what 99 % of the requests may take, from their arrival to their answer.
        cores: for the load generator.
        settings: how long to watch, how closely to search.

    Raises:
        StageError: what failed in an instance.
    """
    disturbed = _Disturbed()
    seeds = iter(range(1, 1 << 20))

    def watch(rate: float) -> Window:
        seen = watch_at(server, queue, rate, bound_ms, cores, settings.window_s, next(seeds))
        for _ in range(_REPEATS):
            if seen.lag_ms <= _LAG_OF_BOUND * bound_ms or disturbed.windows >= _REPEATS_IN_ALL:
                break
            disturbed.windows += 1
            seen = watch_at(server, queue, rate, bound_ms, cores, settings.window_s, next(seeds))
        return seen

    bare = watch_at(server, queue, min(_BARE_RATE, capacity), bound_ms, cores, _BARE_S, 0, bare=True)
    ends = time.monotonic() + settings.load_s
    found = highest_rate(watch, capacity, settings.rate_step, settings.searches, late=lambda: time.monotonic() > ends)
    windows = list(found.windows)
    if settings.searches > 1:
        windows += [watch(share * found.rate.value) for share in _SHARES if found.rate.value]
    return _served(found, windows, bare, bound_ms, disturbed.windows)


def _served(found: Found, windows: list[Window], bare: Window, bound_ms: float, disturbed: int) -> Served:
    lag = max(seen.lag_ms for seen in windows)
    harness = f"the harness itself takes {bare.p50_ms:.2f} ms of a request (99 %: {bare.p99_ms:.2f} ms)"
    remarks = [f"{harness}, and arrivals were at most {lag:.2f} ms late (99 %)"]
    if disturbed:
        remarks.append(f"the machine was busy: {disturbed} windows were repeated, since requests came late")
    return Served(
        bound_ms=bound_ms,
        rate=found.rate,
        curve=tuple(
            RatePoint(seen.rate, seen.requests, seen.p50_ms, seen.p99_ms, seen.mean_batch, seen.held)
            for seen in sorted(windows, key=lambda seen: seen.rate)
        ),
        harness_p50_ms=bare.p50_ms,
        harness_p99_ms=bare.p99_ms,
        remarks=tuple(remarks),
    )


def require_some(served: Served) -> None:
    """Refuse what cannot keep the bound at all.

    Raises:
        StageError: OVER_BOUND, with what it took at the lowest rate.
    """
    if served.rate.value:
        return
    least = served.curve[0]
    message = (
        f"no rate was found at which 99 % of the requests are answered within {served.bound_ms:g} ms: at {least.rate:.3g} a second "
        f"half took {least.p50_ms:.3g} ms or more, one of a hundred {least.p99_ms:.3g} ms or more"
    )
    raise StageError(FailureKind.OVER_BOUND, message)


def share_of_capacity(rate: Estimate, capacity: float) -> Estimate:
    """How much of the instances' time the rate fills; never more than all of it."""
    return Estimate(*(min(1.0, each / capacity) for each in (rate.value, rate.low, rate.high)))


def watch_at(
    server: Server,
    queue: RequestQueue,
    rate: float,
    bound_ms: float,
    cores: tuple[int, ...],
    seconds: float,
    seed: int,
    *,
    bare: bool = False,
) -> Window:
    """Serve requests at one rate for so long, and look; ``bare`` without a network.

    Raises:
        StageError: what failed in an instance.
    """
    fewest = min(_FEWEST_REQUESTS, max(_FEW_REQUESTS, round(rate * _LONGEST * seconds)))
    count = min(CAPACITY, max(fewest, round(rate * seconds)))
    planned = arrivals(rate, count, seed)
    queue.reset()
    server.attend(bare=bare)
    with _generator(queue, planned, cores) as process:
        _await(queue, process, _OVERDUE * bound_ms * 1e6)
    server.attended()
    arrived = queue.arrived
    released, done = queue.released_ns[:arrived], queue.done_ns[:arrived]
    latency_ms = np.where(done > 0, (done - released) / 1e6, np.inf)
    lag_ms = (released - queue.begun_ns - planned[:arrived]) / 1e6
    return window(rate, latency_ms, np.where(done > 0, queue.batch[:arrived], 0), lag_ms, bound_ms)


def _await(queue: RequestQueue, process: multiprocessing.process.BaseProcess, overdue_ns: float) -> None:
    """Until all requests have arrived, or one is overdue: then nobody waits for the rest."""
    while process.is_alive():
        process.join(_LOOK_S)
        waiting = queue.released_ns[queue.taken] if queue.taken < queue.arrived else None
        if waiting is not None and time.perf_counter_ns() - int(waiting) > overdue_ns:
            queue.give_up()


@contextmanager
def _generator(
    queue: RequestQueue, planned: np.ndarray, cores: tuple[int, ...]
) -> Iterator[multiprocessing.process.BaseProcess]:
    process = _fork.Process(target=generate, args=(queue.descriptors, planned, cores, os.getpid()), daemon=True)
    process.start()
    try:
        yield process
    finally:
        if process.is_alive():
            queue.give_up()
        process.kill()
        process.join()
