"""The driver API is called as its reference says, in the order that makes a copy arrive."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from autoopt.workers.engines import cuda_driver
from autoopt.workers.engines.cuda_driver import Buffers, CudaError

FLOATS, BYTES = ((2, 3), np.dtype(np.float32)), ((5,), np.dtype(np.uint8))


def test_arrays_go_to_the_gpu_and_come_back(driver: ctypes.CDLL) -> None:
    cuda = cuda_driver.driver()
    buffers = Buffers(cuda, [FLOATS, BYTES])
    numbers, letters = buffers.arrays
    numbers[:], letters[:] = np.arange(6).reshape(2, 3), 7
    buffers.send()
    numbers[:], letters[:] = 0, 0
    buffers.fetch()
    cuda.wait()
    assert numbers.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert letters.tolist() == [7] * 5
    assert len(set(buffers.pointers)) == 2


def test_a_graph_does_what_was_captured_each_time_that_it_is_launched(driver: ctypes.CDLL) -> None:
    cuda = cuda_driver.driver()
    buffers = Buffers(cuda, [FLOATS])
    (numbers,) = buffers.arrays

    def work() -> None:
        buffers.send()
        buffers.fetch()

    numbers[:] = 1
    launch = cuda.captured(work)
    for value in (2, 3):
        numbers[:] = value
        launch()
        cuda.wait()
        assert (numbers == value).all()


def test_waiting_within_a_capture_is_told_in_the_drivers_words(driver: ctypes.CDLL) -> None:
    cuda = cuda_driver.driver()
    with pytest.raises(CudaError, match=r"cuStreamSynchronize: operation not permitted .*capturing \(CUDA error 900\)"):
        cuda.captured(cuda.wait)
    cuda.wait()


def test_time_is_the_streams_own(driver: ctypes.CDLL) -> None:
    cuda = cuda_driver.driver()
    buffers = Buffers(cuda, [FLOATS, BYTES])
    assert cuda.median_ms(buffers.send) == pytest.approx(0.5)  # two copies of the fake's quarter of a millisecond


def test_without_a_driver_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(CudaError, match=r"libno-such-driver\.so\.1 cannot be loaded"):
        cuda_driver.driver()
