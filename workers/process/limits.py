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
    disk_bytes: int | None = None
    """Of files in these folders and in the call's own one for temporary files; None is no limit."""
    folders: tuple[str, ...] = ()
    cores: tuple[int, ...] | None = None
    """The logical processors to pin to; None leaves what the warmed parent has."""
    exclusive: bool = False
    """Whether its cores are lent to nobody while it runs."""
    spare: tuple[int, ...] = ()
    """Processors to run on as well while no exclusive call of the same warmed parent has them as its own."""
    background: bool = False
    """Whether it gets only what nobody else wants of its cores (Linux' SCHED_IDLE)."""
    threads: int = 1
    """For the environment variables that numerical libraries read, and for ``torch.set_num_threads``."""


@dataclass(frozen=True)
class Preload:
    """What a warmed parent imports once, so that its calls need not; modules that are not installed are left out."""

    first: tuple[str, ...] = ()
    """Before it takes a call."""
    later: tuple[str, ...] = ()
    """In this order, one at a time, whenever it has nothing else to do."""
    engine: str | None = None
    """The engine in whose own Python environment all of this happens; None for the caller's."""
