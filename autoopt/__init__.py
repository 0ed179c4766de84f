"""Find the accuracy-latency Pareto front of a trained network on your hardware.

Everything public is here, and is loaded when it is first used: ``import autoopt`` costs milliseconds, and ``autoopt.load``
needs neither torch nor Ray nor Optuna.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoopt.bundle.load import Model, load
    from autoopt.bundle.verify import Verdict, verify
    from autoopt.errors import (
        AutooptError,
        BudgetError,
        BundleError,
        ClusterError,
        JobError,
        SpaceError,
        StageError,
        StoreError,
        StudyError,
        TaskError,
        UserError,
    )
    from autoopt.front import Config, Front, Pick
    from autoopt.jobs.job import Job, JobResult
    from autoopt.jobs.submit import find as job
    from autoopt.jobs.submit import listed as jobs
    from autoopt.jobs.submit import resume, search, submit
    from autoopt.task import Task

    __version__: str

__all__ = [
    "AutooptError",
    "BudgetError",
    "BundleError",
    "ClusterError",
    "Config",
    "Front",
    "Job",
    "JobError",
    "JobResult",
    "Model",
    "Pick",
    "SpaceError",
    "StageError",
    "StoreError",
    "StudyError",
    "Task",
    "TaskError",
    "UserError",
    "Verdict",
    "__version__",
    "job",
    "jobs",
    "load",
    "resume",
    "search",
    "submit",
    "verify",
]

_HOMES = {
    "autoopt.bundle": ("Model", "Verdict", "load", "verify"),
    "autoopt.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "autoopt.front": ("Config", "Front", "Pick"),
    "autoopt.jobs": ("Job", "JobResult", "job", "jobs", "resume", "search", "submit"),
    "autoopt.task": ("Task",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    """Keeps ``autoopt.search`` and ``autoopt.jobs`` functions: Python binds a package's submodules to it as they are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("autoopt")
    elif name in _HOME:
        found = getattr(import_module(_HOME[name]), name)
    else:
        message = f"module 'autoopt' has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
