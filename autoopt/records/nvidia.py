"""The NVIDIA GPU as its driver tells it: by NVML, the driver's own library, through ctypes.

Not by CUDA, though every engine could be asked: a process that has once started CUDA cannot fork children that use it, and ours fork.
The functions are those of NVIDIA's NVML reference; each is in every driver since 2016. One that a GPU does not support gives None.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
VISIBLE = "CUDA_VISIBLE_DEVICES"
_TEXT_BYTES = 96
_SM, _MEMORY = 1, 2
"""NVML_CLOCK_SM, NVML_CLOCK_MEM."""
_GPU_SENSOR = 0
_SLOWED = {
    0x04: "its power cap",
    0x08: "a hardware slowdown",
    0x20: "its temperature (software)",
    0x40: "its temperature (hardware)",
    0x80: "the power supply's brake",
}
"""The reasons that are of heat and power; the others (idle, clocks that somebody has set) are no disturbance."""


@dataclass(frozen=True)
class Gpu:
    """The GPU that CUDA would take: the first visible one (``CUDA_VISIBLE_DEVICES``).

    NVML counts GPUs by their place on the bus. Where a machine has several unlike ones, ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` makes CUDA do
    the same.
    """

    name: str
    driver: str
    """The driver's version."""
    cuda: str
    """The newest CUDA that the driver runs, ``"13.0"``."""
    compute_capability: str
    """``"9.0"``."""
    memory_bytes: int

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability, to compare: ``(9, 0)``."""
        major, _, minor = self.compute_capability.partition(".")
        return int(major), int(minor)


@dataclass(frozen=True)
class GpuState:
    """What it does at the moment; None where it does not tell."""

    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    slowed_by: tuple[str, ...]
    """Why its clocks are lower than they could be: heat and power only."""

    def __str__(self) -> str:
        told = (
            ("SM {} MHz", self.sm_mhz),
            ("memory {} MHz", self.memory_mhz),
            ("{} °C", self.temperature_c),
            ("{:.0f} W", self.power_w),
        )
        return ", ".join(words.format(value) for words, value in told if value is not None) or "it tells nothing"


class Device:
    """A handle on the GPU."""

    def __init__(self, nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._nvml, self._handle = nvml, handle

    def state(self) -> GpuState:
        """As it is now."""
        milliwatts = self._asked("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")  # new and old
        reasons = next(filter(None, (self._asked(name, ctypes.c_ulonglong) for name in names)), 0)
        return GpuState(
            sm_mhz=self._asked("nvmlDeviceGetClockInfo", ctypes.c_uint, _SM),
            memory_mhz=self._asked("nvmlDeviceGetClockInfo", ctypes.c_uint, _MEMORY),
            temperature_c=self._asked("nvmlDeviceGetTemperature", ctypes.c_uint, _GPU_SENSOR),
            power_w=None if milliwatts is None else milliwatts / 1e3,
            slowed_by=tuple(words for bit, words in _SLOWED.items() if reasons & bit),
        )

    def energy_mj(self) -> int | None:
        """Millijoules since the driver was loaded; None for GPUs older than Volta."""
        return self._asked("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)

    def gpu(self) -> Gpu:
        """What it is."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._nvml.nvmlDeviceGetCudaComputeCapability(self._handle, ctypes.byref(major), ctypes.byref(minor))
        memory = (ctypes.c_ulonglong * 3)()  # total, free, used
        self._nvml.nvmlDeviceGetMemoryInfo(self._handle, memory)
        name, driver = ctypes.create_string_buffer(_TEXT_BYTES), ctypes.create_string_buffer(_TEXT_BYTES)
        self._nvml.nvmlDeviceGetName(self._handle, name, _TEXT_BYTES)
        self._nvml.nvmlSystemGetDriverVersion(driver, _TEXT_BYTES)
        cuda = ctypes.c_int()
        self._nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
        return Gpu(
            name=name.value.decode(),
            driver=driver.value.decode(),
            cuda=f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
            compute_capability=f"{major.value}.{minor.value}",
            memory_bytes=memory[0],
        )

    def _asked(self, function: str, kind: Any, *arguments: int) -> int | None:
        ask, value = getattr(self._nvml, function, None), kind()
        if ask is None or ask(self._handle, *arguments, ctypes.byref(value)):
            return None
        return int(value.value)


def gpu() -> Gpu | None:
    """What the GPU is; None where there is no driver, or no GPU that may be seen. Asked once."""
    return _gpu(LIBRARY, os.environ.get(VISIBLE))


def device() -> Device | None:
    """A handle on it; None where there is none. It stays open for as long as the process lives, and holds none of the GPU's memory."""
    # By process: what a parent has opened is not its children's.
    return _opened(LIBRARY, os.environ.get(VISIBLE), os.getpid())


@functools.cache
def _gpu(_library: str, _visible: str | None) -> Gpu | None:
    found = device()
    return None if found is None else found.gpu()


@functools.cache
def _opened(library: str, visible: str | None, _process: int) -> Device | None:
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None
    return None if nvml.nvmlInit_v2() else _first(nvml, visible)


def _first(nvml: ctypes.CDLL, visible: str | None) -> Device | None:
    first = "0" if visible is None else visible.split(",")[0].strip()
    handle = ctypes.c_void_p()
    if first.isdecimal():
        failed = nvml.nvmlDeviceGetHandleByIndex_v2(int(first), ctypes.byref(handle))
    elif first.startswith(("GPU-", "MIG-")):
        failed = nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(handle))
    else:  # empty, or -1: no GPU may be seen
        return None
    return None if failed else Device(nvml, handle)
