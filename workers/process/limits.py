"""What a call may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

JSON: TypeAlias = Any
"""Whatever ``json.dumps`` takes."""


@dataclass(frozen=True)
class Limits:
    """What the function and everything that it starts may use."""

    timeout_s: float
    memory_bytes: int | None = None
    """Of anonymous and shared resident memory, summed over the call's processes; None is no limit.

    Mapped files do not count, for they can be dropped; nor does address space, of which runtimes reserve far more than
    they touch.
    """
    cores: tuple[int, ...] | None = None
    """The logical processors to pin to; None leaves what the caller has."""
    background: bool = False
    """Whether it gets only what nobody else wants of its cores (Linux' SCHED_IDLE)."""
    threads: int = 1
    """For the environment variables that numerical libraries read, and for ``torch.set_num_threads``."""
