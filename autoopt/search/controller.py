"""One job from its folder to its report: prepare, search, confirm, report.

Ray Tune drives, the study remembers. A job that ends early, for whatever reason, has its best so far on disk; run again
it goes on: the study says what is decided, the store has every finished stage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from autoopt.front import Front
from autoopt.jobfolder import JobFolder
from autoopt.records.job import Progress
from autoopt.search.beginning import Start, begin
from autoopt.search.budget import BudgetClock, parse_budget
from autoopt.search.bundling import Exporter
from autoopt.search.conductor import Conductor, Row
from autoopt.search.desk import TrainingDesk
from autoopt.search.elimination import Judge
from autoopt.search.history import History
from autoopt.search.proposals import practitioners_list
from autoopt.search.publish import Publisher
from autoopt.search.recall import recall
from autoopt.search.reserve import reserve_s
from autoopt.search.results import name_of
from autoopt.search.storage import open_storage, study_name
from autoopt.search.study import CandidateStudy, Proposal
from autoopt.search.study_url import StudyUrl, known_study

WATCH_S, COUNT_S = 0.5, 2.0


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
    try:
        with begin(folder, publisher, clock, options.stop) as start:
            return None if start is None else _run(folder, options, start, publisher, clock)
    finally:
        publisher.stop()


def _run(folder: JobFolder, options: Options, start: Start, publisher: Publisher, clock: BudgetClock) -> Front | None:
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
    kept_s = reserve_s(clock, prepared.task, prepared.setup.scenario)
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
    start: Start,
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
