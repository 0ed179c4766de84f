"""Begin a job or let one go on: in the background (`submit`, `resume`) or here (`search`, `go_on`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import JobError, UserError
from autoopt.jobfolder import JobFolder, JobStatus, ProcessMark, Progress, write_json
from autoopt.jobs import execute, launch
from autoopt.jobs.execute import Extras
from autoopt.jobs.job import Job, JobResult, result_of
from autoopt.jobs.run import save_callbacks
from autoopt.jobs.specify import new_folder
from autoopt.records import to_json
from autoopt.search.study_url import StudyUrl, asked_study, known_study

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
    seed: int = 0,
    lane_cores: int | None = None,
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
        store: the folder of the artifact store; ``$AUTOOPT_STORE`` or the user's cache by default.
        study: the URL of the database that remembers the search: ``"postgresql+psycopg://user:password@host/database"`` or
            ``"sqlite:///file.db"``, which may be shared by many jobs; ``"journal"`` is a file in the job's folder.
            ``$AUTOOPT_STUDY`` or the journal by default. No file of the job holds a password: whoever resumes or reports the job
            gives it again, by this argument, that variable, ``$PGPASSWORD`` or ``~/.pgpass``.
        scenario: "single_stream" (one sample a request) or "offline" (time per sample, in batches); as the space says by
            default.
        seed: of the sampler and of all training.
        lane_cores: how many cores are kept for timing; half of them by default.
        callbacks: Ray Tune's callbacks (TensorBoard, MLflow, W&B, …).
        stopper: one of Ray Tune's stoppers.

    Raises:
        UserError: the task does not import, the space or the budget is not valid, or the name is taken.
        StudyError: the study's database cannot be used.
    """
    where = asked_study(study)
    asked = {"scenario": scenario, "seed": seed, "store": store, "study": where, "options": _options(lane_cores)}
    folder = new_folder(task, space, budget, name=name, results=results, asked=asked, import_task=True)
    if callbacks or stopper is not None:
        save_callbacks(folder, tuple(callbacks), stopper)
    launch.start(folder, where)
    return Job(folder, study)


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
    seed: int = 0,
    lane_cores: int | None = None,
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
        seed: see `submit`.
        lane_cores: see `submit`.
        callbacks: see `submit`.
        stopper: see `submit`.
        on_start: told the job before it begins.
        on_progress: told how far it is, every few seconds, from another thread.

    Raises:
        UserError: what was given cannot be used; no folder is left then.
        AutooptError: the search failed; it can be resumed.
    """
    where = asked_study(study)
    asked = {"scenario": scenario, "seed": seed, "store": store, "study": where, "options": _options(lane_cores)}
    folder = new_folder(task, space, budget, name=name, results=results, asked=asked, import_task=False)
    if on_start is not None:
        on_start(Job(folder, study))
    extras = Extras(callbacks=tuple(callbacks), stopper=stopper, on_progress=on_progress, study=where)
    try:
        front = execute.execute(folder, extras, execute.CONTROLLER)
    except UserError:
        if _never_began(folder, where):
            shutil.rmtree(folder.path)  # the name is free for the next attempt
        raise
    return result_of(folder, front)


def _never_began(folder: JobFolder, study: StudyUrl | None) -> bool:
    if study is None:
        return not folder.study_path.exists()
    from autoopt.search.storage import discard_study

    return discard_study(study, folder.path.name)


def resume(
    job: str | Path | Job, *, budget: str | None = None, results: str | Path = RESULTS, study: str | None = None
) -> Job:
    """Let an interrupted, cancelled or failed job go on in the background. See `Job.resume`, and `find` for the study."""
    return find(job, results, study).resume(budget=budget)


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
    where = make_ready(found.folder, budget, found.study)
    if on_start is not None:
        on_start(found)
    front = execute.execute(found.folder, Extras(on_progress=on_progress, study=where), execute.CONTROLLER)
    return result_of(found.folder, front)


def make_ready(folder: JobFolder, budget: str | None, study: str | None = None) -> StudyUrl | None:
    """Check that a job can go on, and give it the larger budget; where its study is.

    Raises:
        JobError: it runs, or is done and was given no larger budget.
        BudgetError: the budget cannot be used.
        UserError: another study was given than the job's.
        StudyError: its database refuses.
    """
    spec, state = folder.spec(), folder.state()
    status = state.status
    if not status.ended:
        message = f"{folder.path} is {status} already; `autoopt watch {folder.path}` shows it"
        raise JobError(message)
    if status is JobStatus.DONE and budget is None:
        message = (
            f"{folder.path} is done: it has used its budget ({spec.budget}). Give a larger one (--budget) to go on"
        )
        raise JobError(message)
    where = known_study(spec.study, study)
    if where is not None:
        from autoopt.search.storage import check_study

        check_study(where)
    if budget is not None:
        from autoopt.search.budget import parse_budget

        parse_budget(budget)
        write_json(folder.spec_path, to_json(replace(spec, budget=budget)))
    if state.process is not None:
        launch.sweep(state.process)
    folder.update(status=JobStatus.SUBMITTED, process=ProcessMark.of(os.getpid()), message="")
    return where


def find(job: str | Path | Job, results: str | Path = RESULTS, study: str | None = None) -> Job:
    """The job of that name, or in that folder.

    Args:
        job: its name, or its folder.
        results: the folder of all jobs.
        study: the URL of its study with the password, where it is in a database whose password neither ``$AUTOOPT_STUDY`` nor
            libpq knows.

    Raises:
        JobError: there is none; the message lists those there are.
    """
    if isinstance(job, Job):
        return job if study is None else replace(job, study=study)
    for path in (Path(job), Path(results) / job):
        folder = JobFolder(path.absolute())
        if folder.exists():
            return Job(folder, study)
    there = ", ".join(each.id for each in listed(results)) or "none"
    message = f"there is no job {str(job)!r}: neither a job's folder nor one in {results}/. Jobs there: {there}"
    raise JobError(message)


def listed(results: str | Path = RESULTS) -> list[Job]:
    """All jobs in the folder, the oldest first."""
    folders = [JobFolder(path.parent.absolute()) for path in Path(results).glob("*/job.json")]
    return sorted(map(Job, folders), key=lambda each: (each.spec.created_at, each.id))


def _options(lane_cores: int | None) -> dict[str, Any]:
    return {} if lane_cores is None else {"lane_cores": lane_cores}
