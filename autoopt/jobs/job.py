"""A job as its user holds it: ask how it stands, wait for it, cancel it, let it go on. Any process may."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.errors import JobError
from autoopt.jobfolder import JobFolder, JobSpec, JobState, JobStatus, ProcessMark, Progress
from autoopt.jobs import launch

if TYPE_CHECKING:
    from autoopt.front import Front, Pick

POLL_S = 0.2
# Cancelling: politely (the best so far is written), then firmly, then for good; 10 s in all.
POLITE_S, FIRM_S, LAST_S = 7.0, 1.5, 1.0


@dataclass(frozen=True)
class JobResult:
    """What a job has left, at its end or so far."""

    folder: Path
    status: JobStatus
    message: str
    """Why it ended, where it was not its budget."""
    front: Front | None
    """None where it ended before the reference was measured."""
    report_path: Path | None
    bundle_path: Path | None
    """The recommended config, as `autoopt.load` takes it."""
    progress: Progress

    def pick(
        self,
        max_accuracy_drop: float | None = None,
        max_latency_ms: float | None = None,
        max_size_mb: float | None = None,
        min_accuracy: float | None = None,
    ) -> Pick:
        """See `Front.pick`.

        Raises:
            JobError: there is no front.
        """
        if self.front is None:
            message = f"{self.folder} has no front yet ({self.status}: {self.message or 'nothing measured'}); resume it"
            raise JobError(message)
        return self.front.pick(max_accuracy_drop, max_latency_ms, max_size_mb, min_accuracy)


@dataclass(frozen=True)
class Job:
    """One search."""

    folder: JobFolder
    study: str | None = field(default=None, repr=False, compare=False)
    """The URL of its study with the password, if that was given; see `autoopt.job`."""

    @property
    def id(self) -> str:
        """Its name: the folder's."""
        return self.folder.path.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def spec(self) -> JobSpec:
        """What was asked."""
        return self.folder.spec()

    def state(self) -> JobState:
        """How it stands."""
        return self.folder.state()

    def status(self) -> JobStatus:
        """How it stands, in a word; a job whose process is gone is interrupted."""
        return self.state().status

    def progress(self) -> Progress:
        """How far it is."""
        return self.state().progress

    @property
    def front(self) -> Front | None:
        """The best so far, as the study has it; None until the reference has been measured.

        Raises:
            UserError, StudyError: the study is in a database that cannot be used, or its password is not known here.
        """
        from autoopt.jobs.stored import stored_front

        return stored_front(self.folder, self.study)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """The lines of its log; with ``follow`` until it has ended."""
        if not self.folder.log_path.exists():
            return
        with self.folder.log_path.open(encoding="utf-8", errors="replace") as file:
            while True:
                # Asked before reading: what it printed last is read after it has ended.
                ended = self.status().ended
                yield from (line.rstrip("\n") for line in file)
                if ended or not follow:
                    return
                time.sleep(POLL_S)

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """Wait until it has ended.

        Raises:
            TimeoutError: it has not, within so many seconds. It goes on.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while not (status := self.status()).ended:
            if ends is not None and time.monotonic() >= ends:
                message = f"{self.path} is still {status} after {timeout_s:g} s"
                raise TimeoutError(message)
            time.sleep(POLL_S)
        return status

    def result(self, timeout_s: float | None = None) -> JobResult:
        """Wait for it, then what it has left; for one that was stopped, the best so far.

        Raises:
            JobError: it failed; the message says why, and where its log is.
            TimeoutError: see `wait`.
        """
        if self.wait(timeout_s) is JobStatus.FAILED:
            message = f"{self.path} failed. {self.state().message}\nIts log is {self.folder.log_path}"
            raise JobError(message)
        return self.result_so_far()

    def result_so_far(self) -> JobResult:
        """What it has left until now, however it stands."""
        return result_of(self.folder, self.front)

    def cancel(self) -> JobStatus:
        """End it within 10 seconds, its best so far on disk if there is time for that. It can be resumed.

        Raises:
            JobError: it runs on another machine.
        """
        state = self.state()
        if state.status.ended:
            return state.status
        if state.process is not None:
            self._end(state.process)
        status = self.folder.state().status
        if status in {JobStatus.DONE, JobStatus.FAILED}:
            return status  # it was faster
        return self.folder.update(status=JobStatus.CANCELLED, message="cancelled; it can be resumed").status

    def _end(self, process: ProcessMark) -> None:
        if process.alive() is None:
            message = f"{self.path} runs on {process.host}; cancel it there"
            raise JobError(message)
        for number, patience_s in ((signal.SIGINT, POLITE_S), (signal.SIGTERM, FIRM_S)):
            launch.ask_to_end(process, number)
            if _gone(process, patience_s):
                return
        launch.kill(process)
        _gone(process, LAST_S)

    def resume(self, *, budget: str | None = None) -> Job:
        """Let it go on in the background; nothing that is finished is done twice.

        Args:
            budget: a larger one, for a job that has used its own.

        Raises:
            JobError: it runs, or is done and was given no larger budget.
            UserError, StudyError: the database of its study cannot be used, or its password is not known here.
        """
        from autoopt.jobs.submit import make_ready

        launch.start(self.folder, make_ready(self.folder, budget, self.study))
        return self


def _gone(process: ProcessMark, patience_s: float) -> bool:
    ends = time.monotonic() + patience_s
    while process.alive():
        if time.monotonic() >= ends:
            return False
        time.sleep(POLL_S / 4)
    return True


def result_of(folder: JobFolder, front: Front | None) -> JobResult:
    """The result, with a front that is known already."""
    state = folder.state()
    return JobResult(
        folder=folder.path,
        status=state.status,
        message=state.message,
        front=front,
        report_path=folder.report_path if folder.report_path.exists() else None,
        bundle_path=folder.bundle_path if folder.bundle_path.exists() else None,
        progress=state.progress,
    )
