"""What must stand before a job can search: its task prepared, its cluster joined, its hardware known.

All of it takes seconds, and a user waits: the task is prepared while Ray starts, nodes are looked at while the task is prepared, and
a stop is heard meanwhile.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from autoopt.bundle import fresh
from autoopt.bundle.export import Recorder
from autoopt.jobfolder import JobFolder, JobSpec
from autoopt.records import Candidate
from autoopt.search import code
from autoopt.search.budget import BudgetClock
from autoopt.search.cluster import Cluster, joined_cluster, local_cluster
from autoopt.search.groundwork import Groundwork, Runner
from autoopt.search.metrics import JobMetrics, StageFeed
from autoopt.search.naming import stage_name, task_name
from autoopt.search.preparation import Prepared, engines_here, prepare_job, to_install
from autoopt.search.publish import Publisher
from autoopt.search.reserve import confirms_by_all
from autoopt.space import parse_space
from autoopt.space.schema import SpaceFile
from autoopt.workers import process
from autoopt.workers.engines.base import Offer
from autoopt.workers.node import Hardware, Node, meeting_named, share_cores
from autoopt.workers.stages.execute import Result
from autoopt.workers.stages.stage import Stage
from autoopt.workers.store import Store, address_of, open_store

HEAR_S = 0.5
"""How often a job that begins looks whether it is stopped."""

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """What stands when the search may begin."""

    prepared: Prepared
    groundwork: Groundwork
    store: Store
    place: Any
    cluster: Cluster
    run: Runner
    """Runs a stage that no candidate's trial asks for."""
    feed: StageFeed
    record: Recorder
    """Runs a bundle's artifact where it was measured."""


def begin(
    folder: JobFolder, publisher: Publisher, clock: BudgetClock, stop: threading.Event
) -> AbstractContextManager[Start | None]:
    """All that a job needs, as long as the context lasts: on a cluster of its own, or on the one whose job this process is.

    Yields None where the job was stopped before.

    Raises:
        UserError: task, space or hardware cannot be used.
        StoreError: the store failed.
    """
    begun = _on_this_machine if folder.spec().address is None else _on_a_cluster
    return begun(folder, publisher, clock, stop)


@contextmanager
def _on_this_machine(
    folder: JobFolder, publisher: Publisher, clock: BudgetClock, stop: threading.Event
) -> Iterator[Start]:
    """A cluster of the job's own. The task is prepared, and the reference measured, while Ray starts."""
    spec = folder.spec()
    root = address_of(spec.store)
    space_file = parse_space(spec.space_text, spec.space)
    store = open_store(root)
    meeting = meeting_named(str(folder.path.absolute()))
    node = Node(share_cores(spec.options.get("lane_cores")), meeting=str(meeting))

    def look() -> tuple[Mapping[str, Hardware], Mapping[str, Offer]]:
        return {node.kind: node.hardware}, engines_here(
            folder.logs / "look_at_engines.log", to_install(spec, space_file)
        )

    def prepare() -> tuple[Prepared, Groundwork, StageFeed]:
        prepared = prepare_job(spec, folder, space_file, root, look)
        by_all = confirms_by_all(clock, prepared.task, prepared.setup.scenario)
        feed = StageFeed(JobMetrics(folder.path.name, prepared.task.name))
        groundwork = Groundwork(prepared, node, store, folder.logs, stop, confirms_by_all=by_all, ran=feed.ran_here)
        groundwork.start()
        return prepared, groundwork, feed

    with _meeting(meeting, own=True), ThreadPoolExecutor(1) as pool:
        pending = pool.submit(prepare)
        with local_cluster(node) as cluster:
            # Seconds of imports meanwhile.
            from autoopt.search import trial  # noqa: F401
            from autoopt.search.remote import Place

            prepared, groundwork, feed = pending.result()
            place = Place(prepared.setup, root, str(folder.logs), feed.metrics, job=folder.path.name)
            yield _begun(prepared, groundwork, store, place, cluster, publisher, feed)


