"""TVM's runtime in a process that serves: without `import tvm`, which loads the compiler, and with as many threads as were asked for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.workers.refusal import unsupported

_CPU, _POOLED = 1, 2
"""DLPack's number for processors, and the virtual machine's for an allocator that keeps memory for the next call."""
_BIG_CORES = 1
_SPINS = "1000"
"""How often a thread of the pool asks for work before it sleeps: 0.3 ms, longer than between two kernels of a call.

TVM's own 300 000 keep an idle session's cores busy for a tenth of a second after every call.
"""
_ALIGNMENT = 64


def runtime() -> Any:
    """The module `tvm_ffi`, with TVM's runtime library loaded.

    Raises:
        ImportError: TVM is not installed.
    """
    with _without_torch():
        ffi = importlib.import_module("tvm_ffi")
        libinfo = importlib.import_module("tvm_ffi.libinfo")
    found = importlib.util.find_spec("tvm")
    if found is None or found.origin is None:
        message = "No module named 'tvm'"
        raise ImportError(message)
    libraries = Path(found.origin).parent / "lib"
    libinfo.load_lib_ctypes("tvm", "tvm_runtime", "RTLD_GLOBAL", extra_lib_paths=[libraries])
    return ffi


def open_function(library: Path) -> Any:
    """The network's function in a library that was built: tensors in, a tensor or several out."""
    machine = runtime().load_module(str(library))["vm_load_executable"]()
    machine["vm_initialization"](_CPU, 0, _POOLED)
    return machine["main"]


def start_threads(threads: int) -> None:
    """Start the pool of the calling thread.

    Raises:
        StageError: UNSUPPORTED where the process has a smaller pool already; TVM cannot enlarge it.
    """
    if threads == 1:
        return
    # Left alone, the pool would move itself and its caller to the first cores, whichever they were put on.
    os.environ |= {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0", "TVM_THREAD_POOL_SPIN_COUNT": _SPINS}
    if pool_size() != threads:
        runtime().get_global_func("runtime.config_threadpool")(_BIG_CORES, threads)
    if pool_size() != threads:
        message = f"TVM has {pool_size()} threads in this process and cannot start more; {threads} need a process of their own"
        raise unsupported(message)


def pool_size() -> int:
    """Threads of the calling thread's pool, itself included. Starts the pool if there is none."""
    return int(runtime().get_global_func("runtime.NumThreads")())


def aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Zeros at an address that vector instructions like, as TVM's kernels may assume of their arguments."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """TVM's interface imports PyTorch where it is installed, for 2 s and 200 MB that serving has no use for."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment] # Python's own way of saying "not there"
    try:
        yield
    finally:
        del sys.modules["torch"]
