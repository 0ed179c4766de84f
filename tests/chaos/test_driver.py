"""Whoever drives a job may die at any moment."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pandas as pd
from hosts import wait_until
from running import RunningJob

if TYPE_CHECKING:
    from conftest import NewJob, NewRow

KILLS = 10
SPACE, BUDGET = "small", "40 candidates"
"""More than the space has: every one of them is decided."""


def test_a_driver_that_is_killed_ten_times_loses_nothing_and_doubles_nothing(
    row: NewRow, new_job: NewJob, tmp_path: Path
) -> None:
    told, moments = row("the driver killed with -9"), Random(3)
    job = new_job("killed").submit(SPACE, BUDGET)
    for _ in range(KILLS):
        before = job.keys
        _await_moment(job, moments)
        job.kill_driver()
        told.injected += 1
        wait_until(
            lambda: job.status()["status"] == "interrupted", 30, "the driver's death to be seen", lambda: job.log
        )
        assert job.keys[: len(before)] == before
        told.lost += job.lost(before)
        job.resume()
    job.await_end("done")
    told.lost += job.lost(job.keys)
    told.doubled = job.doubled()
    candidates = job.candidates
    assert (told.lost, told.doubled) == (0, 0)
    assert not job.trials("RUNNING")
    assert not job.trials("WAITING")
    assert set(candidates["outcome"]) <= {"measured", "eliminated"}, "nobody was to blame"
    told.found = f"{len(job.keys)} stages, {len(candidates)} candidates"

    # The same candidates, undisturbed: on what the store has of their stages, for no two timings are the same.
    copy = tmp_path / "copy"
    shutil.copytree(job.store, copy, ignore=shutil.ignore_patterns("jobs", "scratch", "locks"))
    undisturbed = new_job("undisturbed", copy).submit(SPACE, BUDGET)
    undisturbed.await_end("done")
    assert set(undisturbed.candidates["id"]) == set(candidates["id"])
    assert not set(undisturbed.keys) & set(job.keys)
    pd.testing.assert_frame_equal(_front(undisturbed), _front(job))


def _await_moment(job: RunningJob, moments: Random) -> None:
    """Some stages and a while after its driver has begun: as it starts, prepares, measures, trains or confirms."""
    stages, seconds = moments.randrange(4), moments.uniform(0, 6)
    job.await_driver()
    seen = len(job.keys)
    wait_until(lambda: len(job.keys) >= seen + stages, 240, f"{stages} more stages", lambda: job.log)
    time.sleep(seconds)


def _front(job: RunningJob) -> pd.DataFrame:
    """Its configs and their figures, without what says when they were found."""
    front = pd.read_csv(job.folder / "front.csv").drop(columns=["number"])
    return front.sort_values("id").reset_index(drop=True)
