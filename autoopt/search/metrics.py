"""A job's figures for Prometheus, through Ray's metrics: they arrive at the endpoint of the node whose process tells them.

Everything that has a job's label comes from the job's own process, except the seconds for which slots are held, which the
nodes tell: Ray's agents keep a series for every process that ever counted something, as long as they live, so a
histogram told by every candidate's process would be dozens of series a process. Gauges vanish from the endpoint some twenty
seconds after the last time they were told, so they are told with every progress; counters and histograms stay.

The label is ``autoopt_job``: Prometheus itself puts a label ``job`` on whatever it scrapes, and renames ours.

Figures must never cost a job anything: without Ray nothing happens, and what goes wrong is logged once.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec

from autoopt.records import Candidate, Outcome, StageRun
from autoopt.records.job import Progress

Row = tuple[int, Candidate, Outcome]
P = ParamSpec("P")

CANDIDATES = "autoopt_candidates"
HYPERVOLUME = "autoopt_hypervolume"
BEST_LATENCY_MS = "autoopt_best_latency_ms"
BEST_SPEEDUP = "autoopt_best_speedup"
STAGES = "autoopt_stages"
STAGE_SECONDS = "autoopt_stage_seconds"
SLOT_SECONDS = "autoopt_slot_seconds"
# From a probe to the longest training that is allowed by default.
BUCKETS_S = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 900.0]

_JOB = ("autoopt_job", "task")
_GAUGES = {
    CANDIDATES: ("Candidates that have ended, by outcome.", "outcome"),
    HYPERVOLUME: ("Mean doublings of speed over all drops that one may tolerate.",),
    BEST_LATENCY_MS: ("Latency a sample of the recommended config, where one meets the goal.",),
    BEST_SPEEDUP: ("Speed-up of the recommended config, where one meets the goal.",),
}
_COUNTERS = {
    STAGES: ("Stages that were needed, by whether they were computed or the store had them.", "kind", "hardware", "source"),
    SLOT_SECONDS: ("Seconds for which slots (lane, trainer, builder, finisher) were held.", "slot"),
}
_HISTOGRAMS = {STAGE_SECONDS: ("Seconds of work of the stages that were computed.", "kind", "hardware")}

logger = logging.getLogger(__name__)
_complained: set[type[Exception]] = set()


def _harmless(function: Callable[Concatenate[JobMetrics, P], None]) -> Callable[Concatenate[JobMetrics, P], None]:
    """A figure that cannot be told is no reason to stop."""

    @wraps(function)
    def told(self: JobMetrics, *args: P.args, **kwargs: P.kwargs) -> None:
        if not _ray_runs():
            return
        try:
            function(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 (a job is worth more than its figures)
            _complain(type(error), str(error))

    return told


@dataclass(frozen=True)
class JobMetrics:
    """A job's figures. Plain data, so that it travels to the nodes; thread-safe as Ray's are."""

    job: str
    task: str

    @_harmless
    def outcomes(self, measured: int, eliminated: int, failed: int) -> None:
        """How many candidates have ended how."""
        for outcome, count in (("measured", measured), ("eliminated", eliminated), ("failed", failed)):
            _instrument(CANDIDATES).set(count, self._labels(outcome=outcome))

    @_harmless
    def front(self, hypervolume: float | None, best_latency_ms: float | None, best_speedup: float | None) -> None:
        """How good the front is; None where that is not known yet, or nothing meets the goal."""
        figures = {HYPERVOLUME: hypervolume, BEST_LATENCY_MS: best_latency_ms, BEST_SPEEDUP: best_speedup}
        for name, value in figures.items():
            _instrument(name).set(value, self._labels())

    @_harmless
    def stage(self, run: StageRun, hardware: str = "cpu") -> None:
        """A stage was needed: computed, or answered by the store."""
        labels = self._labels(kind=run.kind, hardware=hardware)
        _instrument(STAGES).inc(1, {**labels, "source": "store" if run.cached else "computed"})
        if not run.cached:
            _instrument(STAGE_SECONDS).observe(run.seconds, labels)

    @_harmless
    def held(self, slot: str, seconds: float) -> None:
        """A slot was held for so long."""
        if seconds > 0:
            _instrument(SLOT_SECONDS).inc(seconds, self._labels(slot=slot))

    @contextmanager
    def holding(self, slot: str) -> Iterator[None]:
        """Hold a slot as long as the block lasts; what fails held it, too."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.held(slot, time.monotonic() - began)

    def progress(self, progress: Progress) -> None:
        """All gauges. To be told every few seconds: see the module."""
        self.outcomes(progress.measured, progress.eliminated, progress.failed)
        best = progress.best if progress.goal_met else None
        self.front(progress.hypervolume, best and best.latency_ms, best and best.speedup)

    def _labels(self, **labels: str) -> dict[str, str]:
        return {"autoopt_job": self.job, "task": self.task, **labels}


class StageFeed:
    """Tells each stage once, as the outcomes say it: a candidate that was postponed has found its own stages in the store.

    Thread-safe. What is heard before Ray runs is told when it does.
    """

    def __init__(self, metrics: JobMetrics, told: Iterable[Row] = ()) -> None:
        """``told``: outcomes of an earlier run of the job, and of earlier jobs, which this one has no part in."""
        self._metrics = metrics
        self._numbers = {number for number, _, _ in told}
        self._early: list[tuple[StageRun, str]] = []
        self._lock = threading.Lock()

    def told(self, rows: Sequence[Row]) -> None:
        """All outcomes so far; those that are new count."""
        for number, candidate, outcome in rows:
            if self._is_new(number):
                for run in outcome.stages:
                    self.ran(run, candidate.deployment.hardware)

    def ran(self, run: StageRun, hardware: str = "cpu") -> None:
        """A stage that this process needed itself."""
        with self._lock:
            self._early.append((run, hardware))
            due = self._early if _ray_runs() else []
            self._early = [] if due else self._early
        for each in due:
            self._metrics.stage(*each)

    def _is_new(self, number: int) -> bool:
        with self._lock:
            new = number not in self._numbers
            self._numbers.add(number)
            return new


def _ray_runs() -> bool:
    """Without importing it: a process that does before its environment is set makes a cluster without a token."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@cache
def _instrument(name: str) -> Any:
    """Ray's, one for the process."""
    from ray.util import metrics

    for kind, told in ((metrics.Gauge, _GAUGES), (metrics.Counter, _COUNTERS)):
        if name in told:
            about, *labels = told[name]
            return kind(name, about, tag_keys=(*_JOB, *labels))
    about, *labels = _HISTOGRAMS[name]
    return metrics.Histogram(name, about, boundaries=BUCKETS_S, tag_keys=(*_JOB, *labels))


def _complain(kind: type[Exception], why: str) -> None:
    """Once for each kind of error: figures are told every few seconds."""
    if kind not in _complained:
        _complained.add(kind)
        logger.warning("the job's metrics are not told to Ray: %s: %s", kind.__name__, why)
