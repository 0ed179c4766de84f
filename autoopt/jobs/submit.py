"""Begin a job or let one go on: in the background (`submit`, `resume`) or here (`search`, `go_on`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import JobError, UserError
from autoopt.jobfolder import JobFolder, Progress
from autoopt.jobs import clustered, execute, launch
from autoopt.jobs.clustered import ClusterJob
from autoopt.jobs.execute import Extras
from autoopt.jobs.job import Job, JobResult
from autoopt.jobs.local import LocalJob
from autoopt.jobs.run import save_callbacks
from autoopt.jobs.specify import new_folder
from autoopt.search.study_url import StudyUrl, asked_study
from autoopt.workers.store import has_secret
from autoopt.workers.store.opening import STORE

if TYPE_CHECKING:
    from autoopt.task import Task

RESULTS = "results"
Budget = str | int | timedelta | Mapping[str, float]


def submit(  # noqa: PLR0913 (the settings of a search, by keyword)
    task: str | Path | Task,
    space: str | Path = "quick",
    budget: Budget = "10m",
    *,
    name: str | None = None,
    results: str | Path = RESULTS,
    store: str | Path | None = None,
    study: str | None = None,
    scenario: str | None = None,
    p99_ms: float | None = None,
    seed: int = 0,
    lane_cores: int | None = None,
    address: str | None = None,
    code: str | Path | None = None,
    hardware: Sequence[str] | None = None,
    wait: bool = False,
    install_engines: bool = False,
    callbacks: Sequence[Any] = (),
    stopper: Any = None,
) -> Job:
    """Start a search in the background and return at once; it outlives this process.

    Args:
        task: ``"path/file.py:name"``, or a `Task`.
        space: the name of a shipped search space (`autoopt spaces` lists them), or a YAML file.
        budget: ``"10m"``, ``"60 candidates"``, ``"1h, 200 candidates"``; a number of candidates; a timedelta.
        name: of the job: ``results/<name>/`` is its folder. Made from task, space and time by default.
        results: the folder of all jobs.
        store: the artifact store: a folder, which machines may share, or a URL such as ``s3://bucket/folder``; ``$AUTOOPT_STORE``
            or the user's cache by default.
        study: the URL of the database that remembers the search: ``"postgresql+psycopg://user:password@host/database"`` or
            ``"sqlite:///file.db"``, which may be shared by many jobs; ``"journal"`` is a file in the job's folder.
            ``$AUTOOPT_STUDY`` or the journal by default. No file of the job holds a password: whoever resumes or reports the job
            gives it again, by this argument, that variable, ``$PGPASSWORD`` or ``~/.pgpass``.
        scenario: "single_stream" (one sample a request), "offline" (time per sample, in batches) or "server" (the highest rate of
            requests under a bound); as the space says by default.
        p99_ms: the bound of the scenario "server": milliseconds within which 99 % of the requests are answered.
        seed: of the sampler and of all training.
        lane_cores: how many cores are kept for timing; half of them by default. On a cluster the nodes say it.
        address: of a Ray cluster's dashboard, ``http://host:8265``: the job runs there, and goes on when this machine is
            switched off. The store must then be one that all nodes see.
        code: on a cluster, the folder of the code that travels with the job; the task's own folder by default.
        hardware: names of hardware to serve on, in place of the space's.
        wait: on a cluster, whether to wait for hardware that is not there; the job is refused by default.
        install_engines: whether engines of the space whose packages are missing are installed, each in an environment of its own,
            on every node that needs them, once; they are left out by default.
        callbacks: Ray Tune's callbacks (TensorBoard, MLflow, W&B, …).
        stopper: one of Ray Tune's stoppers.

    Raises:
        UserError: the task does not import, the space or the budget is not valid, the store cannot be used, or the name is taken;
            the cluster cannot be reached.
        StudyError: the study's database cannot be used.
    """
    where = asked_study(study)
    asked = {
        "scenario": scenario,
        "p99_ms": p99_ms,
        "seed": seed,
        "store": store,
        "study": where,
        "hardware": hardware,
        "options": _options(lane_cores, wait=wait, install_engines=install_engines),
    }
    if address is not None:
        from autoopt.jobs.sending import send

        asked |= {"address": address, "code": code}
        return send(task, space, budget, name=name, results=results, asked=asked, extras=Extras(callbacks, stopper))
    folder = new_folder(task, space, budget, name=name, results=results, asked=asked, import_task=True)
    if callbacks or stopper is not None:
        save_callbacks(folder.path, tuple(callbacks), stopper)
    launch.start(folder, where, _secret(store))
    return LocalJob(folder, study)


def search(  # noqa: PLR0913 (the settings of a search, by keyword)
    task: str | Path | Task,
    space: str | Path = "quick",
    budget: Budget = "10m",
    *,
    name: str | None = None,
    results: str | Path = RESULTS,
    store: str | Path | None = None,
    study: str | None = None,
    scenario: str | None = None,
    p99_ms: float | None = None,
    seed: int = 0,
    lane_cores: int | None = None,
    hardware: Sequence[str] | None = None,
    install_engines: bool = False,
    callbacks: Sequence[Any] = (),
    stopper: Any = None,
    on_start: Callable[[Job], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> JobResult:
    """Search in this process, and return at the end; otherwise like `submit`.

    Ctrl-C ends it in good order: the result is the best so far, and `Job.resume` goes on.

    Args:
        task: see `submit`, as the other arguments that are not named here.
        space: see `submit`.
        budget: see `submit`.
        name: see `submit`.
        results: see `submit`.
        store: see `submit`.
        study: see `submit`.
        scenario: see `submit`.
        p99_ms: see `submit`.
        seed: see `submit`.
        lane_cores: see `submit`.
        hardware: see `submit`.
        install_engines: see `submit`.
        callbacks: see `submit`.
        stopper: see `submit`.
        on_start: told the job before it begins.
        on_progress: told how far it is, every few seconds, from another thread.

    Raises:
        UserError: what was given cannot be used; no folder is left then.
        AutooptError: the search failed; it can be resumed.
    """
    where = asked_study(study)
    asked = {
        "scenario": scenario,
        "p99_ms": p99_ms,
        "seed": seed,
        "store": store,
        "study": where,
        "hardware": hardware,
        "options": _options(lane_cores, install_engines=install_engines),
    }
    folder = new_folder(task, space, budget, name=name, results=results, asked=asked, import_task=False)
    if on_start is not None:
        on_start(LocalJob(folder, study))
    extras = Extras(callbacks=tuple(callbacks), stopper=stopper, on_progress=on_progress, study=where)
    try:
        with _known(_secret(store)):
            front = execute.execute(folder, extras, execute.CONTROLLER)
    except UserError:
        if _never_began(folder, where):
            shutil.rmtree(folder.path)  # the name is free for the next attempt
        raise
    return JobResult.of(folder, folder.state(), front)


def _secret(store: str | Path | None) -> str | None:
    """A store's address, where it has a password that the job's files do not hold."""
    return str(store) if store is not None and has_secret(str(store)) else None


@contextmanager
def _known(store: str | None) -> Iterator[None]:
    """As long as the context lasts, this process and those that it starts know the store's whole address."""
    before = os.environ.get(STORE)
    if store is not None:
        os.environ[STORE] = store
    try:
        yield
    finally:
        if store is not None:
            os.environ.pop(STORE)
            os.environ.update({} if before is None else {STORE: before})


