"""From what a caller gives to a job's folder: everything that can be checked cheaply is checked before there is one."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import JobError, SpaceError, TaskError
from autoopt.jobfolder import JobFolder, JobSpec, create, now
from autoopt.records import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoopt.search.study_url import StudyUrl
    from autoopt.space import SpaceFile
    from autoopt.task import LoadedTask, Task

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


def new_folder(
    task: str | Path | Task,
    space: str | Path,
    budget: str | int | timedelta | Mapping[str, float],
    *,
    name: str | None,
    results: str | Path,
    asked: Mapping[str, Any],
    import_task: bool,
) -> JobFolder:
    """Make a job's folder.

    Args:
        task: see `autoopt.submit`.
        space: likewise.
        budget: likewise.
        name: the folder's; made from task, space and time where None.
        results: the folder of all jobs.
        asked: more that was asked; see `new_spec`.
        import_task: whether a task's file is imported now, to see that it can be.

    Raises:
        UserError: the task, the space, the budget or the store cannot be used, or the name is taken.
        StudyError: the study's database cannot be used.
    """
    spec, loaded = new_spec(task, space, budget, name=name, asked=asked, import_task=import_task)
    folder = create(Path(results).absolute() / spec.name, spec)
    try:
        _fill(folder, loaded, asked.get("study"))
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)  # a job without a task or a study is none
        raise
    return folder


def new_spec(
    task: str | Path | Task,
    space: str | Path,
    budget: str | int | timedelta | Mapping[str, float],
    *,
    name: str | None,
    asked: Mapping[str, Any],
    import_task: bool,
) -> tuple[JobSpec, LoadedTask | None]:
    """What is asked, and the task where it was loaded.

    Args:
        task: see `autoopt.submit`.
        space: likewise.
        budget: likewise.
        name: of the job; made from task, space and time where None.
        asked: more fields of `JobSpec` (scenario, seed, store, options, address), "p99_ms", its "study" as a `StudyUrl` or None, and
            "hardware" for the space's.
        import_task: whether a task's file is imported now, to see that it can be.

    Raises:
        UserError: the task, the space or the budget cannot be used.
    """
    from autoopt.search.budget import parse_budget
    from autoopt.workers.store import masked

    allowed = parse_budget(budget)
    file = _space(space, asked)
    reference, loaded = _task(task, import_task=import_task)
    study: StudyUrl | None = asked.get("study")
    store = _store(asked.get("store"))
    options = dict(asked.get("options", {}))
    if loaded is not None and loaded.ref is None:
        options["imports"] = to_json(loaded.imports)
    spec = JobSpec(
        name=_checked(name or _invented(reference, loaded, file.name)),
        task=reference,
        space=str(space),
        space_text=file.text,
        budget=budget if isinstance(budget, str) else str(allowed),
        scenario=asked.get("scenario"),
        seed=asked.get("seed", 0),
        store=masked(store) if store is not None else None,
        study=None if study is None else study.shown,
        address=asked.get("address"),
        options=options,
        created_at=now(),
        version=metadata.version("autoopt"),
    )
    return spec, loaded


def _space(space: str | Path, asked: Mapping[str, Any]) -> SpaceFile:
    from autoopt.space import load_space
    from autoopt.space.names import unknown
    from autoopt.space.techniques import option_choices, step_choice
    from autoopt.workers.engines import engine, engines
    from autoopt.workers.techniques import techniques

    hardware = asked.get("hardware")
    given = {name: asked.get(name) for name in ("scenario", "p99_ms")}
    given["deployment.hardware"] = list(hardware) if hardware else None
    file = load_space(space, {name: value for name, value in given.items() if value is not None})
    known = techniques()
    for name, section in file.model.items():
        if name not in known:
            message = f'The search space "{file.name}", model: {unknown("technique", name, known)}'
            raise SpaceError(message)
        step_choice(known[name], section, file.name)
    allowed = [*engines(), "null"]
    for name, serving in file.deployment.engine.items():
        if name not in allowed:
            message = f'The search space "{file.name}", deployment.engine: {unknown("engine", name, engines())}'
            raise SpaceError(message)
        where = f'The search space "{file.name}", deployment.engine.{name}'
        option_choices(engine(name).options, serving.options, name, where)
    return file


def _task(task: str | Path | Task, *, import_task: bool) -> tuple[str, LoadedTask | None]:
    """The reference that stands in ``job.json``, and the task itself where it was loaded."""
    if isinstance(task, str | Path) and not import_task:
        # As `load_task` reads it: the last colon counts, for folders may have some in their names.
        file, _, attribute = (
            f"{task}:" if str(task).endswith(".py") or ":" not in str(task) else str(task)
        ).rpartition(":")
        path = Path(file).expanduser().absolute()
        if not path.is_file() or path.suffix != ".py":
            message = f'{file} is not a Python file; a task is given as "path/file.py:name", or as a Task object'
            raise TaskError(message)
        return f"{path}:{attribute or 'task'}", None
    from autoopt.task import load_task

    loaded = load_task(task)
    if loaded.ref is None:
        return "task.pkl", loaded
    return f"{loaded.ref.path}:{loaded.ref.attribute}", loaded


def _fill(folder: JobFolder, loaded: LoadedTask | None, study: StudyUrl | None) -> None:
    if loaded is not None and loaded.ref is None:
        from autoopt.task import save_task

        save_task(loaded, folder.task_pickle)
    if study is not None:
        from autoopt.search.storage import begin_study

        begin_study(study, folder.path.name)


def _store(given: str | Path | None) -> str | None:
    from autoopt.workers.store import check_store, default_store, full_address, is_url

    address = full_address(default_store() if given is None else given)
    if is_url(address):
        check_store(address)  # a folder is made by the job, where it runs
    return None if given is None else address


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        message = f"a job's name is letters, digits, '-', '_' and '.', not {name!r}"
        raise JobError(message)
    return name


def _invented(reference: str, loaded: LoadedTask | None, space: str) -> str:
    """``fashion_mnist-quick-20260101-120000``."""
    if loaded is not None and loaded.ref is None:
        stem = loaded.task.name
    else:
        path = Path(reference.rpartition(":")[0])
        stem = path.parent.name if path.stem == "task" else path.stem
    plain = re.sub(r"\W+", "-", f"{stem}-{space}", flags=re.ASCII).strip("-") or "job"
    return f"{plain}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"[:-3]
