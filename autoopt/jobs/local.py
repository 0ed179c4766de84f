"""A job of this machine: a folder, and a process that works at it."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from autoopt.errors import JobError
from autoopt.jobfolder import JobFolder, JobSpec, JobState, JobStatus, ProcessMark, write_json
from autoopt.jobs import launch
from autoopt.jobs.job import Job, JobResult
from autoopt.records import to_json
from autoopt.search.study_url import StudyUrl, known_study

if TYPE_CHECKING:
    from autoopt.front import Front

POLL_S = 0.2
# Cancelling: politely (the best so far is written), then firmly, then for good; 10 s in all.
POLITE_S, FIRM_S, LAST_S = 7.0, 1.5, 1.0


@dataclass(frozen=True)
class LocalJob(Job):
    """A job in a folder of this machine."""

    folder: JobFolder
    study: str | None = field(default=None, repr=False, compare=False)
    """The URL of its study with the password, if that was given; see `autoopt.job`."""
    poll_s: ClassVar[float] = POLL_S

    @property
    def id(self) -> str:
        """Its name: the folder's."""
        return self.folder.path.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def reference(self) -> str:
        """Its folder, as a shell takes it."""
        return shlex.quote(str(self.folder.path))

    @property
    def log_place(self) -> str:
        """The file."""
        return str(self.folder.log_path)

    @property
    def spec(self) -> JobSpec:
        """What was asked."""
        return self.folder.spec()

    def state(self) -> JobState:
        """How it stands."""
        return self.folder.state()

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

    def result_so_far(self) -> JobResult:
        """What it has left until now, however it stands."""
        return JobResult.of(self.folder, self.state(), self.front)

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

    def resume(self, *, budget: str | None = None) -> LocalJob:
        """Let it go on in the background; nothing that is finished is done twice.

        Args:
            budget: a larger one, for a job that has used its own.

        Raises:
            JobError: it runs, or is done and was given no larger budget.
            UserError, StudyError: the database of its study cannot be used, or its password is not known here.
        """
        launch.start(self.folder, self.make_ready(budget))
        return self

    def make_ready(self, budget: str | None) -> StudyUrl | None:
        """Check that it can go on, and give it the larger budget; where its study is.

        Raises:
            JobError: it runs, or is done and was given no larger budget.
            BudgetError: the budget cannot be used.
            UserError: another study was given than the job's.
            StudyError: its database refuses.
        """
        self.check_resumable(budget)
        where = known_study(self.spec.study, self.study)
        if where is not None:
            from autoopt.search.storage import check_study

            check_study(where)
        if budget is not None:
            write_json(self.folder.spec_path, to_json(replace(self.spec, budget=budget)))
        process = self.state().process
        if process is not None:
            launch.sweep(process)
        self.folder.update(status=JobStatus.SUBMITTED, process=ProcessMark.of(os.getpid()), message="")
        return where


def _gone(process: ProcessMark, patience_s: float) -> bool:
    ends = time.monotonic() + patience_s
    while process.alive():
        if time.monotonic() >= ends:
            return False
        time.sleep(POLL_S / 4)
    return True
