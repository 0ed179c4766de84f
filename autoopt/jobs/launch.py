"""Start a job's process in the background, in a session of its own: it outlives the shell and the notebook."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

from autoopt import interpreter
from autoopt.errors import JobError
from autoopt.jobfolder import JobFolder, JobStatus, ProcessMark
from autoopt.jobs import execute
from autoopt.search.study_url import VARIABLE, StudyUrl
from autoopt.workers.store.opening import STORE


def start(folder: JobFolder, study: StudyUrl | None = None, store: str | None = None) -> None:
    """Start the job's process; returns as soon as it exists. What it prints goes to the job's log.

    Args:
        folder: the job's.
        study: its study's database, with the password; None where it is in the folder.
        store: its store, where its address has a password; None where the job's files have all of it.

    Raises:
        JobError: the system starts no further process.
    """
    folder.logs.mkdir(exist_ok=True)
    command = interpreter.command("autoopt.jobs.run:main", str(folder.path), execute.CONTROLLER)
    try:
        with folder.log_path.open("a") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(study, store),
            )
    except OSError as error:
        folder.update(status=JobStatus.FAILED, message=f"its process could not be started: {error}")
        message = (
            f"the process of {folder.path} could not be started: {error}; `autoopt resume {folder.path}` tries again"
        )
        raise JobError(message) from error
    _introduce(folder, process.pid)
    # Somebody has to take note of its end, or it stays as a zombie for as long as this process lives.
    threading.Thread(target=process.wait, name=f"job {folder.path.name}", daemon=True).start()


def _environment(study: StudyUrl | None, store: str | None) -> dict[str, str]:
    """Ours, with this job's study and nobody else's."""
    inherited = {name: value for name, value in interpreter.environment().items() if name != VARIABLE}
    known = {VARIABLE: study and study.full, STORE: store}
    return inherited | {"PYTHONUNBUFFERED": "1"} | {name: value for name, value in known.items() if value}


def _introduce(folder: JobFolder, pid: int) -> None:
    """Say which process the job's is until it says so itself: one that dies early must be noticed."""
    mark = ProcessMark.of(pid)  # first: what a process that is gone has said is its last word
    if folder.state().status is not JobStatus.SUBMITTED:
        return
    if mark is None:
        folder.update(status=JobStatus.INTERRUPTED, message=f"its process ended at once; see {folder.log_path}")
    else:
        folder.update(process=mark)


def ask_to_end(mark: ProcessMark, signal_number: int) -> None:
    """Send a signal to a job's process alone: what works for it is ended by it, in good order."""
    if mark.alive() is True:
        with contextlib.suppress(ProcessLookupError):  # it ended in between
            os.kill(mark.pid, signal_number)


def kill(mark: ProcessMark) -> None:
    """Kill a job's process, and its group where that is its own: Ray and its workers."""
    if mark.alive() is not True:
        return
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(mark.pid) == mark.pid:
            os.killpg(mark.pid, signal.SIGKILL)
        else:
            os.kill(mark.pid, signal.SIGKILL)


def sweep(mark: ProcessMark) -> None:
    """Kill what a background job that was killed has left running: two of Ray's agents outlive everything else.

    They are known by their session, which was the job's own: its number is not given to another process as long as
    anything of the session lives.
    """
    me = ProcessMark.of(os.getpid())
    rebooted = me is None or me.boot_id != mark.boot_id
    if rebooted or mark.alive() is not False or ProcessMark.of(mark.pid) is not None:
        return
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended in between, or is not ours
            if os.getsid(int(path.name)) == mark.pid:
                os.kill(int(path.name), signal.SIGKILL)
