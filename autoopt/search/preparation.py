"""Before the first candidate: the task's arrays in the store, what this machine offers, the space that is left.

User code and engines are imported in processes of their own, never in the controller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from autoopt.errors import FailureKind, StageError, TaskError
from autoopt.jobfolder import JobFolder, JobSpec, write_json
from autoopt.records import Candidate, Deployment, from_json, to_json
from autoopt.records.hardware import named, parse
from autoopt.space import Space, TaskFacts, resolve
from autoopt.space.schema import SpaceFile
from autoopt.task.prepared import PreparedTask
from autoopt.workers import process
from autoopt.workers.engines.base import Offer
from autoopt.workers.node import Hardware
from autoopt.workers.process import Limits
from autoopt.workers.stages.execute import PRELOAD
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Role
from autoopt.workers.techniques import techniques

PREPARE_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Prepared:
    """What a search starts from."""

    task: PreparedTask
    space: Space
    setup: Setup


Look: TypeAlias = Callable[[], tuple[Mapping[str, Hardware], Mapping[str, Offer]]]
"""What there is to be served by: hardware by kind of node, engines by name."""


def prepare_job(spec: JobSpec, folder: JobFolder, space_file: SpaceFile, store: str, look: Look) -> Prepared:
    """Prepare the task, look at the engines, resolve the space.

    Raises:
        TaskError, SpaceError: what was given cannot be used.
    """
    request = {"task": spec.task, "folder": str(folder.path), "store": store}
    answer = _call("prepare_task", request, folder.logs / "prepare_task.log")
    if "user_error" in answer:
        raise TaskError(answer["user_error"])
    task = PreparedTask.open(Path(answer["folder"]))
    hardware, offers = look()
    facts = TaskFacts(
        format=task.source_format,
        splits=frozenset(name for name, size in task.splits.items() if size),
        cores=_lane_cores(space_file, hardware),
        without={} if "student" in task.manifest.functions else {"student.source": ("factory",)},
    )
    space = resolve(space_file, techniques(), offers, facts)
    setup = Setup(
        task_key=task.fingerprint,
        source_format=task.source_format,
        training_samples=task.splits.get("train", 0),
        reference=reference_for(task.source_format, space),
        hardware=hardware,
        scenario=space.scenario,
        p99_ms=space.p99_ms,
        seed=spec.seed,
        rungs=space.rungs,
        executed_nodes=space.executed_nodes,
        executed_time=space.executed_time,
        stage_timeout_s=space.stage_timeout_s,
        memory_bytes=_bytes(space.stage_memory_gb),
        disk_bytes=_bytes(space.stage_disk_gb),
        install_engines=to_install(spec, space_file),
    )
    # For who reads the job's front, or writes its report again, later or beside it.
    write_json(folder.setup_path, {**to_json(setup), "excluded": to_json(space.excluded)})
    return Prepared(task, space, setup)


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * 1e9)


def reference_for(source_format: str, space: Space) -> Candidate:
    """What everything is compared with: the network as given, in the plainest way to run it, on one thread.

    ``offline`` compares time per sample, so the reference gets the space's largest batch: a small one would flatter. On the first
    hardware of the space, where there are several.
    """
    batch = max(space.batches) if space.scenario == "offline" else 1
    engine = "pytorch" if source_format == "module" else "onnxruntime"
    hardware = named(parse(space.targets[0].hardware)[0], "cpu")
    return Candidate((), Deployment(engine, batch=batch, hardware=hardware))


def _lane_cores(file: SpaceFile, hardware: Mapping[str, Hardware]) -> int:
    """Cores of the smallest lane that the space may use: no deployment has more threads."""
    kinds = {parse(name)[0] for name in file.deployment.hardware}
    named_ = [each.lane for kind, each in hardware.items() if kind in kinds]
    return min(named_ or [each.lane for each in hardware.values()])


def engines_here(log: Path | None = None, install: Iterable[str] = ()) -> dict[str, Offer]:
    """What every engine offers on this node, looked at in a process of its own; what is to be installed and is not, is first."""
    with TemporaryDirectory(prefix="autoopt-") as scratch:
        found = _call("look_at_engines", {"install": list(install)}, log or Path(scratch, "engines.log"))
    return {name: from_json(Offer, data) for name, data in found.items()}


def _call(function: str, request: dict[str, Any], log: Path) -> dict[str, Any]:
    limits = Limits(timeout_s=PREPARE_LIMIT_S, memory_bytes=None, cores=None, threads=1)
    try:
        answer: dict[str, Any] = process.call(
            f"autoopt.search.preparation:{function}",
            request,
            limits,
            PRELOAD[Role.LANE],
            log,
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


def look_at_engines(request: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: what every engine offers here."""
    from autoopt.workers.engines import install_missing, offers

    found: dict[str, Any] = to_json(install_missing(offers(), request["install"]))
    return found


def to_install(spec: JobSpec, file: SpaceFile) -> tuple[str, ...]:
    """The engines that the job may install where they are missing."""
    return tuple(file.deployment.engine) if spec.options.get("install_engines") else ()