def _never_began(folder: JobFolder, study: StudyUrl | None) -> bool:
    if study is None:
        return not folder.study_path.exists()
    from autoopt.search.storage import discard_study

    return discard_study(study, folder.path.name)


def resume(
    job: str | Path | Job,
    *,
    budget: str | None = None,
    results: str | Path = RESULTS,
    study: str | None = None,
    address: str | None = None,
    store: str | None = None,
) -> Job:
    """Let an interrupted, cancelled or failed job go on in the background. See `Job.resume` and `find`."""
    return find(job, results, study, address=address, store=store).resume(budget=budget)


def go_on(
    job: str | Path | Job,
    *,
    budget: str | None = None,
    results: str | Path = RESULTS,
    study: str | None = None,
    on_start: Callable[[Job], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> JobResult:
    """Let it go on in this process, and return at the end; see `Job.resume`, `search`, and `find` for the study."""
    found = find(job, results, study)
    if not isinstance(found, LocalJob):
        message = f"{found.reference} runs on a cluster, and cannot go on here; `autoopt resume {found.reference} --background` lets it go on there"
        raise JobError(message)
    folder = found.folder
    where = found.make_ready(budget)
    if on_start is not None:
        on_start(found)
    front = execute.execute(folder, Extras(on_progress=on_progress, study=where), execute.CONTROLLER)
    return JobResult.of(folder, folder.state(), front)


def find(
    job: str | Path | Job,
    results: str | Path = RESULTS,
    study: str | None = None,
    *,
    address: str | None = None,
    store: str | None = None,
) -> Job:
    """The job of that name, or in that folder.

    Args:
        job: its name or folder.
        results: the folder of this machine's jobs.
        study: the URL of its study with the password, where it is in a database whose password neither ``$AUTOOPT_STUDY`` nor
            libpq knows.
        address: of the cluster that it runs on; what a job on a cluster has left in a folder here knows it by itself.
        store: of a job on a cluster: the store's address, where the cluster does not know it (its head was restarted) or may
            not tell it (it has a password).

    Raises:
        JobError: there is none; the message lists those there are.
    """
    if isinstance(job, ClusterJob | LocalJob):
        return job if study is None else replace(job, study=study)
    assert not isinstance(job, Job), "there are two kinds"
    # What is written as a path is one, also for who has named a cluster in the environment.
    here = (Path(job), Path(results) / job) if address is None else (Path(job),) if os.sep in str(job) else ()
    for path in here:
        folder = JobFolder(path.absolute())
        if folder.exists():
            return _of_folder(folder, results, study, store)
    if address is not None:
        return clustered.find(str(job), address, store, results, study)
    there = ", ".join(each.id for each in listed(results)) or "none"
    message = f"there is no job {str(job)!r}: neither a job's folder nor one in {results}/. Jobs there: {there}"
    raise JobError(message)


def _of_folder(folder: JobFolder, results: str | Path, study: str | None, store: str | None) -> Job:
    """A job of this machine; what a job on a cluster has left here leads there."""
    spec = folder.spec()
    if spec.address is None:
        return LocalJob(folder, study)
    return clustered.find(spec.name, spec.address, store or spec.store, results, study)


def listed(results: str | Path = RESULTS, *, address: str | None = None, store: str | None = None) -> list[Job]:
    """All jobs in the folder, or on a cluster, the oldest first; see `find`."""
    if address is not None:
        return list(clustered.listed(address, store, results))
    folders = [JobFolder(path.parent.absolute()) for path in Path(results).glob("*/job.json")]
    found = [(created_at, LocalJob(folder)) for folder in folders if (created_at := _created_at(folder)) is not None]
    return [job for _, job in sorted(found, key=lambda each: (each[0], each[1].id))]


def _created_at(folder: JobFolder) -> str | None:
    """When a job was created; None where it is a copy of a cluster's, "" where that cannot be read."""
    try:
        spec = folder.spec()
    except JobError:
        return ""
    return spec.created_at if spec.address is None else None


def _options(lane_cores: int | None, *, wait: bool = False, install_engines: bool = False) -> dict[str, Any]:
    given = {"lane_cores": lane_cores, "wait": wait or None, "install_engines": install_engines or None}
    return {name: value for name, value in given.items() if value is not None}
