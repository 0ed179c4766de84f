"""Every error that autoopt raises, in one tree.

::

    AutooptError
    ├── UserError               what was given cannot be used; raised before any work starts
    │   ├── TaskError           the task's network, data or metric
    │   ├── SpaceError          the search space's file
    │   ├── BudgetError         the budget
    │   ├── JobError            no such job, or not in a state that allows this
    │   ├── ClusterError        a cluster that cannot be reached, started or used as it is
    │   ├── BundleError         a bundle that is damaged, not a bundle, or needs an engine that is not here
    │   └── EngineError         an engine that cannot be installed
    ├── StageError              a stage failed; becomes the candidate's outcome (its ``kind`` is a `FailureKind`)
    ├── StoreError              the store cannot be read or written (disk full, no rights); the job stops and can be resumed
    └── StudyError              the study's database cannot be used; a job that runs stops and can be resumed

A `UserError` says three things: what was given, what is allowed, and what to do next.
"""

from __future__ import annotations

from enum import StrEnum


class AutooptError(Exception):
    """The root of the tree."""


class UserError(AutooptError):
    """Input that cannot be used. The message says what was given, what is allowed and what to do."""


class TaskError(UserError):
    """The task's network, data, metric or example cannot be used."""


class SpaceError(UserError):
    """The search space's file cannot be used."""


class BudgetError(UserError):
    """The budget cannot be used."""


class JobError(UserError):
    """There is no such job, or it is not in a state that allows what was asked."""


class ClusterError(UserError):
    """The cluster cannot be reached, lets nobody in without the right token, is of another version, or cannot be started so."""


class BundleError(UserError):
    """The folder is not a bundle, is damaged, or needs an engine that is not installed here."""


class EngineError(UserError):
    """An engine cannot be installed."""


class StoreError(AutooptError):
    """The store cannot be read or written. The job stops cleanly and can be resumed."""


class StudyError(AutooptError):
    """The study's database cannot be reached, read or written. A job that runs stops cleanly and can be resumed."""


class FailureKind(StrEnum):
    """Why a stage failed: the rows of the report's census."""

    UNSUPPORTED = "unsupported"
    """The technique or engine says that it cannot take this network (an operator, a shape, a format)."""
    DISAGREEMENT = "disagreement"
    """The artifact's outputs are not those of the network it was built from."""
    NOT_AS_ASKED = "not as asked"
    """Threads, precision or device that really ran are not what was asked: a silent fallback."""
    OVER_BOUND = "over the bound"
    """As a server it answers too late at any rate of requests."""
    DIVERGED = "diverged"
    """Training or inference gave NaN or infinity."""
    CRASHED = "crashed"
    """The stage's process died by a signal."""
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_SPACE = "out of space"
    """It wrote more than a stage may."""
    ERROR = "error"
    """Any other exception."""
    INTERRUPTED = "interrupted"
    """The node, the worker or the job went away: not the candidate's fault, tried again."""

    @property
    def transient(self) -> bool:
        """Whether the same stage may well succeed if it is tried again."""
        return self is FailureKind.INTERRUPTED


class StageError(AutooptError):
    """A stage failed. ``log`` holds the end of what its process printed."""

    def __init__(self, kind: FailureKind, message: str, log: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.log = log

    def __reduce__(self) -> tuple[type[StageError], tuple[FailureKind, str, str]]:
        # The default would call the constructor with the message alone when the error crosses a process.
        return (type(self), (self.kind, self.message, self.log))
