"""The driver of a job on a cluster: ``python -m autoopt.jobs.drive``, in the folder of the job's package, as a Ray job.

The job's folder is ``jobs/<name>/`` of the store: in place where the store is a folder, else in a folder of this machine that is
copied to the store as it changes, and back where the job goes on elsewhere.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from autoopt.cluster.travel import send_only
from autoopt.errors import AutooptError, JobError
from autoopt.jobfolder import JobFolder, JobSpec, JobStatus, create, write_json
from autoopt.jobs import package
from autoopt.jobs.clustered import CODE, OURS, attempt_name
from autoopt.jobs.execute import CONTROLLER, Extras, execute
from autoopt.jobs.mirror import Mirror
from autoopt.jobs.run import CALLBACKS, saved_callbacks
from autoopt.records import to_json
from autoopt.search import code
from autoopt.search.study_url import VARIABLE, StudyUrl, parse_study
from autoopt.task.imports import Imports
from autoopt.workers.store import LocalStore, Store, address_of, open_store


def main(controller: str = CONTROLLER) -> int:
    """Drive the job of this folder's package to its end; 0 where it has used its budget."""
    try:
        return _drive(controller)
    except AutooptError as error:
        traceback.print_exc()  # into the log; the last line is what people are shown
        print(f"{OURS}{error}", file=sys.stderr, flush=True)
        return 1


def _drive(controller: str) -> int:
    here = Path.cwd()
    request = package.take_request(here)
    os.environ.update(request.secrets)
    # Out of the environment, for this process starts others.
    given = os.environ.pop(VARIABLE, None)
    study = None if given is None else parse_study(given)
    spec = _settled(request)
    place = spec.options.get("code")
    send_only(None if place is None else Path(place))
    store = open_store(address_of(spec.store))
    name = spec.name
    with _folder_of(name, store) as (folder, mirror):
        if folder.exists():
            write_json(folder.spec_path, to_json(replace(folder.spec(), budget=spec.budget, address=spec.address)))
        else:
            _new(folder, spec, here, store, study)
        folder.update(attempt=attempt_name(name, request.attempt), status=JobStatus.SUBMITTED, message="")
        _check_version(request.spec, folder)
        with mirror, _tee(folder):
            extras = Extras(**saved_callbacks(folder.path), study=study)
            execute(folder, extras, controller, when_stopped=JobStatus.CANCELLED)
        return 0 if folder.state().status is JobStatus.DONE else 1


def _settled(request: package.Request) -> JobSpec:
    """The code at its place, and the request with the paths that it has there."""
    spec = request.spec
    place = code.place_of(request.code, os.getuid()) if request.code else None
    if place is None:
        return spec
    code.settle([str(place)])
    options = {**spec.options, "code": str(place)}
    if spec.task == "task.pkl":
        return replace(spec, options={**options, "imports": to_json(Imports((str(place),), {}))})
    file, _, attribute = spec.task.rpartition(":")
    return replace(spec, task=f"{place / file}:{attribute}", options=options)


def _new(folder: JobFolder, spec: JobSpec, here: Path, store: Store, study: StudyUrl | None) -> None:
    """The folder of a job that begins, with its code: from there it goes on where the cluster has forgotten it."""
    create(folder.path, spec)
    for name in (folder.task_pickle.name, CALLBACKS):
        if (here / package.OWN / name).exists():
            shutil.copy(here / package.OWN / name, folder.path / name)
    store.files.write(f"jobs/{spec.name}/{CODE}", package.zipped(here))
    if study is not None:
        from autoopt.search.storage import begin_study

        begin_study(study, spec.name)


def _check_version(asked: JobSpec, folder: JobFolder) -> None:
    ours = metadata.version("autoopt")
    if asked.version != ours:
        message = f"the job was submitted by autoopt {asked.version}, and the cluster has {ours}; install the same on both sides"
        folder.update(status=JobStatus.FAILED, message=message)
        raise JobError(message)


@contextmanager
def _folder_of(name: str, store: Store) -> Iterator[tuple[JobFolder, Any]]:
    """The job's folder, and what keeps the store informed of it."""
    home = f"jobs/{name}"
    if isinstance(store, LocalStore):
        with store.errors():
            yield JobFolder(store.root / home), _nothing()
        return
    state = Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "autoopt"
    folder = JobFolder(state / home)
    mirror = Mirror(folder.path, store.files, home)
    mirror.pull()
    try:
        yield folder, mirror
    finally:
        mirror.push()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _tee(folder: JobFolder) -> Iterator[None]:
    """What is printed goes to Ray's log, and also to a file: the cluster forgets its logs with its head."""
    folder.logs.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    kept = os.dup(1), os.dup(2)

    def copy() -> None:
        with os.fdopen(reader, "rb", buffering=0) as source, folder.log_path.open("ab", buffering=0) as file:
            while data := source.read(1 << 16):
                with suppress(OSError):  # a full disk must not stop who prints
                    file.write(data)
                os.write(kept[0], data)

    thread = threading.Thread(target=copy, name="log", daemon=True)
    thread.start()
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
        # Who was started by us may still hold the pipe's other end.
        thread.join(timeout=1.0)


if __name__ == "__main__":
    sys.exit(main())
