"""Stages on Ray: each is a named task that waits for a slot, watched by the candidate that needs it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray

from autoopt.errors import AutooptError, FailureKind, StageError, StoreError
from autoopt.records.hardware import named
from autoopt.search import code
from autoopt.search.cluster import KIND, alive_kinds
from autoopt.search.commons import Shared
from autoopt.search.metrics import JobMetrics
from autoopt.workers import process
from autoopt.workers.node import Node
from autoopt.workers.stages.execute import Result, execute, find, log_of, note
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Stage
from autoopt.workers.store import LocalStore, Store, open_store

POLL_S = 1.0
# A worker or node that dies is noticed late while retries burn at once: wait longer each time.
RETRY_AFTER_S = (1.0, 5.0, 20.0)
HARDWARE_LOOK_S, HARDWARE_GONE_S = 10.0, 120.0
_NODE_FAULTS = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    # What it returned went with its node, Ray ended it before its node's memory was full, or the node could not unpack the user's code.
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.RuntimeEnvSetupError,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a job's stages work: what a task on another process needs to find everything again."""

    setup: Setup
    store: str = field(repr=False)
    """Its address, which may hold a password."""
    logs: str
    """The folder of the job's logs: on every node where the store is a folder, else on the driver's."""
    metrics: JobMetrics
    """Whose figures the stages' are."""
    job: str = ""
    """The job's name, among others of a shared cluster."""
    shared: bool = False
    """Whether there may be other jobs on the cluster."""
    code: tuple[str, ...] = ()
    """Where the user's code is expected, where it travels with the job (`autoopt.search.code`)."""


class HardwareGoneError(AutooptError):
    """No node of a candidate's hardware is left. The job stops and can be resumed."""


class StoppedError(StageError):
    """The job stops: the candidate is not to blame and will be tried again."""

    def __init__(self, why: str = "the job stopped before this candidate ended") -> None:
        super().__init__(FailureKind.INTERRUPTED, why)

    def __reduce__(self) -> tuple[type[StoppedError], tuple[str]]:  # type: ignore[override]  # one argument, not three
        return (type(self), (self.message,))


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]  # Ray's
def _run_stage(stage: Stage, place: Place) -> Result | AutooptError:
    """On a node. What fails in our own words is returned, not raised: Ray would wrap it in its own traceback."""
    node = _node()
    meeting = meet(node, shared=place.shared)
    store = _store(place.store)
    logs = Path(place.logs) if isinstance(store, LocalStore) else meeting / "logs" / place.job
    try:
        code.settle(place.code)
        with place.metrics.holding(stage.role):
            return execute(stage, place.setup, store, logs, node)
    except AutooptError as error:
        if not isinstance(store, LocalStore):
            _keep_log(log_of(stage, logs), place.job, store)
        # For who looks at the task in Ray's dashboard.
        print(f"{stage.label}: {error}\n{getattr(error, 'log', '')}")
        return error


def _keep_log(log: Path, job: str, store: Store) -> None:
    """The log of a stage that failed, beside the job's other files: it was written on this node alone."""
    with suppress(OSError, StoreError):  # the failure itself is what the job must hear of
        store.files.write(f"jobs/{job}/logs/{log.name}", log.read_bytes())


def meet(node: Node, *, shared: bool) -> Path:
    """Have this process use the warmed parents of its node; those of a shared one are kept for the next job.

    Returns the folder in which they are met.
    """
    meeting = node.meeting_of(ray.get_runtime_context().get_node_id())
    process.share(meeting, _raylet() if shared else None)
    return meeting


@cache
def _raylet() -> int | None:
    """The process with which a node ends; Ray's workers, and the drivers of its jobs, descend from it."""
    return process.ancestor("raylet")


@cache
def _node() -> Node:
    return Node.here()


@cache
def _store(address: str) -> Store:
    """One for the process: what it has verified, the task's data above all, it does not verify again for every stage."""
    return open_store(address)


def run_stage(
    stage: Stage, place: Place, store: Store, must_stop: Callable[[], bool], name: str | None = None
) -> Result:
    """The stage's result: from the store, or by a Ray task in a free slot. One computation of a key at a time.

    ``name``: the task's in Ray's dashboard, see `autoopt.search.naming`; the stage's label by default.

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

    with store.lock(stage.key, check), _held(stage, place, check) as renew:

        def alive() -> None:
            check()
            renew()

        for retries, pause_s in enumerate((*RETRY_AFTER_S, None)):
            try:
                answer = watch(_submit(stage, place, name or stage.label), stage.kind_of_node, alive)
            except _NODE_FAULTS as error:
                if pause_s is None:
                    raise StageError(FailureKind.INTERRUPTED, f"its worker died again and again: {error}") from error
                logger.warning("%s: its worker died; it is tried again in %g s", stage.label, pause_s)
                _pause(pause_s, alive)
            else:
                result: Result = replace(answer, run=replace(answer.run, retries=retries))
                note(result.run, Path(place.logs))
                return result
    raise AssertionError


@contextmanager
def _held(stage: Stage, place: Place, meanwhile: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """The right to compute a stage in the whole cluster, where there are others; yields what renews it."""
    if not place.shared:
        yield lambda: None
        return
    with _commons().held(f"{place.store} {stage.key}", uuid4().hex, meanwhile) as renew:
        yield renew


@cache
def _commons() -> Shared:
    return Shared()


def _pause(seconds: float, alive: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        alive()
        time.sleep(min(left, POLL_S))


def _submit(stage: Stage, place: Place, name: str) -> Any:
    # A Tune trial's placement group captures its child tasks unless they ask for the default strategy.
    kind = stage.kind_of_node
    return _run_stage.options(
        name=name,
        resources={stage.role: 1} if kind is None else place.setup.hardware[kind].needs(stage.role),
        label_selector=None if kind is None else {KIND: kind},
        scheduling_strategy="DEFAULT",
    ).remote(stage, place)


def watch(reference: Any, kind: str | None, alive: Callable[[], None]) -> Any:
    """Wait for a task's answer; one that is an error of ours is raised.

    Args:
        reference: the task's.
        kind: of the node that it waits for.
        alive: called now and then; what it raises ends the task.

    Raises:
        HardwareGoneError: there is no such node any more.
    """
    look_at = time.monotonic() + HARDWARE_LOOK_S
    missing_since: float | None = None
    while True:
        ready, _ = ray.wait([reference], timeout=POLL_S)
        if ready:
            answer = ray.get(reference)
            if isinstance(answer, AutooptError):
                raise answer
            return answer
        try:
            alive()
            if kind is not None and time.monotonic() > look_at:
                look_at = time.monotonic() + HARDWARE_LOOK_S
                missing_since = _missing_since(kind, missing_since)
        except BaseException:
            ray.cancel(reference, force=True)
            raise


def _missing_since(kind: str, before: float | None) -> float | None:
    """Since when no node of that kind is there; a task that asks for one would wait for ever, without a word.

    Raises:
        HardwareGoneError: it has been so for too long.
    """
    if kind in alive_kinds():
        return None
    now = time.monotonic()
    if before is not None and now - before > HARDWARE_GONE_S:
        message = (
            f'the last node of the hardware "{named(kind, "cpu")}" has been gone for {HARDWARE_GONE_S:.0f} s. Resume the job '
            "once there is one again: nothing that is finished is lost"
        )
        raise HardwareGoneError(message)
    return before or now
