"""The scenario "server": requests at random times, batches, the highest rate under a bound."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Measurement, from_json
from autoopt.records.candidate import DYNAMIC
from autoopt.workers.measure import ServedArtifact
from autoopt.workers.measure.attend import attend
from autoopt.workers.measure.generator import arrivals
from autoopt.workers.measure.rates import LATE, Window, highest_rate, window
from autoopt.workers.measure.requests import RequestQueue

SETTINGS = {"target_half_width": 0.05, "max_s": 0.4, "min_rounds": 5, "burst_ms": 2.0, "window_s": 0.3, "searches": 1}


@pytest.fixture
def queue() -> Iterator[RequestQueue]:
    made = RequestQueue.create()
    yield made
    made.discard()


def release(queue: RequestQueue, count: int) -> None:
    for _ in range(count):
        queue.release()


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    gaps = np.diff(arrivals(2000.0, 20_000, seed=1)) / 1e9
    assert gaps.mean() == pytest.approx(1 / 2000, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 2000, rel=0.05)  # an exponential distribution's is its mean


def test_a_dynamic_batch_takes_what_is_there_and_a_static_one_waits_until_it_is_full(queue: RequestQueue) -> None:
    release(queue, 3)
    assert queue.take(8, 0) == (0, 3)
    release(queue, 2)
    timer = threading.Timer(0.05, release, (queue, 6))
    timer.start()
    assert queue.take(8, None) == (3, 8)
    timer.join()


def test_a_dynamic_batch_waits_no_longer_than_it_may(queue: RequestQueue) -> None:
    release(queue, 1)
    begun = time.perf_counter()
    assert queue.take(8, 30_000_000) == (0, 1)
    assert 0.025 < time.perf_counter() - begun < 0.5


def test_a_closed_queue_gives_the_rest_and_then_nothing(queue: RequestQueue) -> None:
    release(queue, 2)
    queue.close()
    assert queue.take(8, None) == (0, 2)
    assert queue.take(8, None) is None


def test_a_queue_that_is_given_up_gives_nothing_more(queue: RequestQueue) -> None:
    release(queue, 2)
    queue.give_up()
    assert queue.take(8, None) is None


class Recorder:
    """A session that notes what it was called with."""

    streams = 1

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        self.seen.append(inputs[0].copy())
        return inputs


def test_a_batch_goes_to_the_smallest_artifact_that_has_room_with_the_right_samples(queue: RequestQueue) -> None:
    sessions = {size: Recorder() for size in (1, 4)}
    batches = tuple((np.arange(start, start + 4),) for start in (0, 4))
    deployment = Deployment("any", batch=4, batching=DYNAMIC)
    for count in (1, 3, 4, 4):  # the last one goes beyond the last sample, where the first come again
        release(queue, count)
        taken = queue.take(4, 0)
        assert taken is not None
        queue._header[1] = taken[0]  # put back
        worker = threading.Thread(target=attend, args=(queue, sessions, batches, deployment))
        worker.start()
        while queue.taken < queue.arrived:
            time.sleep(0.001)
        while not queue.done_ns[queue.arrived - 1]:
            time.sleep(0.001)
        queue.give_up()
        worker.join()
        queue._header[2:4] = 0
    assert [list(seen) for seen in sessions[1].seen] == [[0]]
    assert [list(seen) for seen in sessions[4].seen] == [[1, 2, 3, 4], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert queue.batch[:12].tolist() == [1] + 3 * [3] + 8 * [4]


def simulated(service_ms: float, bound_ms: float, requests: int = 3000) -> Callable[[float], Window]:
    """One server that takes so long for each request: the queue M/D/1."""
    seeds = iter(range(10_000))

    def watch(rate: float) -> Window:
        released = arrivals(rate, requests, next(seeds)) / 1e6
        done, latency = 0.0, []
        for arrived in released:
            done = max(done, arrived) + service_ms
            latency.append(done - arrived)
        return window(rate, np.array(latency), np.ones(requests), np.zeros(requests), bound_ms)

    return watch


def test_the_highest_rate_of_a_queue_is_the_one_that_theory_gives() -> None:
    # M/D/1: P(wait > t) ≈ exp(-2 (1 - load) / load × t / service) × const; with 1 ms and a bound of 10 ms the load is 0.80.
    found = highest_rate(simulated(1.0, 10.0), 1000.0, step=1.04, searches=3)
    assert found.rate.low <= 800 <= found.rate.high * 1.05
    assert found.rate.value == pytest.approx(790, rel=0.1)


def test_a_rate_that_held_once_by_luck_is_given_up() -> None:
    held = iter([False, True, True, False])  # the second look at the rate that was found fails

    def watch(rate: float) -> Window:
        late = 0.0 if next(held, rate < 400) else 0.5
        return Window(rate, 1000, 1.0, 2.0, late, growing=False, mean_batch=1.0, lag_ms=0.0)

    found = highest_rate(watch, 1000.0, step=1.2, searches=1)
    assert found.rate.value < 600
    assert [seen.held for seen in found.windows].count(True) >= 3


def test_where_no_rate_holds_the_rate_is_zero() -> None:
    assert highest_rate(simulated(1.0, 0.5), 1000.0, step=1.04, searches=1).rate.value == 0


def test_a_growing_queue_does_not_hold_though_nothing_is_late_yet() -> None:
    latency = np.linspace(1.0, 9.0, 1000)
    seen = window(100.0, latency, np.ones(1000), np.zeros(1000), bound_ms=10.0)
    assert seen.late <= LATE
    assert seen.growing
    assert not seen.held


def test_an_unanswered_request_is_late_and_counts_in_no_batch() -> None:
    latency, batches = np.ones(1000), np.full(1000, 4)
    latency[900:], batches[900:] = np.inf, 0
    seen = window(100.0, latency, batches, np.zeros(1000), bound_ms=10.0)
    assert seen.late == pytest.approx(0.1, rel=0.2)
    assert seen.p99_ms == np.inf
    assert seen.mean_batch == 4


def test_the_mean_batch_is_that_of_the_calls() -> None:
    batches = np.array([1, 1, 1, 1, 4, 4, 4, 4])  # five calls
    assert window(1.0, np.ones(8), batches, np.zeros(8), 10.0).mean_batch == pytest.approx(8 / 5)


def planted(digits: Any, fault: str = "good", **deployment: Any) -> ServedArtifact:
    name = f"planted_{fault}"
    folder = str(digits.planted())
    served = replace(Deployment(name), **deployment)
    smaller = {"1": folder, "2": folder} if served.batching == DYNAMIC else {}
    return ServedArtifact(name, folder, served, smaller)


def request(digits: Any, artifact: ServedArtifact, p99_ms: float, **changes: Any) -> dict[str, Any]:
    return {
        **digits.request(artifact, scenario="server", split="validation", settings=SETTINGS, **changes),
        "p99_ms": p99_ms,
    }


def test_a_server_is_measured_by_the_rate_that_it_keeps_up_with(digits: Any, measured: Callable[..., Any]) -> None:
    found = from_json(Measurement, measured(request(digits, planted(digits), 40.0)))
    assert found.served is not None
    # A call sleeps 0.2 ms and a bit, so that no more than 4,000 a second are possible.
    assert 300 < found.served.rate.value < 4000
    assert found.served.rate.low <= found.served.rate.value <= found.served.rate.high
    assert 0.1 < found.speedup.value <= 1.1
    assert found.speedup.low < found.speedup.value < found.speedup.high
    rates = [point.rate for point in found.served.curve]
    assert rates == sorted(rates)
    held = [point for point in found.served.curve if point.held]
    assert max(point.rate for point in held) >= found.served.rate.value
    assert all(point.p99_ms <= 40.0 for point in held)
    assert 0 < found.served.harness_p50_ms < found.served.harness_p99_ms
    assert any("harness" in remark for remark in found.remarks)


def test_dynamic_batching_serves_more_than_single_requests(digits: Any, measured: Callable[..., Any]) -> None:
    # A call of eight takes as long as one of one. The bound is far beyond what a busy machine does to either.
    def rate(**deployment: Any) -> Any:
        return from_json(Measurement, measured(request(digits, planted(digits, **deployment), 40.0))).served

    single, dynamic = rate(), rate(batch=8, batching=DYNAMIC, max_wait_ms=1.0)
    assert dynamic.rate.value > 1.5 * single.rate.value
    assert max(point.mean_batch for point in dynamic.curve) > 1.5


def test_instances_share_the_requests(queue: RequestQueue) -> None:
    class Slow(Recorder):
        def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            time.sleep(0.02)
            return super().__call__(inputs)

    sessions = (Slow(), Slow())
    deployment = Deployment("any", instances=2)
    workers = [
        threading.Thread(target=attend, args=(queue, {1: session}, ((np.arange(1),),), deployment))
        for session in sessions
    ]
    for worker in workers:
        worker.start()
    release(queue, 10)
    queue.close()
    for worker in workers:
        worker.join()
    assert sum(len(session.seen) for session in sessions) == 10
    assert all(session.seen for session in sessions)


def test_a_bound_that_no_rate_keeps_is_told_with_what_it_took(digits: Any, measured: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match=r"within 0\.05 ms") as refused:
        measured(request(digits, planted(digits), 0.05))
    assert refused.value.kind is FailureKind.OVER_BOUND


def test_a_server_that_dies_under_load_is_told_as_that(digits: Any, measured: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match="SIGSEGV") as refused:
        measured(request(digits, planted(digits, "later"), 40.0))
    assert refused.value.kind is FailureKind.CRASHED


def test_a_search_that_is_late_ends_with_what_it_has() -> None:
    looked = []

    def watch(rate: float) -> Window:
        looked.append(rate)
        return simulated(1.0, 10.0)(rate)

    found = highest_rate(watch, 1000.0, step=1.001, searches=3, late=lambda: len(looked) >= 3)
    assert len(looked) == 3
    assert found.rate.value > 0
