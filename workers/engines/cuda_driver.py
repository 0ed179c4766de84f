"""Memory, streams, events and graphs of a GPU, by CUDA's driver API through ctypes.

For runtimes that compute on pointers (TensorRT, ONNX Runtime) and bring no memory of their own. The driver's library is there wherever the GPU
is, in any version; its functions are those of NVIDIA's "CUDA Driver API" reference, its primary context is the one that every CUDA runtime
in the process works in, and its streams are the runtime's (ibid., "Interactions with the CUDA Runtime API").
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import statistics
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np

LIBRARY = "libcuda.so.1"
_NON_BLOCKING, _OWN_THREAD = 1, 1
"""CU_STREAM_NON_BLOCKING: does not wait for the default stream; CU_STREAM_CAPTURE_MODE_THREAD_LOCAL."""
_WARM_CALLS, _TIMED_CALLS = 3, 20
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_uint64),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class CudaError(RuntimeError):
    """What the driver says of a call that failed."""


class Driver:
    """The first visible GPU, made current for this thread."""

    def __init__(self, library: str) -> None:
        try:
            self._cuda = ctypes.CDLL(library)
        except OSError as error:
            message = f"the NVIDIA driver's {library} cannot be loaded: {error}"
            raise CudaError(message) from error
        for name, arguments in _ARGUMENTS.items():
            getattr(self._cuda, name).argtypes = arguments
        self.call("cuInit", 0)
        device = self.made("cuDeviceGet", c_int, 0)
        self.call("cuCtxSetCurrent", self.made("cuDevicePrimaryCtxRetain", c_void_p, device))
        self.stream = int(self.made("cuStreamCreate", c_void_p, _NON_BLOCKING))
        """The one that everything goes through."""

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            CudaError: it failed.
        """
        failed = getattr(self._cuda, function)(*arguments)
        if failed:
            words = c_char_p()
            self._cuda.cuGetErrorString(failed, ctypes.byref(words))
            message = f"{function}: {(words.value or b'unknown error').decode()} (CUDA error {failed})"
            raise CudaError(message)

    def made(self, function: str, kind: Any, *arguments: Any) -> Any:
        """What a function puts into its first argument."""
        value = kind()
        self.call(function, ctypes.byref(value), *arguments)
        return value.value

    def wait(self) -> None:
        """Until the stream is done."""
        self.call("cuStreamSynchronize", self.stream)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """What the work puts into the stream, recorded as a graph; the result puts all of it there at a stroke."""
        self.call("cuStreamBeginCapture_v2", self.stream, _OWN_THREAD)
        try:
            work()
        except BaseException:
            with contextlib.suppress(CudaError):  # what was wrong is what the work says
                self._end_capture()
            raise
        graph = self._end_capture()
        run = self.made("cuGraphInstantiateWithFlags", c_void_p, graph, 0)
        return functools.partial(self.call, "cuGraphLaunch", run, self.stream)

    def _end_capture(self) -> Any:
        graph = c_void_p()
        self.call("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        return graph.value

    def median_ms(self, work: Callable[[], None]) -> float:
        """What the work takes of the stream's time, by events before and after it, in ms: the median of several."""
        start, end = (self.made("cuEventCreate", c_void_p, 0) for _ in range(2))
        times = []
        for _ in range(_WARM_CALLS + _TIMED_CALLS):
            self.call("cuEventRecord", start, self.stream)
            work()
            self.call("cuEventRecord", end, self.stream)
            self.call("cuEventSynchronize", end)
            times.append(float(self.made("cuEventElapsedTime", c_float, start, end)))
        return statistics.median(times[_WARM_CALLS:])


def driver() -> Driver:
    """The process's own; a child's is another."""
    return _driver(LIBRARY, os.getpid())


@functools.cache
def _driver(library: str, _process: int) -> Driver:
    return Driver(library)


class Buffers:
    """Arrays in pinned memory, each with a place of its size on the GPU. They live as long as the process."""

    def __init__(self, driver: Driver, arrays: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        self._driver = driver
        sizes = [max(1, int(np.prod(shape)) * dtype.itemsize) for shape, dtype in arrays]
        hosts = [int(driver.made("cuMemHostAlloc", c_void_p, size, 0)) for size in sizes]
        self.pointers = tuple(int(driver.made("cuMemAlloc_v2", c_uint64, size)) for size in sizes)
        """On the GPU."""
        self.arrays = tuple(
            np.frombuffer(memoryview((ctypes.c_byte * size).from_address(host)), dtype, int(np.prod(shape))).reshape(
                shape
            )
            for (shape, dtype), host, size in zip(arrays, hosts, sizes, strict=True)
        )
        self._copies = tuple(zip(hosts, self.pointers, sizes, strict=True))

    def send(self) -> None:
        """To the GPU, in the stream."""
        for host, pointer, size in self._copies:
            self._driver.call("cuMemcpyHtoDAsync_v2", pointer, host, size, self._driver.stream)

    def fetch(self) -> None:
        """From the GPU, in the stream."""
        for host, pointer, size in self._copies:
            self._driver.call("cuMemcpyDtoHAsync_v2", host, pointer, size, self._driver.stream)
