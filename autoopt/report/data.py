"""What a report is made of: everything a job knows at its end, or at the moment when it was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from autoopt.front import Config, Front, Pick
from autoopt.records import Candidate, Environment, Measured, Outcome


@dataclass(frozen=True)
class TaskFacts:
    """What was optimized."""

    name: str
    metric: str
    splits: Mapping[str, int]
    """The samples of each split."""
    about: str = ""
    """One line about the network, such as its class and how many parameters it has."""


@dataclass(frozen=True)
class Row:
    """A candidate and how it ended."""

    number: int
    candidate: Candidate
    outcome: Outcome


@dataclass(frozen=True)
class Exclusion:
    """A choice of the space that was never sampled."""

    what: str
    """``tensorrt``, ``int8 in torchscript``, …"""
    why: str
    remedy: str = ""
    """The command or the change that would bring it in; empty where there is none."""


@dataclass(frozen=True)
class ReportData:
    """A job, ready to be shown. Needs neither the job's folder nor its store."""

    job: str
    task: TaskFacts
    space: str
    scenario: str
    """"single_stream" or "offline"."""
    budget: str
    """In words: ``10 minutes``, ``60 candidates``."""
    started_at: float
    """Seconds since the epoch."""
    ended_at: float
    complete: bool
    """False where the job was interrupted: then the report holds the best so far."""
    front: Front | None
    """None where not even the reference was measured."""
    rows: tuple[Row, ...]
    """Every candidate that was decided, in the order of the search."""
    environment: Environment
    exclusions: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader should know about the job, in words."""
    pick: Pick | None = None
    """The recommended config; the fastest within one point where the job names none."""
    quantizers: frozenset[str] = frozenset()
    """The techniques that make a precision possible: in the waterfall they and the precision are one choice."""
    command: str = ""
    """The shell's command that repeats the job."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Further lines of the environment's table."""

    @cached_property
    def recommended(self) -> Pick | None:
        """`pick`, or the fastest config within one point of the reference; None without a front."""
        if self.pick is not None or self.front is None:
            return self.pick
        return self.front.recommended

    @cached_property
    def configs(self) -> tuple[Config, ...]:
        """Every measured candidate, with its test measurement where it was confirmed, in the order of the search."""
        known = {} if self.front is None else {config.id: config for config in self.front.all_configs}
        measured = {
            row.candidate.id: Config(row.candidate, row.outcome.measurement, None, row.outcome.artifact_key, row.number)
            for row in self.rows
            if isinstance(row.outcome, Measured)
        }
        return tuple(sorted((measured | known).values(), key=lambda config: config.number))
