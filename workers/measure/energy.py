"""The energy of a sample, where the machine tells it: RAPL of the processor packages, NVML of the GPUs.

A package's counter knows no process: whatever else runs there is in it, which is why figures are of the whole package and taken
several times. Source of the counters: Intel's Running Average Power Limit, which AMD's processors have too (Linux: powercap).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoopt.records import Estimate, nvidia
from autoopt.workers.measure import statistics
from autoopt.workers.measure.handle import Server

POWERCAP = Path("/sys/class/powercap")
_REPEATS, _SECONDS = 4, 0.3
"""Counters move once a millisecond."""


@dataclass(frozen=True)
class Meter:
    """A counter of energy."""

    name: str
    read_uj: Callable[[], int]
    """Microjoules since some moment."""
    wraps_at_uj: int | None = None
    """Where it begins again at zero."""

    def since(self, before_uj: int) -> float:
        """Millijoules since it was at ``before_uj``."""
        spent = self.read_uj() - before_uj
        if spent < 0 and self.wraps_at_uj is not None:
            spent += self.wraps_at_uj
        return spent / 1e3


def meters(hardware: str, powercap: Path = POWERCAP) -> tuple[Meter, ...]:
    """What tells the energy of this hardware and may be read; empty where nothing does."""
    return _gpus() if hardware == "cuda" else _packages(powercap)


def energy_of(server: Server, found: Sequence[Meter], call_ns: float, seconds: float = _SECONDS) -> Estimate | None:
    """Millijoules a sample while the server is called without a pause; None where nothing tells.

    Args:
        server: loaded and warm.
        found: the meters.
        call_ns: what a call takes of an instance's time.
        seconds: how long each of the repeats lasts.

    Raises:
        StageError: what failed in the server.
    """
    if not found:
        return None
    calls = max(1, round(seconds * 1e9 / call_ns))
    samples = calls * server.serving.artifact.deployment.batch * len(server.instances)
    spent = []
    for _ in range(_REPEATS):
        before = [meter.read_uj() for meter in found]
        server.burst(0, calls)
        spent.append(sum(meter.since(start) for meter, start in zip(found, before, strict=True)) / samples)
    return statistics.center(np.array(spent))


def _packages(powercap: Path) -> tuple[Meter, ...]:
    made = []
    for domain in sorted(powercap.glob("intel-rapl:*")):
        if domain.name.count(":") != 1:
            continue  # a part of a package (its cores, its memory) is in the package's already
        with suppress(OSError, ValueError):
            int((domain / "energy_uj").read_text())  # only root may, on most systems
            wraps_at = int((domain / "max_energy_range_uj").read_text())
            made.append(Meter((domain / "name").read_text().strip(), _reader(domain / "energy_uj"), wraps_at))
    return tuple(made)


def _reader(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text())


def _gpus() -> tuple[Meter, ...]:
    """The counter of the GPU that is used."""
    device = nvidia.device()
    if device is None or device.energy_mj() is None:
        return ()
    return (Meter(device.gpu().name, lambda: 1000 * (device.energy_mj() or 0)),)
