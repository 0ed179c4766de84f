"""A background call gives way: by the scheduler's idle policy, and by that of its session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoopt.workers import process
from autoopt.workers.process import Limits, Preload


@pytest.mark.parametrize(("background", "policy"), [(True, os.SCHED_IDLE), (False, os.SCHED_OTHER)])
def test_a_background_call_has_the_idle_policy_and_others_do_not(tmp_path: Path, background: bool, policy: int) -> None:  # noqa: FBT001
    limits = Limits(timeout_s=60, background=background)
    assert process.call("os:sched_getscheduler", 0, limits, Preload(), tmp_path / "log") == policy


@pytest.mark.parametrize(("background", "nice"), [(True, "19"), (False, "0")])
def test_the_session_of_a_background_call_steps_back_too(tmp_path: Path, background: bool, nice: str) -> None:  # noqa: FBT001
    limits = Limits(timeout_s=60, background=background)
    found = process.call("called_functions:autogroup", 0, limits, Preload(), tmp_path / "log")
    assert found in {nice, "none"}
