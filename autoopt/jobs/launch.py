"""Start a job's process in the background, in a session of its own: it outlives the shell and the notebook."""

from __future__ import annotations

import os
import subprocess
import threading

from autoopt import interpreter
from autoopt.jobfolder import JobFolder, JobStatus, ProcessMark
from autoopt.jobs import execute


def start(folder: JobFolder) -> None:
    """Start the job's process; returns as soon as it exists. What it prints goes to the job's log."""
    folder.logs.mkdir(exist_ok=True)
    command = interpreter.command("autoopt.jobs.run:main", str(folder.path), execute.CONTROLLER)
    with folder.log_path.open("a") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=interpreter.environment() | {"PYTHONUNBUFFERED": "1"},
        )
    mark = ProcessMark.of(process.pid)
    # The process itself says that it runs; until then it is known by this, so that one that dies early is noticed.
    state = folder.state()
    if mark is not None and state.status is not JobStatus.RUNNING:
        folder.update(process=mark)
    # Somebody has to take note of its end, or it stays as a zombie for as long as this process lives.
    threading.Thread(target=process.wait, name=f"job {folder.path.name}", daemon=True).start()


def end(mark: ProcessMark, signal_number: int) -> None:
    """Send a signal to a job's process, and to its group where the group is its own."""
    if mark.alive() is not True:
        return
    try:
        if os.getpgid(mark.pid) == mark.pid:
            os.killpg(mark.pid, signal_number)
        else:
            os.kill(mark.pid, signal_number)
    except ProcessLookupError:
        return  # it ended in between
