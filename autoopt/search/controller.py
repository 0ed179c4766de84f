"""One job from its folder to its report: prepare, search, confirm, report.

Ray Tune drives, the study remembers. A job that ends early, for whatever reason, has its best so far on disk; run again
it goes on: the study says what is decided, the store has every finished stage.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from autoopt.bundle import fresh
from autoopt.bundle.export import Recorder
from autoopt.front import Front
from autoopt.jobfolder import JobFolder, JobSpec
from autoopt.records import Candidate
from autoopt.records.job import Progress
from autoopt.search import code
from autoopt.search.budget import BudgetClock, parse_budget
from autoopt.search.bundling import Exporter
from autoopt.search.cluster import Cluster, joined_cluster, local_cluster
from autoopt.search.conductor import Conductor, Row
from autoopt.search.desk import TrainingDesk
from autoopt.search.elimination import Judge
from autoopt.search.groundwork import Groundwork, Runner
from autoopt.search.history import History
from autoopt.search.metrics import JobMetrics, StageFeed
from autoopt.search.naming import stage_name, task_name
from autoopt.search.preparation import Prepared, engines_here, prepare_job
from autoopt.search.proposals import practitioners_list
from autoopt.search.publish import Publisher
from autoopt.search.recall import recall
from autoopt.search.reserve import confirms_by_all, reserve_s
from autoopt.search.results import name_of
from autoopt.search.storage import open_storage, study_name
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.search.study_url import StudyUrl, known_study
from autoopt.space import parse_space
from autoopt.space.schema import SpaceFile
from autoopt.workers import process
from autoopt.workers.engines.base import Offer
from autoopt.workers.node import Hardware, Node, meeting_named, share_cores
from autoopt.workers.stages.execute import Result
from autoopt.workers.stages.stage import Stage
from autoopt.workers.store import Store, address_of, open_store

WATCH_S, COUNT_S = 0.5, 2.0

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What a caller passes through."""

    callbacks: Sequence[Any] = ()
    """Tune's: TensorBoard, MLflow, W&B, …"""
    stopper: Any = None
    """One of Tune's stoppers."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by the caller (Ctrl-C, cancel): the job ends in good order, best so far on disk."""
    on_progress: Callable[[Progress], None] | None = None
    study: StudyUrl | None = None
    """The study's database, with the password that the job's files do not hold; None: what is known here."""


def run_job(folder: JobFolder, options: Options | None = None) -> Front | None:
    """Run a job, new or interrupted, to its end.

    The caller holds the folder's claim and writes its final state.

    Returns:
        The front; None where the job was stopped before the reference was measured.

    Raises:
        UserError: task, space or budget cannot be used.
        StoreError: the store failed; the job can be resumed.
        StudyError: the study's database failed; the job can be resumed.
    """
    options = options or Options()
    spec = folder.spec()
    budget = parse_budget(spec.budget)
    clock = BudgetClock(budget, used_s=folder.state().progress.seconds_used)
    publisher = Publisher(folder, clock, options.on_progress)
    publisher.phase("preparing")
    begun = _on_this_machine if spec.address is None else _on_a_cluster
    try:
        with begun(folder, publisher, clock, options.stop) as start:
            return None if start is None else _run(folder, options, start, publisher, clock)
    finally:
        publisher.stop()


@dataclass(frozen=True)
class _Start:
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


@contextmanager
def _on_this_machine(
    folder: JobFolder, publisher: Publisher, clock: BudgetClock, stop: threading.Event
) -> Iterator[_Start]:
    """A cluster of the job's own. The task is prepared, and the reference measured, while Ray starts."""
    spec = folder.spec()
    root = address_of(spec.store)
    space_file = parse_space(spec.space_text, spec.space)
    store = open_store(root)
    meeting = meeting_named(str(folder.path.absolute()))
    node = Node(share_cores(spec.options.get("lane_cores")), meeting=str(meeting))

    def look() -> tuple[Mapping[str, Hardware], Mapping[str, Offer]]:
        return {node.kind: node.hardware}, engines_here(folder.logs / "look_at_engines.log")

    def prepare() -> tuple[Prepared, Groundwork, StageFeed]:
        prepared = prepare_job(spec, folder, space_file, root, look)
        by_all = confirms_by_all(clock, prepared.task)
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
) -> Iterator[_Start | None]:
    """The cluster whose job this process is. The task is prepared here, while each kind of node says what it offers.

    Yields None where the job was stopped while it waited for hardware.
    """
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
            by_all = confirms_by_all(clock, prepared.task)
            groundwork = Groundwork(prepared, None, store, folder.logs, stop, confirms_by_all=by_all)
            place = _place(folder, prepared, root, feed.metrics)
            yield _begun(prepared, groundwork, store, place, cluster, publisher, feed)


def _unless(stop: threading.Event, pending: Future[T]) -> T | None:
    """What comes of it; None where the job is stopped before."""
    while not wait([pending], timeout=WATCH_S).done:
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
    return look_at_nodes()


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
) -> _Start:
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
    return _Start(prepared, groundwork, store, place, cluster, run, feed, record)


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


