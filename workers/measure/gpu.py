"""A GPU while it is measured: nobody else on it, its clock steady before, its state noted after.

A GPU's clock falls when it idles and rises within some hundred milliseconds of work, by a factor of five on data centre GPUs: what is timed at
once is timed at clocks that never come again. What it does while it is timed (clocks, temperature, power, what slows it down) is told by NVML.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from autoopt.records import nvidia
from autoopt.records.nvidia import GpuState

LONGEST_S = 3.0
_STEP_S = 0.2
_STEADY, _SPREAD = 3, 0.01
"""So many readings in a row within so much of the highest."""


class Warmed(Protocol):
    """What can be called for a while: a `Server`."""

    def warm(self, seconds: float) -> float:
        """Call it for so long."""
        ...


@dataclass(frozen=True)
class Told:
    """What is said of a GPU beside a measurement."""

    details: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def warm_up(server: Warmed, state: Callable[[], GpuState | None], clock: Callable[[], float] = time.monotonic) -> float:
    """Call the network until the GPU's clock is steady, `LONGEST_S` at most; the seconds that it took.

    Args:
        server: loaded.
        state: the GPU's, now; where it does not tell its clock, nothing is waited for.
        clock: seconds.
    """
    began, seen = clock(), list[int]()
    while clock() - began < LONGEST_S:
        server.warm(_STEP_S)
        now = state()
        if now is None or now.sm_mhz is None:
            break
        seen.append(now.sm_mhz)
        last = seen[-_STEADY:]
        if len(last) == _STEADY and max(last) - min(last) <= _SPREAD * max(last):
            break
    return clock() - began


def state() -> GpuState | None:
    """The GPU's, now; None where there is none."""
    device = nvidia.device()
    return None if device is None else device.state()


def told(state: GpuState | None) -> Told:
    """In words, for a report: its state, and a remark where heat or power slowed it down."""
    if state is None:
        return Told()
    remarks = (f"the GPU was slowed down by {' and '.join(state.slowed_by)} ({state})",) if state.slowed_by else ()
    return Told({"GPU while timed": str(state)}, remarks)


@contextmanager
def alone(*hardware: str) -> Iterator[None]:
    """No other stage of this user uses the GPU meanwhile, where any of the hardware is one; else at once.

    Builds time kernels there too: a measurement beside one would be of both.
    """
    if "cuda" not in hardware:
        yield
        return
    with Path(tempfile.gettempdir(), f"autoopt-{os.getuid()}-gpu.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Forked processes have the file open too, and would keep the lock as long as they live.
            fcntl.flock(file, fcntl.LOCK_UN)
