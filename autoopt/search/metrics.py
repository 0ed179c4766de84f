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
from functools import cache, partial

from autoopt.records import Candidate, Outcome, StageRun
from autoopt.records.job import Progress
from autoopt.workers.stages.stage import Stage

Row = tuple[int, Candidate, Outcome]

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
    STAGES: (
        "Stages that were needed, by whether they were computed or the store had them.",
        "kind",
        "hardware",
        "source",
    ),
    SLOT_SECONDS: ("Seconds for which slots (lane, trainer, builder, finisher) were held.", "slot"),
}
_HISTOGRAMS = {STAGE_SECONDS: ("Seconds of work of the stages that were computed.", "kind", "hardware")}

logger = logging.getLogger(__name__)
_complained: set[type[Exception]] = set()


@dataclass(frozen=True)
class JobMetrics:
    """A job's figures. Plain data, so that it travels to the nodes; thread-safe as Ray's are."""

    job: str
    task: str

    def outcomes(self, measured: int, eliminated: int, failed: int) -> None:
        """How many candidates have ended how."""
        for outcome, count in (("measured", measured), ("eliminated", eliminated), ("failed", failed)):
            self._tell(CANDIDATES, count, outcome=outcome)

    def front(self, hypervolume: float | None, best_latency_ms: float | None, best_speedup: float | None) -> None:
        """How good the front is; None where that is not known yet, or nothing meets the goal."""
        figures = {HYPERVOLUME: hypervolume, BEST_LATENCY_MS: best_latency_ms, BEST_SPEEDUP: best_speedup}
        for name, value in figures.items():
            if value is not None:
                self._tell(name, value)

    def stage(self, run: StageRun, hardware: str = "cpu") -> None:
        """A stage was needed: computed, or answered by the store. A technique is a kind of its own: one prunes, another trains."""
        kind = run.name if run.kind == "technique" else run.kind
        self._tell(STAGES, 1, kind=kind, hardware=hardware, source="store" if run.cached else "computed")
        if not run.cached:
            self._tell(STAGE_SECONDS, run.seconds, kind=kind, hardware=hardware)

    def held(self, slot: str, seconds: float) -> None:
        """A slot was held for so long."""
        if seconds > 0:
            self._tell(SLOT_SECONDS, seconds, slot=slot)

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
        self.front(progress.hypervolume, best.latency_ms if best else None, best.speedup if best else None)

    def _tell(self, name: str, value: float, **labels: str) -> None:
        if not _ray_runs():
            return
        try:
            _instrument(name)(value, {"autoopt_job": self.job, "task": self.task, **labels})
        except Exception as error:  # noqa: BLE001 (a job is worth more than its figures)
            _complain(type(error), str(error))


class StageFeed:
    """Tells each stage once, as the outcomes say it: a candidate that was postponed has found its own stages in the store.

    Thread-safe. What is heard before Ray runs is told when it does.
    """

    def __init__(self, metrics: JobMetrics) -> None:
        self.metrics = metrics
        self._numbers: set[int] = set()
        self._due: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def told(self, rows: Sequence[Row]) -> None:
        """All outcomes so far; those that are new count."""
        for number, candidate, outcome in rows:
            if self._is_new(number):
                for run in outcome.stages:
                    self.ran(run, candidate.deployment.hardware)

    def skip(self, rows: Iterable[Row]) -> None:
        """Outcomes of an earlier run of the job, or of earlier jobs, which this one has no part in."""
        for number, _, _ in rows:
            self._is_new(number)

    def ran(self, run: StageRun, hardware: str = "cpu") -> None:
        """A stage that this process needed itself."""
        self._tell(partial(self.metrics.stage, run, hardware))

    def ran_here(self, stage: Stage, run: StageRun) -> None:
        """The same, and it held its slot here, which no node knows of."""
        self.ran(run)
        self._tell(partial(self.metrics.held, stage.role, run.seconds))

    def _tell(self, figure: Callable[[], None]) -> None:
        with self._lock:
            self._due.append(figure)
            due = self._due if _ray_runs() else []
            self._due = [] if due else self._due
        for each in due:
            each()

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
def _instrument(name: str) -> Callable[[float, dict[str, str]], None]:
    """What takes a value and its labels: Ray's, one for the process."""
    from ray.util import metrics

    record: Callable[[float, dict[str, str]], None]
    if name in _GAUGES:
        record = metrics.Gauge(name, *_declared(_GAUGES[name])).set
    elif name in _COUNTERS:
        record = metrics.Counter(name, *_declared(_COUNTERS[name])).inc
    else:
        about, labels = _declared(_HISTOGRAMS[name])
        record = metrics.Histogram(name, about, BUCKETS_S, labels).observe
    return record


def _declared(told: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    about, *labels = told
    return about, (*_JOB, *labels)


def _complain(kind: type[Exception], why: str) -> None:
    """Once for each kind of error: figures are told every few seconds."""
    if kind not in _complained:
        _complained.add(kind)
        logger.warning("the job's metrics are not told to Ray: %s: %s", kind.__name__, why)