def _run(folder: JobFolder, options: Options, start: _Start, publisher: Publisher, clock: BudgetClock) -> Front | None:
    from autoopt.search.confirm import confirm

    prepared, store = start.prepared, start.store
    spec = folder.spec()
    where = options.study or known_study(spec.study)
    storage = open_storage(where, folder.study_path, must_stop=options.stop.is_set)
    study = CandidateStudy(storage, prepared.space, name=study_name(where, spec.name), seed=prepared.setup.seed)
    study.reconcile()
    history = History(store, prepared.space, prepared.setup)
    known = history.proposals()
    recall(study, known, prepared.setup, store, clock)
    study.enqueue([Proposal(prepared.setup.reference, "reference"), *practitioners_list(prepared.space), *known])
    kept_s = reserve_s(clock, prepared.task)
    deadline = None if clock.left_s is None else time.time() + clock.left_s - kept_s
    search_clock = BudgetClock(clock.budget, used_s=clock.used_s + kept_s)

    def told(rows: Sequence[Row]) -> None:
        history.learn(rows)
        start.feed.told(rows)
        publisher.told(rows)

    capacity = start.cluster.capacity(folder.path.name)
    conductor = Conductor(study, prepared.setup.reference, search_clock, told, capacity, replays=bool(known))
    start.feed.skip(conductor.outcomes())
    exporter = Exporter(folder.path.name, prepared.task, store, name_of(prepared.setup.reference), start.record)
    publisher.start(prepared, exporter, start.cluster.dashboard, conductor.outcomes())
    publisher.phase("searching")
    if search_clock.exhausted(len(conductor.outcomes())):
        start.groundwork.reference()
    else:
        _search(conductor, start, folder, options, deadline, publisher, new=not known)
    conductor.check()
    # As the search left it: a job that was killed while it confirmed would go on with those alone that it came to.
    front = publisher.front(confirmed=False)
    stopped = options.stop.is_set()
    if front is not None and not stopped:
        publisher.phase("confirming")
        size = prepared.task.splits["test"]
        confirm(front, folder, start.place, store, start.run, size, options.stop.is_set, lambda: clock.left_s)
        publisher.told(conductor.outcomes())
    publisher.phase("reporting")
    return publisher.finish(complete=not stopped)


def _search(
    conductor: Conductor,
    start: _Start,
    folder: JobFolder,
    options: Options,
    deadline: float | None,
    publisher: Publisher,
    *,
    new: bool,
) -> None:
    """Run Tune until the budget is used or the job is stopped; ``new``: no earlier job is known."""
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    from autoopt.search.coordinators import as_threads
    from autoopt.search.searcher import ConductorSearcher
    from autoopt.search.trial import CandidateTrial, at_work

    name = folder.path.name
    capacity = start.cluster.capacity(name)
    desk = TrainingDesk(capacity.trainers, deadline, spare=capacity.spare)

    def employ() -> None:
        now = start.cluster.capacity(name)
        conductor.employ(now)
        desk.employ(now.trainers, now.spare)

    background = start.groundwork.beside(start.run, desk.begin, conductor.abort, desk.trains, desk.settled, new=new)
    with (
        _watching(conductor, desk, employ, options.stop, publisher),
        background,
        at_work(start.place, desk, start.store),
        as_threads(),
    ):
        tuner = tune.Tuner(
            CandidateTrial,
            tune_config=tune.TuneConfig(
                search_alg=ConductorSearcher(conductor),
                num_samples=-1,
                trial_name_creator=lambda trial: f"candidate-{trial.config['number']}",
                trial_dirname_creator=lambda trial: f"candidate-{trial.config['number']}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder.path.absolute()),
                callbacks=[JsonLoggerCallback(), *options.callbacks],
                stop=options.stopper,
                verbose=0,
            ),
        )
        tuner.fit()
    conductor.close()


@contextmanager
def _watching(
    conductor: Conductor, desk: TrainingDesk, employ: Callable[[], None], stop: threading.Event, publisher: Publisher
) -> Iterator[None]:
    """Beside Tune's loop: teach the desk what the front has become, hear who is there, pass a stop on to it, count the nodes."""
    ended = threading.Event()
    taught: Judge | None = None

    def teach() -> None:
        nonlocal taught
        newest = conductor.judge()
        if newest is not None and newest != taught:
            desk.learn(newest)
            taught = newest

    def watch() -> None:
        count_at = 0.0
        while not ended.wait(WATCH_S):
            teach()
            if time.monotonic() >= count_at:
                count_at = time.monotonic() + COUNT_S
                employ()
            seats = desk.seats()
            publisher.running(seats.doing)
            desk.expect(conductor.review(seats))
            if stop.is_set():
                conductor.stop()
            if conductor.stopping:
                desk.stop()

    # What earlier jobs have measured judges the first candidate, too.
    teach()
    thread = threading.Thread(target=watch, name="watcher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        publisher.running(())
