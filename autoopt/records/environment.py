"""Where a measurement was taken. Unlike environments are never merged."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from autoopt.engine_environments import version
from autoopt.records import nvidia
from autoopt.records.nvidia import Gpu

# Flags that decide which kernels run: two machines that differ in one of them give other latencies.
_KERNEL_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
_PACKAGES = (
    "autoopt",
    "numpy",
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "nncf",
    "apache-tvm",
    "ai-edge-litert",
    "jaxlib",
    "tensorrt",
    "ray",
    "optuna",
)


@dataclass(frozen=True)
class Environment:
    """The machine and the versions of what runs on it."""

    cpu: str
    cores: int
    """Cores that this process may use."""
    memory_bytes: int
    flags: tuple[str, ...]
    system: str
    python: str
    packages: dict[str, str]
    gpu: Gpu | None = None
    """The first NVIDIA GPU that this process may see."""

    def unlike(self, other: Environment) -> tuple[str, ...]:
        """In words, what differs in a way that changes latencies; empty where the two may be compared."""
        differences = [
            f"{name}: {mine} here, {theirs} there"
            for name, mine, theirs in (("processor", self.cpu, other.cpu), ("instructions", self.flags, other.flags))
            if mine != theirs
        ]
        differences.extend(_unlike_gpus(self.gpu, other.gpu))
        differences.extend(
            f"{package}: {self.packages[package]} here, {other.packages[package]} there"
            for package in sorted(self.packages.keys() & other.packages.keys())
            if self.packages[package] != other.packages[package]
        )
        return tuple(differences)


def _unlike_gpus(mine: Gpu | None, theirs: Gpu | None) -> tuple[str, ...]:
    if mine is None or theirs is None or mine.name != theirs.name:
        names = tuple("none" if each is None else each.name for each in (mine, theirs))
        return () if mine == theirs else (f"GPU: {names[0]} here, {names[1]} there",)
    return (f"GPU driver: {mine.driver} here, {theirs.driver} there",) if mine.driver != theirs.driver else ()


def current() -> Environment:
    """The environment of this process."""
    facts = _cpu_facts()
    return Environment(
        cpu=facts.get("model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        flags=tuple(flag for flag in _KERNEL_FLAGS if flag in cpu_flags()),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=_versions(),
        gpu=nvidia.gpu(),
    )


def cpu_flags() -> frozenset[str]:
    """The processor's instruction-set flags as the kernel names them; empty where it does not tell."""
    facts = _cpu_facts()
    return frozenset((facts.get("flags") or facts.get("Features") or "").split())


def _cpu_facts() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _versions() -> dict[str, str]:
    found = {package: version(package) for package in _PACKAGES}
    return {package: number for package, number in found.items() if number is not None}
