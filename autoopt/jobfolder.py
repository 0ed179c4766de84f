"""A job's folder: what is known about one search, on disk, so that any process can ask, and none has to be asked.

``job.json`` says what was asked and never changes. ``state.json`` says how far it is; it is replaced atomically, so a
reader sees an old state or a new one, never half of one.

This module stands beside the records, below the search (which writes the progress) and the jobs (which read it).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from autoopt.errors import JobError
from autoopt.records.codec import from_json, to_json
from autoopt.records.job import FrontEntry, JobSpec, JobState, JobStatus, ProcessMark, Progress

__all__ = [
    "FrontEntry",
    "JobFolder",
    "JobSpec",
    "JobState",
    "JobStatus",
    "ProcessMark",
    "Progress",
    "create",
    "now",
    "write_json",
]

T = TypeVar("T")


@dataclass(frozen=True)
class JobFolder:
    """The folder ``results/<job>/`` and the names of what is in it."""

    path: Path

    @property
    def spec_path(self) -> Path:
        """What was asked."""
        return self.path / "job.json"

    @property
    def state_path(self) -> Path:
        """How far it is."""
        return self.path / "state.json"

    @property
    def task_pickle(self) -> Path:
        """The task, where it was given as an object that no file can give again."""
        return self.path / "task.pkl"

    @property
    def setup_path(self) -> Path:
        """What all of its candidates share: the prepared task, the reference, the cores; written before the first."""
        return self.path / "setup.json"

    @property
    def study_path(self) -> Path:
        """The study's journal: the one source of truth about candidates."""
        return self.path / "study.journal"

    @property
    def logs(self) -> Path:
        """The folder of the job's and the stages' logs."""
        return self.path / "logs"

    @property
    def log_path(self) -> Path:
        """The job's own log."""
        return self.logs / "job.log"

    @property
    def front_path(self) -> Path:
        """What the front is made of, for who cannot read the study."""
        return self.path / "front.json"

    @property
    def report_path(self) -> Path:
        """The report for people."""
        return self.path / "report.html"

    @property
    def bundle_path(self) -> Path:
        """The recommended config."""
        return self.path / "bundle"

    def exists(self) -> bool:
        """Whether this is a job's folder."""
        return self.spec_path.is_file()

    def spec(self) -> JobSpec:
        """What was asked.

        Raises:
            JobError: this is no job's folder, or its ``job.json`` is damaged.
        """
        return _read(self.spec_path, JobSpec)

    def state(self) -> JobState:
        """How the job stands; corrected where its process is gone (see `JobState.observed`).

        Raises:
            JobError: this is no job's folder, or its ``state.json`` is damaged.
        """
        if self.exists() and not self.state_path.exists():
            return JobState()
        return _read(self.state_path, JobState).observed()

    def update(self, **changes: Any) -> JobState:
        """Replace fields of the state (status, process, message, progress) and write it; safe from several processes."""
        with self._locked("state.lock", wait=True):
            stored = _read(self.state_path, JobState) if self.state_path.exists() else JobState()
            state = dataclasses.replace(stored, **changes, updated_at=now())
            write_json(self.state_path, to_json(state))
        return state

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the right to run this job; the operating system takes it back when the process dies.

        Raises:
            JobError: another process holds it.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._locked("run.lock", wait=False))
            except BlockingIOError:
                process = self.state().process
                holder = f"process {process.pid}" if process else "another process"
                message = f"{self.path} is being run by {holder} already; `autoopt watch {self.path}` shows it"
                raise JobError(message) from None
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[None]:
        with (self.path / f".{name}").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def create(path: Path, spec: JobSpec) -> JobFolder:
    """Make a new job's folder.

    Raises:
        JobError: there is something of that name already.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        message = (
            f"{path} exists already. `autoopt resume {path}` goes on with that job; "
            "for a new one give another name (--name NAME)"
        )
        raise JobError(message) from None
    folder = JobFolder(path)
    folder.logs.mkdir()
    write_json(folder.spec_path, to_json(spec))
    # Until its own process exists, a job stands and falls with the one that makes it.
    folder.update(status=JobStatus.SUBMITTED, process=ProcessMark.of(os.getpid()))
    return folder


def now() -> str:
    """This moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_json(path: Path, data: Any) -> None:
    """Replace a file atomically: a reader, or a power cut, finds the old text or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(data, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path, kind: type[T]) -> T:
    try:
        return from_json(kind, json.loads(path.read_text()))
    except FileNotFoundError:
        message = f"{path.parent} is not a job's folder: it has no {path.name}. `autoopt jobs` lists the jobs there are"
        raise JobError(message) from None
    except ValueError as error:
        message = f"{path} is damaged: {error}"
        raise JobError(message) from error
