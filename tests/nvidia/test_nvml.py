"""What NVML tells, and what is said where it tells nothing."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import pytest

from autoopt.records import from_json, nvidia, to_json
from autoopt.records.environment import Environment, current
from autoopt.workers.measure.energy import meters

FAKE = nvidia.Gpu("NVIDIA Fake", "580.1", "13.1", "9.0", 141 << 30)


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", "libno-such-driver.so.1")
    assert nvidia.gpu() is None
    assert nvidia.device() is None
    assert current().gpu is None


def test_the_gpu_is_told(driver: ctypes.CDLL) -> None:
    assert nvidia.gpu() == FAKE
    assert FAKE.capability == (9, 0)
    assert current().gpu == FAKE


@pytest.mark.parametrize(
    ("visible", "there"),
    [("0", True), ("0,1", True), ("GPU-1", True), ("", False), ("-1", False), ("1", False), ("GPU-2", False)],
)
def test_a_gpu_that_may_not_be_seen_is_not_told(
    driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, visible: str, *, there: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert (nvidia.gpu() is not None) is there


def test_its_state_is_told_in_units(driver: ctypes.CDLL) -> None:
    device = nvidia.device()
    assert device is not None
    state = device.state()
    assert (state.sm_mhz, state.memory_mhz, state.temperature_c, state.power_w) == (1980, 3201, 41, 310.4)
    assert state.slowed_by == ("its power cap", "its temperature (software)")
    assert str(state) == "SM 1980 MHz, memory 3201 MHz, 41 °C, 310 W"


def test_a_counter_that_the_gpu_lacks_is_no_meter(driver: ctypes.CDLL) -> None:
    assert meters("cuda") == ()


def test_records_from_before_gpus_were_told_still_load() -> None:
    here = replace(current(), gpu=FAKE)
    assert from_json(Environment, to_json(here)) == here
    old = {name: value for name, value in to_json(here).items() if name != "gpu"}
    assert from_json(Environment, old) == replace(here, gpu=None)


@pytest.mark.parametrize(
    ("gpu", "difference"),
    [
        (FAKE, ()),
        (None, ("GPU: NVIDIA Fake here, none there",)),
        (replace(FAKE, name="NVIDIA L4"), ("GPU: NVIDIA Fake here, NVIDIA L4 there",)),
        (replace(FAKE, driver="570.3"), ("GPU driver: 580.1 here, 570.3 there",)),
    ],
)
def test_unlike_gpus_make_environments_unlike(gpu: nvidia.Gpu | None, difference: tuple[str, ...]) -> None:
    here = replace(current(), gpu=FAKE)
    assert here.unlike(replace(here, gpu=gpu)) == difference
