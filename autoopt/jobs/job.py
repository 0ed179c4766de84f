"""A job as its user holds it: ask how it stands, wait for it, cancel it, let it go on. Any process may."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.errors import JobError
from autoopt.jobfolder import JobFolder, JobSpec, JobState, JobStatus, Progress

if TYPE_CHECKING:
    from autoopt.front import Front, Pick


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

    @classmethod
    def of(cls, folder: JobFolder, state: JobState, front: Front | None) -> JobResult:
        """What lies in a job's folder."""
        return cls(
            folder=folder.path,
            status=state.status,
            message=state.message,
            front=front,
            report_path=folder.report_path if folder.report_path.exists() else None,
            bundle_path=folder.bundle_path if folder.bundle_path.exists() else None,
            progress=state.progress,
        )

    def pick(
        self,
        max_accuracy_drop: float | None = None,
        max_latency_ms: float | None = None,
        max_size_mb: float | None = None,
        min_accuracy: float | None = None,
        *,
        max_memory_mb: float | None = None,
        max_load_s: float | None = None,
        min_rate: float | None = None,
    ) -> Pick:
        """See `Front.pick`.

        Raises:
            JobError: there is no front.
        """
        if self.front is None:
            message = f"{self.folder} has no front yet ({self.status}: {self.message or 'nothing measured'}); resume it"
            raise JobError(message)
        return self.front.pick(
            max_accuracy_drop,
            max_latency_ms,
            max_size_mb,
            min_accuracy,
            max_memory_mb=max_memory_mb,
            max_load_s=max_load_s,
            min_rate=min_rate,
        )


class Job(ABC):
    """One search: on this machine, or on a cluster."""

    @property
    @abstractmethod
    def id(self) -> str:
        """Its name."""

    @property
    @abstractmethod
    def reference(self) -> str:
        """What commands of the shell take: its folder, or its name and the cluster's address."""

    @property
    @abstractmethod
    def spec(self) -> JobSpec:
        """What was asked."""

    @abstractmethod
    def state(self) -> JobState:
        """How it stands; a job that nobody works at any more is interrupted."""

    @property
    @abstractmethod
    def front(self) -> Front | None:
        """The best so far; None until the reference has been measured."""

    @abstractmethod
    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """The lines of its log; with ``follow`` until it has ended."""

    @abstractmethod
    def result_so_far(self) -> JobResult:
        """What it has left until now, however it stands."""

    @abstractmethod
    def cancel(self) -> JobStatus:
        """End it within 10 seconds, its best so far on disk if there is time for that. It can be resumed."""

    @abstractmethod
    def resume(self, *, budget: str | None = None) -> Job:
        """Let it go on in the background; nothing that is finished is done twice.

        Args:
            budget: a larger one, for a job that has used its own.

        Raises:
            JobError: it runs, or is done and was given no larger budget.
        """

    @property
    @abstractmethod
    def log_place(self) -> str:
        """Where its log is, for people."""

    @property
    @abstractmethod
    def poll_s(self) -> float:
        """How often it is worth asking."""

    def status(self) -> JobStatus:
        """How it stands, in a word."""
        return self.state().status

    def progress(self) -> Progress:
        """How far it is."""
        return self.state().progress

    def wait(self, timeout_s: float | None = None) -> JobStatus:
        """Wait until it has ended.

        Raises:
            TimeoutError: it has not, within so many seconds. It goes on.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while not (status := self.status()).ended:
            if ends is not None and time.monotonic() >= ends:
                message = f"{self.reference} is still {status} after {timeout_s:g} s"
                raise TimeoutError(message)
            time.sleep(self.poll_s)
        return status

    def watch(self) -> Iterator[JobState]:
        """Its state whenever that has changed, until it has ended; the last one is how it ended."""
        shown: JobState | None = None
        while True:
            state = self.state()
            if state != shown:
                yield state
                shown = state
            if state.status.ended:
                return
            time.sleep(self.poll_s)

    def result(self, timeout_s: float | None = None) -> JobResult:
        """Wait for it, then what it has left; for one that was stopped, the best so far.

        Raises:
            JobError: it failed; the message says why, and where its log is.
            TimeoutError: see `wait`.
        """
        if self.wait(timeout_s) is JobStatus.FAILED:
            message = f"{self.reference} failed. {self.state().message}\nIts log is {self.log_place}"
            raise JobError(message)
        return self.result_so_far()

    def check_resumable(self, budget: str | None) -> None:
        """Nothing where it can go on.

        Raises:
            JobError: it runs, or is done and was given no larger budget.
            BudgetError: the budget cannot be used.
        """
        status = self.status()
        if not status.ended:
            message = f"{self.reference} is {status} already; `autoopt watch {self.reference}` shows it"
            raise JobError(message)
        if status is JobStatus.DONE and budget is None:
            message = f"{self.reference} is done: it has used its budget ({self.spec.budget}). Give a larger one (--budget) to go on"
            raise JobError(message)
        if budget is not None:
            from autoopt.search.budget import parse_budget

            parse_budget(budget)
