"""What a job shows while it runs, and leaves when it ends: progress, report, front, bundle.

A report of the best so far is written whenever the front has changed, so that a job that dies leaves a useful one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from autoopt.errors import AutooptError
from autoopt.front import Config, Front
from autoopt.jobfolder import JobFolder
from autoopt.records import Candidate, Eliminated, Failed, Measured, Outcome
from autoopt.records.job import FrontEntry, Progress
from autoopt.report import Exclusion, write_report
from autoopt.search.budget import BudgetClock
from autoopt.search.bundling import Exporter
from autoopt.search.metrics import JobMetrics
from autoopt.search.preparation import Prepared
from autoopt.search.reporting import Span, report_data
from autoopt.search.results import front_of, read_confirmed, write_front

# How often the state on disk is renewed, and at most how often a report of the best so far is written: of ten thousand candidates
# one takes seconds of the core that asks and tells, so no more than this share of the time.
TICK_S, REPORT_EVERY_S, REPORTING_SHARE = 2.0, 20.0, 0.05

Row = tuple[int, Candidate, Outcome]
logger = logging.getLogger(__name__)


class Publisher:
    """Thread-safe. `start` it once the task is prepared, `stop` it before the final report."""

    def __init__(
        self, folder: JobFolder, clock: BudgetClock, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self._folder = folder
        self._spec = folder.spec()
        self._clock = clock
        self._on_progress = on_progress
        self._began = time.time()
        self._progress = Progress(job=folder.path.name)
        self._prepared: Prepared | None = None
        self._exporter: Exporter | None = None
        self._rows: Sequence[Row] = ()
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="publisher", daemon=True)
        self._front_shown: tuple[str, ...] = ()
        self._metrics: JobMetrics | None = None
        self._own: list[str] = []
        """The stages that this process waits for."""
        self._others: tuple[str, ...] = ()

    def phase(self, name: str) -> None:
        """Say what the job does now."""
        with self._lock:
            self._progress = replace(self._progress, phase=name)
        self._tell()

    def measure(self, metrics: JobMetrics) -> None:
        """From now on, tell these what is shown."""
        self._metrics = metrics

    def start(self, prepared: Prepared, exporter: Exporter, dashboard: str, rows: Sequence[Row]) -> None:
        """Begin to show progress; ``rows`` are the outcomes of an earlier run of the job."""
        self._prepared, self._exporter = prepared, exporter
        with self._lock:
            self._progress = replace(self._progress, dashboard=dashboard or None, metric=prepared.task.metric_name)
        self._thread.start()
        if rows:
            self.told(rows)

    def told(self, rows: Sequence[Row]) -> None:
        """Hear all outcomes so far."""
        self._rows = rows
        front = self.front()
        entries = tuple(_entry(config) for config in front) if front else ()
        best = _entry(front.recommended.config) if front else None
        reference = _entry(front.reference) if front else None
        kinds = [type(outcome) for _, _, outcome in rows]
        with self._lock:
            self._progress = replace(
                self._progress,
                measured=kinds.count(Measured),
                eliminated=kinds.count(Eliminated),
                failed=kinds.count(Failed),
                front=entries,
                best=best,
                reference=reference,
                goal_met=front is not None and front.recommended.met,
                hypervolume=front.hypervolume() if front else None,
            )
        self._changed.set()
        self._tell()

    def running(self, names: Iterable[str]) -> None:
        """Hear which stages the candidates wait for; shown at the next tick."""
        with self._lock:
            self._others = tuple(names)

    @contextmanager
    def doing(self, name: str) -> Iterator[None]:
        """This process waits for a stage as long as the block lasts."""
        with self._lock:
            self._own.append(name)
        try:
            yield
        finally:
            with self._lock:
                self._own.remove(name)

    def front(self, *, confirmed: bool = True) -> Front | None:
        """The front so far; None until the reference has been measured. ``confirmed``: judged by the test split where that was measured."""
        assert self._prepared is not None, "a front needs a prepared task"
        return front_of(
            self._rows,
            self._prepared.setup.reference,
            read_confirmed(self._folder) if confirmed else {},
            self._prepared.task.metric_name,
            self._exporter,
        )

    def stop(self) -> None:
        """End the background thread; nothing is written behind the caller's back any more."""
        self._ending.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()

    def finish(self, *, complete: bool) -> Front | None:
        """Write the final report and the bundle; the front."""
        self.stop()
        front = self._write(complete=complete)
        self._tell()
        return front

    def _loop(self) -> None:
        next_at = 0.0
        while not self._ending.wait(TICK_S):
            with self._lock:
                shown = tuple(entry.candidate_id for entry in self._progress.front)
            began = time.monotonic()
            try:
                self._tell()
                if shown and shown != self._front_shown and began > next_at:
                    self._front_shown = shown
                    self._write(complete=False)
                    ended = time.monotonic()
                    next_at = ended + max(REPORT_EVERY_S, (ended - began) / REPORTING_SHARE)
            except (AutooptError, OSError) as error:
                # The search is worth more than what is shown in its middle; the last report is not forgiven.
                logger.warning("the best so far could not be written: %s", error)
                next_at = time.monotonic() + REPORT_EVERY_S

    def _tell(self) -> None:
        with self._lock:
            self._progress = replace(
                self._progress,
                seconds_used=self._clock.used_s,
                seconds_left=self._clock.left_s,
                running=tuple(dict.fromkeys((*self._own, *self._others))),
            )
            progress = self._progress
            self._folder.update(progress=progress)
        if self._metrics is not None:
            self._metrics.progress(progress)
        if self._on_progress is not None:
            self._on_progress(progress)

    def _write(self, *, complete: bool) -> Front | None:
        prepared = self._prepared
        assert prepared is not None, "a report needs a prepared task"
        front = self.front()
        data = report_data(
            self._spec,
            prepared.task,
            prepared.setup.scenario,
            front,
            self._rows,
            [Exclusion(e.what, e.why, e.remedy or "") for e in prepared.space.excluded],
            Span(self._began, time.time(), complete),
        )
        write_report(data, self._folder.path)
        setup, confirmed = prepared.setup, read_confirmed(self._folder)
        write_front(
            self._folder.front_path, self._rows, setup.reference, confirmed, prepared.task.metric_name, setup.task_key
        )
        if front is not None and self._exporter is not None:
            self._exporter(front.recommended.config, self._folder.bundle_path)
        return front


def _entry(config: Config) -> FrontEntry:
    return FrontEntry(
        candidate_id=config.id,
        summary=config.describe(),
        speedup=config.speedup.value,
        latency_ms=config.latency_ms.value,
        score=config.score.value,
        score_drop=config.score_drop.value,
    )
