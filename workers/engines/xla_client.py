"""A PJRT client on one device: with so many threads, to compile programs and to open what was compiled."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autoopt.records.environment import cpu_flags

# XLA's pool of threads that compute is named so; PJRT's own threads wait for transfers and are idle beside them.
_POOL = "tf_XLAEigen"
_TASKS = Path("/proc/self/task")
_CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
_CUDA_DRIVER = Path("/dev/nvidiactl")


@dataclass(frozen=True)
class Client:
    """One device, and the threads that were started for it."""

    device: Any
    hardware: str
    started: frozenset[str]
    """The operating system's numbers of the threads; empty where it does not tell."""

    def compile(self, program: bytes, options: Mapping[str, str]) -> Any:
        """StableHLO to an executable; ``options`` are XLA's, by the names of its flags."""
        from jaxlib import xla_client

        settings = xla_client.CompileOptions()
        settings.env_option_overrides = list(options.items())
        return self.device.client.compile_and_load(program, [self.device], settings)

    def serialize(self, executable: Any) -> bytes:
        """An executable's machine code, for `deserialize`."""
        return bytes(self.device.client.serialize_executable(executable))

    def deserialize(self, code: bytes) -> Any:
        """An executable again: it may do whatever its author wanted."""
        return self.device.client.deserialize_executable(code, [self.device])

    def made_for(self) -> dict[str, Any]:
        """The machine and version that executables of this client are for, as JSON."""
        kind = sorted(cpu_flags()) if self.hardware == "cpu" else [self.device.device_kind]
        return {"jaxlib": jaxlib_version(), "features": kind}

    def platform(self) -> str:
        """Where executables run, as the client itself says: "cpu", "cuda"."""
        return str(self.device.client.platform)

    def threads(self) -> int:
        """Threads that compute: as many as the pool has, to which the caller hands over. On a GPU the caller alone."""
        return sum(_name(thread) == _POOL for thread in self.started) if self.hardware == "cpu" else 1


def open_client(hardware: str, threads: int) -> Client:
    """The client of "cpu", whose pool has so many threads, or of "cuda".

    Each call makes a client of its own, in a millisecond; its threads end with it.
    """
    before = _threads()
    device = _cuda_device() if hardware == "cuda" else _cpu_device(threads)
    return Client(device, hardware, frozenset(_threads() - before))


def jaxlib_version() -> str:
    """Imports jaxlib.

    Raises:
        ImportError: it is not installed.
    """
    # Read when it is imported: lines on stderr that count devices.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    importlib.import_module("jaxlib.xla_client")
    return str(importlib.import_module("jaxlib.version").__version__)


def cuda_is_here() -> bool:
    """Whether jax has its plugin for CUDA, and the system NVIDIA's driver; the client would say more, and take the GPU for it."""
    return _CUDA_DRIVER.exists() and any(find_spec(plugin) is not None for plugin in _CUDA_PLUGINS)


def _cpu_device(threads: int) -> Any:
    from jaxlib import xla_client

    # The only way to say it: else the pool has a thread for each core. Computing in the calling thread saves handing over.
    with _environment("PJRT_NPROC", str(threads)):
        client = xla_client.make_cpu_client(asynchronous=False)
    return client.local_devices()[0]


def _cuda_device() -> Any:
    """By jax, which finds and registers the plugin."""
    # XLA would take three quarters of the GPU's memory at once, which is then not the network's.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    jax.config.update("jax_enable_x64", val=True)  # tokens are int64
    return jax.devices("cuda")[0]


def _threads() -> set[str]:
    return set(os.listdir(_TASKS)) if _TASKS.exists() else set()  # noqa: PTH208 (only the names are wanted)


def _name(thread: str) -> str:
    try:
        return (_TASKS / thread / "comm").read_text().strip()
    except OSError:
        return ""  # it has ended


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
