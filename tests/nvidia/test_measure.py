"""A GPU while it is measured."""

from __future__ import annotations

import ctypes
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from autoopt.records import Effective, nvidia
from autoopt.records.nvidia import GpuState
from autoopt.workers.measure import gpu
from autoopt.workers.measure.server import _Server


def state(sm_mhz: int | None, *slowed_by: str) -> GpuState:
    return GpuState(sm_mhz, 3201, 41, 310.4, slowed_by)


class Server:
    """Takes the time that it is asked to be warmed, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0

    def warm(self, seconds: float) -> float:
        self.now += seconds
        return 1e6


@pytest.mark.parametrize(
    ("clocks", "seconds"),
    [
        ([345, 1200, 1800, 1975, 1980, 1980], 1.2),
        ([1980, 1980, 1980], 0.6),
        ([None], 0.2),  # it does not tell
        ([1980, 1400] * 10, gpu.LONGEST_S),  # never steady
    ],
)
def test_a_network_is_called_until_the_clock_is_steady_and_no_longer_than_three_seconds(
    clocks: list[int | None], seconds: float
) -> None:
    server = Server()
    readings: Iterator[int | None] = iter(clocks)
    taken = gpu.warm_up(server, lambda: state(next(readings)), lambda: server.now)
    assert taken == pytest.approx(seconds, abs=0.21)
    assert taken <= gpu.LONGEST_S + 0.21


def test_without_a_gpu_nothing_is_waited_for_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", "libno-such-driver.so.1")
    server = Server()
    assert gpu.warm_up(server, gpu.state, lambda: server.now) == pytest.approx(0.2)
    assert gpu.told(gpu.state()) == gpu.Told()


def test_the_state_is_told_and_remarked_where_heat_or_power_slowed_it_down(driver: ctypes.CDLL) -> None:
    told = gpu.told(gpu.state())
    assert told.details == {"GPU while timed": "SM 1980 MHz, memory 3201 MHz, 41 °C, 310 W"}
    assert told.remarks == (
        "the GPU was slowed down by its power cap and its temperature (software) (SM 1980 MHz, memory 3201 MHz, 41 °C, 310 W)",
    )
    assert gpu.told(state(1980)).remarks == ()


def _hold(path: str, seconds: float) -> None:
    with gpu.alone("cuda"):
        Path(path).touch()
        time.sleep(seconds)


def test_one_stage_at_a_time_uses_the_gpu(tmp_path: Path) -> None:
    began = tmp_path / "began"
    other = multiprocessing.get_context("fork").Process(target=_hold, args=(str(began), 0.6))
    other.start()
    while not began.exists():
        time.sleep(0.01)
    before = time.monotonic()
    with gpu.alone("cpu", "cpu"):
        assert time.monotonic() - before < 0.3
    with gpu.alone("cpu", "cuda"):
        assert time.monotonic() - before > 0.3
    other.join()


def test_the_devices_own_time_is_told_beside_what_ran() -> None:
    ran = Effective("1", "cuda", "fp16", 1, {"TF32": "False"})
    server = _Server.__new__(_Server)
    for own, details in ((0.12345, {"TF32": "False", "device ms a call": "0.1235"}), (None, {"TF32": "False"})):
        session = SimpleNamespace(effective=lambda: ran, device_ms=lambda own=own: own)
        server._session = cast("Any", session)
        assert server.effective().details == details
