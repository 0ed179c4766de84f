"""Stages on Ray: each is a named task that waits for a slot, watched by the candidate that needs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from autoopt.errors import AutooptError, FailureKind, StageError
from autoopt.records import Candidate, Eliminated
from autoopt.search.cluster import needs
from autoopt.workers import process
from autoopt.workers.entry import Postponed, Standing
from autoopt.workers.stages.execute import Result, execute, find, note
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Stage
from autoopt.workers.store import Store, open_store

if TYPE_CHECKING:
    from autoopt.search.desk import Answer

POLL_S = 1.0
ASK_AGAIN_S = 0.7
START_POLL_S = 0.2
# A worker or node that dies is noticed late while retries burn at once: wait longer each time.
RETRY_AFTER_S = (1.0, 5.0, 20.0)


@dataclass(frozen=True)
class Place:
    """Where a job's stages work: what a task on another process needs to find everything again."""

    setup: Setup
    store: str
    logs: str
    meeting: str
    """Where a node's processes find the warmed parents that they share."""


class StoppedError(StageError):
    """The job stops: the candidate is not to blame and will be tried again."""

    def __init__(self, why: str = "the job stopped before this candidate ended") -> None:
        super().__init__(FailureKind.INTERRUPTED, why)

    def __reduce__(self) -> tuple[type[StoppedError], tuple[str]]:  # type: ignore[override]  # one argument, not three
        return (type(self), (self.message,))


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]  # Ray's
def _run_stage(stage: Stage, place: Place) -> Result | AutooptError:
    """On a node. What fails in our own words is returned, not raised: Ray would wrap it in its own traceback."""
    process.share(Path(place.meeting))
    try:
        return execute(stage, place.setup, _store(place.store), Path(place.logs))
    except AutooptError as error:
        return error


@cache
def _store(root: str) -> Store:
    """One for the process: it verifies each artifact once, which takes a fifth of a second for a large task."""
    return open_store(root)


def run_stage(stage: Stage, place: Place, store: Store, must_stop: Callable[[], bool]) -> Result:
    """The stage's result: from the store, or by a Ray task in a free slot. One computation of a key at a time.

    Raises:
        StageError: the stage failed, or (INTERRUPTED) the job stops.
        StoreError: the store cannot be used.
    """
    found = find(stage, store)
    if found is not None:
        return found

    def check() -> None:
        # Also a sign of life: a lease to train lapses when its holder is silent.
        if must_stop():
            raise StoppedError

    with store.lock(stage.key, check):
        for pause_s in (*RETRY_AFTER_S, None):
            try:
                result = _watch(_submit(stage, place), must_stop)
            except (
                ray.exceptions.RayActorError,
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.NodeDiedError,
            ) as error:
                if pause_s is None:
                    raise StageError(FailureKind.INTERRUPTED, f"its worker died again and again: {error}") from error
                time.sleep(pause_s)
            else:
                note(result.run, Path(place.logs))
                return result
    raise AssertionError


def _submit(stage: Stage, place: Place) -> Any:
    # A Tune trial's placement group captures its child tasks unless they ask for the default strategy.
    return _run_stage.options(
        name=stage.label,
        resources=needs(stage.role, place.setup.cores),
        scheduling_strategy="DEFAULT",
    ).remote(stage, place)


def _watch(reference: Any, must_stop: Callable[[], bool]) -> Result:
    while True:
        ready, _ = ray.wait([reference], timeout=POLL_S)
        if ready:
            answer = ray.get(reference)
            if isinstance(answer, AutooptError):
                raise answer
            result: Result = answer
            return result
        if must_stop():
            ray.cancel(reference, force=True)
            raise StoppedError


class DeskGate:
    """The gate of a candidate on Ray: asks the training desk, and waits for its turn."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def wait_for_start(self, candidate: Candidate) -> None:
        """Until the reference has been measured: a coordinator takes seconds to start, so the first ones start before.

        Raises:
            StoppedError: the job stops.
        """
        while not ray.get(self._desk.begun.remote()):
            if ray.get(self._desk.heartbeat.remote(candidate.id)):
                raise StoppedError
            time.sleep(START_POLL_S)

    def compares(self) -> bool:
        """Whether something faster than the reference has been measured."""
        return bool(ray.get(self._desk.compares.remote()))

    def admit(self, standing: Standing) -> Eliminated | Postponed | None:
        """None to go on; what becomes of the candidate where it ends here."""
        while True:
            answer: Answer = ray.get(self._desk.ask.remote(standing))
            if answer.stop:
                raise StoppedError
            if answer.postponed is not None:
                return Postponed(answer.postponed)
            if answer.go or answer.eliminated is not None:
                return answer.eliminated
            time.sleep(ASK_AGAIN_S)

    def release(self, standing: Standing) -> None:
        """Give the trainer back while the candidate is served and measured."""
        ray.get(self._desk.done.remote(standing))
