"""A job's nouns: what was asked, how far it is, and which process works at it.

A process is known by its number *and* the moment it began: a job whose process is gone was interrupted, even when the
number has been taken again by a stranger.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from autoopt.records.codec import digest

MARK_LENGTH = 12
"""Characters: names up to this long are shown as they are."""


class JobStatus(StrEnum):
    """Where a job stands."""

    SUBMITTED = "submitted"
    """Its process has been started, or is about to be."""
    RUNNING = "running"
    DONE = "done"
    """The budget is used; front, report and bundle are on disk."""
    FAILED = "failed"
    """It stopped by an error; the state's message says which."""
    INTERRUPTED = "interrupted"
    """Its process went away: Ctrl-C, a kill, a power cut. `autoopt resume` goes on."""
    CANCELLED = "cancelled"
    """Somebody cancelled it. It can be resumed all the same."""

    @property
    def ended(self) -> bool:
        """Whether nothing works at this job any more."""
        return self not in {JobStatus.SUBMITTED, JobStatus.RUNNING}


@dataclass(frozen=True)
class JobSpec:
    """What was asked: enough to run the job in another process, now or after a reboot."""

    name: str
    task: str
    """The task's reference: ``/absolute/file.py:name``, or ``task.pkl`` in the job's folder where it has no file."""
    space: str
    """The name or path that was given."""
    space_text: str
    """The space's YAML as it stood then: a resumed job searches what it searched before."""
    budget: str
    """As given: "10m", "200 candidates", "1h, 200 candidates", …"""
    scenario: str | None = None
    """"single_stream" or "offline"; None leaves it to the space."""
    seed: int = 0
    store: str | None = None
    """The store's folder or URL; None is the user's default one."""
    study: str | None = None
    """The URL of the study's database, passwords masked; None is a journal in the job's folder."""
    address: str | None = None
    """Of the cluster that it runs on; None for one of its own on the machine that it was begun on."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else was given, as JSON values."""
    created_at: str = ""
    """ISO 8601, UTC."""
    version: str = ""
    """autoopt's."""
    schema: int = 1


@dataclass(frozen=True)
class ProcessMark:
    """Which process: its number alone may be taken by another one later."""

    pid: int
    started_ticks: int
    """Clock ticks between the machine's boot and the process's begin."""
    boot_id: str
    host: str

    @staticmethod
    def of(pid: int) -> ProcessMark | None:
        """The mark of a process that exists now on this machine; None where there is none (or it is a zombie)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The second field is the command in parentheses, which may hold spaces and parentheses itself.
        fields = stat.rpartition(")")[2].split()
        state, started_ticks = fields[0], int(fields[19])
        return None if state in "ZX" else ProcessMark(pid, started_ticks, _boot_id(), socket.gethostname())

    def alive(self) -> bool | None:
        """Whether the process still runs; None where it ran on another machine and cannot be seen from here."""
        if self.host != socket.gethostname():
            return None
        return ProcessMark.of(self.pid) == self


@dataclass(frozen=True)
class FrontEntry:
    """One config of the front so far, as shown while a job runs."""

    candidate_id: str
    summary: str
    """`Candidate.describe`."""
    speedup: float
    latency_ms: float
    score: float
    score_drop: float


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    phase: str = "starting"
    """In a word or two: preparing, searching, confirming, reporting, …"""
    measured: int = 0
    eliminated: int = 0
    failed: int = 0
    front: tuple[FrontEntry, ...] = ()
    """By latency, the fastest first."""
    best: FrontEntry | None = None
    """What would be recommended now."""
    metric: str = "score"
    """What the scores are, for people."""
    seconds_used: float = 0.0
    seconds_left: float | None = None
    """None where the budget is no time."""
    dashboard: str | None = None
    """The address of Ray's dashboard."""
    job: str = ""
    """The job's name."""
    running: tuple[str, ...] = ()
    """The stages that are waited for, by the names that Ray's dashboard shows, without the job's `mark`."""
    reference: FrontEntry | None = None
    """What all others are compared with, on the front or not."""
    goal_met: bool = False
    """Whether ``best`` meets the goal of what is recommended; else it is what comes nearest to it."""
    hypervolume: float | None = None
    """`Front.hypervolume` so far."""

    @property
    def decided(self) -> int:
        """Candidates that have ended."""
        return self.measured + self.eliminated + self.failed


@dataclass(frozen=True)
class JobState:
    """How a job stands, as its process last said it."""

    status: JobStatus = JobStatus.SUBMITTED
    process: ProcessMark | None = None
    attempt: str | None = None
    """Of a job on a cluster: the Ray job that last worked at it."""
    message: str = ""
    progress: Progress = field(default_factory=Progress)
    updated_at: str = ""
    schema: int = 1

    def observed(self) -> JobState:
        """The state, corrected where its process is gone without having said so."""
        if self.status.ended or self.process is None or self.process.alive() is not False:
            return self
        message = f"its process {self.process.pid} is gone"
        return dataclasses.replace(self, status=JobStatus.INTERRUPTED, message=message)


def mark(job: str) -> str:
    """A job in a few characters, for the names of its stages: its own name where that is short, else a digest's four digits.

    Generated names end in the time of day, which says nothing; four digits tell the few jobs of a cluster's day apart.
    """
    return job if len(job) <= MARK_LENGTH else digest(job)[:4]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
