"""One job from its folder to its report: prepare, search, confirm, report.

Ray Tune drives, the study remembers. A job that ends early, for whatever reason, has its best so far on disk; run again
it goes on: the study says what is decided, the store has every finished stage.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt.front import Front
from autoopt.jobfolder import JobFolder
from autoopt.records.job import Progress
from autoopt.search import cluster
from autoopt.search.budget import BudgetClock, parse_budget
from autoopt.search.bundling import Exporter
from autoopt.search.conductor import Conductor, Row
from autoopt.search.desk import QUEUE_A_TRAINER
from autoopt.search.elimination import Judge
from autoopt.search.groundwork import Groundwork
from autoopt.search.history import History
from autoopt.search.preparation import Prepared, prepare_job
from autoopt.search.proposals import practitioners_list
from autoopt.search.publish import Publisher
from autoopt.search.recall import recall
from autoopt.search.reserve import confirms_by_all, reserve_s
from autoopt.search.results import name_of
from autoopt.search.storage import open_storage, study_name
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.search.study_url import StudyUrl, known_study
from autoopt.space import parse_space
from autoopt.workers import process
from autoopt.workers.stages.setup import share_cores
from autoopt.workers.stages.stage import Stage
from autoopt.workers.store.local import LocalStore

# Candidates in flight: one is timed, some are built, a few need no training; for each that trains others wait at the desk
# (`QUEUE_A_TRAINER`), so that no trainer stands idle. Each has a process, whose start takes four seconds of a core.
IN_FLIGHT_BESIDE_TRAINING, IN_FLIGHT_A_TRAINER = 5, 1 + QUEUE_A_TRAINER
WATCH_S = 0.5

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
    meeting = meeting_of(folder)
    process.share(meeting)
    try:
        with _started(folder, clock, options.stop) as start:
            return _run(folder, options, start, publisher, clock)
    finally:
        publisher.stop()
        process.shutdown()
        process.share(None)
        shutil.rmtree(meeting, ignore_errors=True)


def meeting_of(folder: JobFolder) -> Path:
    """Where the processes that work for a job on one node find each other: on that node's own disk, for this user only."""
    job = hashlib.sha256(str(folder.path.absolute()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"autoopt-{os.getuid()}-{job}")


@dataclass(frozen=True)
class _Start:
    """What stands when the search may begin."""

    prepared: Prepared
    groundwork: Groundwork
    store: LocalStore
    place: Any
    dashboard: str


@contextmanager
def _started(folder: JobFolder, clock: BudgetClock, stop: threading.Event) -> Iterator[_Start]:
    """The task is prepared in its own process, and the reference measured, while Ray starts."""
    spec = folder.spec()
    cores = share_cores(spec.options.get("lane_cores"))
    root = Path(spec.store) if spec.store else default_store()
    space_file = parse_space(spec.space_text, spec.space)
    store = LocalStore(root)

    def prepare() -> tuple[Prepared, Groundwork]:
        prepared = prepare_job(spec, folder, space_file, root, cores)
        by_all = confirms_by_all(clock, prepared.task)
        groundwork = Groundwork(prepared, store, folder.logs, stop, confirms_by_all=by_all)
        groundwork.start()
        return prepared, groundwork

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(prepare)
        with cluster.local_cluster(cores) as dashboard:
            # Seconds of imports meanwhile.
            from autoopt.search import trial  # noqa: F401
            from autoopt.search.remote import Place

            prepared, groundwork = pending.result()
            place = Place(prepared.setup, str(root), str(folder.logs), str(meeting_of(folder)))
            yield _Start(prepared, groundwork, store, place, dashboard)


def default_store() -> Path:
    """The user's own: ``$AUTOOPT_STORE``, else ``~/.cache/autoopt/store``."""
    named = os.environ.get("AUTOOPT_STORE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "autoopt" / "store"


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
        publisher.told(rows)

    trainers = prepared.setup.cores.trainers
    conductor = Conductor(study, prepared.setup.reference, search_clock, told, trainers, replays=bool(known))
    exporter = Exporter(folder.path.name, prepared.task, store, name_of(prepared.setup.reference))
    publisher.start(prepared, exporter, start.dashboard, conductor.outcomes())
    publisher.phase("searching")
    if search_clock.exhausted(len(conductor.outcomes())):
        start.groundwork.reference()
    else:
        _search(conductor, start, folder, options, deadline, new=not known)
    conductor.check()
    front = publisher.front()
    stopped = options.stop.is_set()
    if front is not None and not stopped:
        publisher.phase("confirming")
        confirm(
            front, folder, start.place, store, prepared.task.splits["test"], options.stop.is_set, lambda: clock.left_s
        )
        publisher.told(conductor.outcomes())
    publisher.phase("reporting")
    return publisher.finish(complete=not stopped)


def _search(
    conductor: Conductor, start: _Start, folder: JobFolder, options: Options, deadline: float | None, *, new: bool
) -> None:
    """Run Tune until the budget is used or the job is stopped; ``new``: no earlier job is known."""
    import ray
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    from autoopt.search import coordinators
    from autoopt.search.desk import TrainingDesk
    from autoopt.search.remote import run_stage
    from autoopt.search.searcher import ConductorSearcher
    from autoopt.search.trial import TRIAL_CPUS, CandidateTrial

    place, cores = start.place, start.place.setup.cores
    desk = (
        ray.remote(num_cpus=0)(TrainingDesk)
        .options(name=f"training desk {folder.path.name}")
        .remote(cores.trainers, deadline, spare=cores.spare_trainers)
    )

    def begin() -> None:
        ray.get(desk.begin.remote())

    def trains() -> bool:
        return bool(ray.get(desk.trains.remote()))

    def settled() -> bool:
        return bool(ray.get(desk.settled.remote()))

    def run(stage: Stage, must_stop: Callable[[], bool]) -> object:
        return run_stage(stage, place, start.store, must_stop)

    background = start.groundwork.beside(run, begin, conductor.abort, trains, settled, new=new)
    in_flight = IN_FLIGHT_BESIDE_TRAINING + IN_FLIGHT_A_TRAINER * cores.trainers + cores.spare_trainers
    with _watching(conductor, desk, options.stop), background, coordinators.kept(in_flight):
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(CandidateTrial, place=place, desk=desk), {"cpu": TRIAL_CPUS}),
            tune_config=tune.TuneConfig(
                search_alg=ConductorSearcher(conductor),
                num_samples=-1,
                max_concurrent_trials=in_flight,
                reuse_actors=True,
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
def _watching(conductor: Conductor, desk: Any, stop: threading.Event) -> Iterator[None]:
    """Beside Tune's loop: teach the desk what the front has become, hear who is there, and pass a stop on to it."""
    import ray

    ended = threading.Event()
    taught: Judge | None = None

    def teach() -> None:
        nonlocal taught
        newest = conductor.judge()
        if newest is not None and newest != taught:
            ray.get(desk.learn.remote(newest))
            taught = newest

    def watch() -> None:
        while not ended.wait(WATCH_S):
            teach()
            ray.get(desk.expect.remote(conductor.review(ray.get(desk.seats.remote()))))
            if stop.is_set():
                conductor.stop()
            if conductor.stopping:
                ray.get(desk.stop.remote())

    # What earlier jobs have measured judges the first candidate, too.
    teach()
    thread = threading.Thread(target=watch, name="watcher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
