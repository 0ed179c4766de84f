"""Before the first candidate: the task's arrays in the store, what this machine offers, the space that is left.

User code and engines are imported in processes of their own, never in the controller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoopt.errors import FailureKind, StageError, TaskError
from autoopt.jobfolder import JobFolder, JobSpec, write_json
from autoopt.records import Candidate, Deployment, from_json, to_json
from autoopt.space import Space, TaskFacts, resolve
from autoopt.space.schema import SpaceFile
from autoopt.task.prepared import PreparedTask
from autoopt.workers import process
from autoopt.workers.engines.base import Offer
from autoopt.workers.process import Limits
from autoopt.workers.stages.execute import PRELOAD
from autoopt.workers.stages.setup import Cores, Setup
from autoopt.workers.stages.stage import Role
from autoopt.workers.techniques import techniques

PREPARE_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Prepared:
    """What a search starts from."""

    task: PreparedTask
    space: Space
    setup: Setup


def prepare_job(spec: JobSpec, folder: JobFolder, space_file: SpaceFile, store: str, cores: Cores) -> Prepared:
    """Prepare the task, look at the engines, resolve the space.

    Raises:
        TaskError, SpaceError: what was given cannot be used.
    """
    limits = Limits(timeout_s=PREPARE_LIMIT_S, memory_bytes=None, cores=None, threads=1)
    request = {"task": spec.task, "folder": str(folder.path), "store": store}
    answer = _call("prepare_task", request, limits, folder)
    if "user_error" in answer:
        raise TaskError(answer["user_error"])
    task = PreparedTask.open(Path(answer["folder"]))
    offers = {name: from_json(Offer, data) for name, data in _call("look_at_engines", {}, limits, folder).items()}
    facts = TaskFacts(
        format=task.source_format,
        splits=frozenset(name for name, size in task.splits.items() if size),
        cores=len(cores.lane),
        without={} if "student" in task.manifest.functions else {"student.source": ("factory",)},
    )
    space = resolve(space_file, techniques(), offers, facts)
    setup = Setup(
        task_key=task.fingerprint,
        source_format=task.source_format,
        training_samples=task.splits.get("train", 0),
        reference=reference_for(task.source_format, space),
        cores=cores,
        scenario=space.scenario,
        seed=spec.seed,
        rungs=space.rungs,
        stage_timeout_s=space.stage_timeout_s,
    )
    # For who reads the job's front, or writes its report again, later or beside it.
    write_json(folder.setup_path, {**to_json(setup), "excluded": to_json(space.excluded)})
    return Prepared(task, space, setup)


def reference_for(source_format: str, space: Space) -> Candidate:
    """What everything is compared with: the network as given, in the plainest way to run it, on one thread.

    ``offline`` compares time per sample, so the reference gets the space's largest batch: a small one would flatter.
    """
    batch = max(space.batches) if space.scenario == "offline" else 1
    engine = "pytorch" if source_format == "module" else "onnxruntime"
    return Candidate((), Deployment(engine, batch=batch))


def _call(function: str, request: dict[str, Any], limits: Limits, folder: JobFolder) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = process.call(
            f"autoopt.search.preparation:{function}",
            request,
            limits,
            PRELOAD[Role.LANE],
            folder.logs / f"{function}.log",
        )
    except StageError as error:
        if error.kind is FailureKind.ERROR:
            message = f"preparing the task failed: {error.message}\n{error.log}"
            raise TaskError(message) from error
        raise
    return answer


def prepare_task(request: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: load the user's task, check it, write its arrays into the store."""
    from autoopt.task import TaskRef, load_task, prepare
    from autoopt.task.imports import Imports
    from autoopt.workers.store import open_store

    folder = JobFolder(Path(request["folder"]))
    given = request["task"]
    if given == folder.task_pickle.name:
        imports = from_json(Imports, folder.spec().options.get("imports", {}))
        given = TaskRef(str(folder.task_pickle), None, imports)
    try:
        prepared = prepare(load_task(given), open_store(request["store"]), progress=print)
    except TaskError as error:
        return {"user_error": str(error)}
    return {"folder": str(prepared.folder)}


def look_at_engines(request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 (the process's convention)
    """In a process of its own: what every engine offers here."""
    from autoopt.workers.engines import offers

    found: dict[str, Any] = to_json(offers())
    return found