@contextmanager
def _on_a_cluster(
    folder: JobFolder, publisher: Publisher, clock: BudgetClock, stop: threading.Event
) -> Iterator[Start | None]:
    """The cluster whose job this process is. The task is prepared here, while each kind of node says what it offers."""
    spec = folder.spec()
    root = address_of(spec.store)
    space_file = parse_space(spec.space_text, spec.space)
    store = open_store(root)
    node = Node.here()
    keeper = process.ancestor("raylet") if node.meeting else None
    seen: Future[Mapping[str, Any]] = Future()

    def look() -> tuple[Mapping[str, Hardware], Mapping[str, Offer]]:
        from autoopt.search.nodes import merged

        kinds = seen.result()
        return {kind: each.hardware for kind, each in kinds.items()}, merged(kinds)

    def see() -> None:
        try:
            kinds = _seen(spec, space_file, publisher, clock, lambda: stop.is_set() or preparing.done())
        except BaseException as error:
            seen.set_exception(error)
            raise
        if kinds is None:
            seen.cancel()
        else:
            seen.set_result(kinds)

    with ThreadPoolExecutor(3) as pool, _meeting(node.meeting_of(str(folder.path)), keeper=keeper):
        # The task needs no cluster, and the imports of Ray and Tune take seconds.
        preparing = pool.submit(prepare_job, spec, folder, space_file, root, look)
        with joined_cluster(folder.path.name) as cluster:
            pool.submit(import_module, "autoopt.search.trial")
            looking = pool.submit(see)
            prepared = _unless(stop, preparing)
            if prepared is None:
                yield None  # what still runs ends with the cluster and the calls
                return
            looking.result()
            feed = StageFeed(JobMetrics(folder.path.name, prepared.task.name))
            by_all = confirms_by_all(clock, prepared.task, prepared.setup.scenario)
            groundwork = Groundwork(prepared, None, store, folder.logs, stop, confirms_by_all=by_all)
            place = _place(folder, prepared, root, feed.metrics)
            yield _begun(prepared, groundwork, store, place, cluster, publisher, feed)


def _unless(stop: threading.Event, pending: Future[T]) -> T | None:
    """What comes of it; None where the job is stopped before."""
    while not wait([pending], timeout=HEAR_S).done:
        if stop.is_set():
            return None
    if stop.is_set() and pending.exception() is not None:
        return None
    return pending.result()


def _seen(
    spec: JobSpec, space_file: SpaceFile, publisher: Publisher, clock: BudgetClock, stopped: Callable[[], bool]
) -> Mapping[str, Any] | None:
    """The cluster's kinds of hardware, as soon as those that the space names are there; None where the waiting was ended."""
    from autoopt.search.nodes import look_at_nodes, require_hardware

    with clock.paused():
        there = require_hardware(
            space_file,
            wait=bool(spec.options.get("wait")),
            waiting=lambda missing: publisher.phase(f"waiting for {missing}"),
            stopped=stopped,
        )
    if not there:
        return None
    publisher.phase("preparing")
    return look_at_nodes(to_install(spec, space_file))


def _place(folder: JobFolder, prepared: Prepared, store: str, metrics: JobMetrics) -> Any:
    """Where a job on a cluster works; its code travels with it."""
    from autoopt.search.remote import Place

    own = folder.spec().options.get("code")
    places = set() if own is None else {own, *code.named_by(prepared.task.manifest.imports, os.getuid())}
    return Place(
        prepared.setup,
        store,
        str(folder.logs),
        metrics,
        job=folder.path.name,
        shared=True,
        code=tuple(sorted(places)),
    )


def _begun(
    prepared: Prepared,
    groundwork: Groundwork,
    store: Store,
    place: Any,
    cluster: Cluster,
    publisher: Publisher,
    feed: StageFeed,
) -> Start:
    """All that stands, with the way to run a stage for nobody's trial: it is named, told, and counted."""
    from autoopt.search.recording import record_on_node
    from autoopt.search.remote import run_stage

    def run(stage: Stage, candidate: Candidate | None, must_stop: Callable[[], bool]) -> Result:
        name = task_name(stage, candidate, place.job)
        with publisher.doing(stage_name(stage, candidate)):
            result = run_stage(stage, place, store, must_stop, name)
        feed.ran(result.run)
        return result

    publisher.measure(feed.metrics)
    record = partial(record_on_node, place) if place.shared else fresh.record
    return Start(prepared, groundwork, store, place, cluster, run, feed, record)


@contextmanager
def _meeting(folder: Path, *, own: bool = False, keeper: int | None = None) -> Iterator[None]:
    """As long as the context lasts, this process shares the warmed parents that meet in the folder; ``own``: nobody else's."""
    process.share(folder, keeper)
    try:
        yield
    finally:
        process.shutdown()
        process.share(None)
        if own:
            shutil.rmtree(folder, ignore_errors=True)
