"""Send a job to a cluster: everything that can be checked from here is checked before it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.cluster.nodes import NodeView, nodes
from autoopt.errors import ClusterError, SpaceError, TaskError, UserError
from autoopt.jobfolder import JobSpec
from autoopt.jobs.clustered import ClusterJob
from autoopt.jobs.execute import Extras
from autoopt.jobs.gateway import reach
from autoopt.jobs.specify import new_spec
from autoopt.search.study_url import SQLITE, StudyUrl
from autoopt.space import parse_space
from autoopt.space.kinds import missing_kinds, no_such_hardware
from autoopt.workers.store import default_store, full_address, is_url, masked

if TYPE_CHECKING:
    from autoopt.task import LoadedTask, Task


def send(
    task: str | Path | Task,
    space: str | Path,
    budget: str | int | timedelta | Mapping[str, float],
    *,
    name: str | None,
    results: str | Path,
    asked: Mapping[str, Any],
    extras: Extras,
) -> ClusterJob:
    """Begin a job on a cluster; see `autoopt.submit`.

    A task's file is not imported here: a client needs neither torch nor the data. ``asked`` is that of `new_spec`, with the
    cluster's "address" and the "code" that travels.

    Raises:
        UserError: what was given cannot be used, or the cluster cannot be reached.
    """
    gateway, code = reach(asked["address"]), asked.get("code")
    asked = {**asked, "address": gateway.address, "store": asked.get("store") or default_store()}
    spec, loaded = new_spec(task, space, budget, name=name, asked=asked, import_task=False)
    _check_nodes(nodes(gateway.address), spec)
    store, pickle = full_address(asked["store"]), None
    study: StudyUrl | None = asked.get("study")
    _check_study(study, store)
    if loaded is not None and loaded.ref is None:
        pickle = _pickled(loaded)
        folder = None if code is None else _folder(code)
    else:
        file, _, attribute = spec.task.rpartition(":")
        folder = _folder(code) if code is not None else Path(file).parent
        spec = replace(spec, task=f"{_inside(Path(file), folder)}:{attribute}")
    job = ClusterJob(gateway, spec.name, store, Path(results))
    job.submit(spec, folder, study, pickle, extras)
    return job


def _check_nodes(nodes: Sequence[NodeView], spec: JobSpec) -> None:
    """See that the nodes can do what is asked: the driver would say the same, a minute later.

    Raises:
        ClusterError: a node has another version of autoopt, or there is none that can measure.
        SpaceError: the space names hardware that no node is of.
    """
    alive = [node for node in nodes if node.alive]
    for node in alive:
        if node.autoopt and node.autoopt != spec.version:
            message = (
                f"the node {node.address} has autoopt {node.autoopt}, and this client {spec.version}; install the same on all "
                "(`autoopt doctor --address` compares them)"
            )
            raise ClusterError(message)
    kinds = {node.kind for node in alive if node.lane is not None and node.lane.total}
    file = parse_space(spec.space_text, spec.space)
    missing = missing_kinds(file, kinds)
    if missing and not spec.options.get("wait"):
        raise SpaceError(no_such_hardware(file.name, missing, kinds))


def _folder(code: str | Path) -> Path:
    folder = Path(code).expanduser().absolute()
    if not folder.is_dir():
        message = f"the code {code} is no folder; name the one that holds the task's file and all that it imports"
        raise TaskError(message)
    return folder


def _inside(file: Path, folder: Path) -> Path:
    if not file.is_relative_to(folder):
        message = f"the task's file {file} is not in the code's folder {folder}, and would not travel with it"
        raise TaskError(message)
    return file.relative_to(folder)


def _pickled(loaded: LoadedTask) -> bytes:
    """The task with all code of the user's in it: there is no file of his on the cluster.

    Raises:
        TaskError: it cannot be pickled.
    """
    import tempfile

    from autoopt.task import save_task

    with _by_value(), tempfile.TemporaryDirectory(prefix="autoopt-task-") as folder:
        path = Path(folder, "task.pkl")
        save_task(loaded, path)
        return path.read_bytes()


@contextmanager
def _by_value() -> Iterator[None]:
    """Within the context, nothing of the user's own modules is pickled by reference."""
    import sys

    import cloudpickle

    from autoopt.task.imports import is_installed

    mine = [
        module
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__dict__", {}).get("__file__"))
        and name != "__main__"
        and not name.startswith("autoopt.")
        and name != "autoopt"
        and not is_installed(file)
    ]
    for module in mine:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in mine:
            cloudpickle.unregister_pickle_by_value(module)


def _check_study(study: StudyUrl | None, store: str) -> None:
    """See that the study outlives the driver's machine, and is not on the client's.

    Raises:
        UserError: it would lie in a folder of the cluster's head alone.
    """
    if study is not None and study.scheme == SQLITE:
        message = (
            f"the study {study} is a file, which the cluster's nodes may not see; give a database server's URL, or none"
        )
        raise UserError(message)
    if study is None and is_url(store) and not store.startswith(("file://", "local://")):
        message = (
            f"with a store at {masked(store)} the study needs a database that outlives the cluster's head: give "
            "study=postgresql+psycopg://user:password@host:5432/database (--study, $AUTOOPT_STUDY)"
        )
        raise UserError(message)
