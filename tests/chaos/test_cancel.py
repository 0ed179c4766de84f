"""A job that is cancelled lets go of everything."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hosts import DRIVER, is_waiting_parent, said, wait_until

from autoopt.cluster.processes import processes_of

if TYPE_CHECKING:
    from conftest import NewJob, NewRow
    from hosts import Hosts
    from running import RunningJob

SECONDS = 10.0
SHELL_S = 5.0
"""Of which the shell's command takes some to begin, on a busy machine."""


@pytest.mark.parametrize("phase", ["preparing", "searching", "confirming"])
def test_a_cancelled_job_ends_in_time_and_leaves_its_best_so_far(
    phase: str, row: NewRow, new_job: NewJob, hosts: Hosts
) -> None:
    told = row(f"cancelled while {phase}")
    job = new_job("cancelled").submit("plain" if phase == "confirming" else "small", "40 candidates")
    wait_until(lambda: _reached(job, phase), 400, phase, lambda: job.log)
    before, began = job.keys, time.monotonic()
    hosts.shell("cancel", job.name, "--address", hosts.address, "--store", job.store)
    seconds = time.monotonic() - began
    told.injected += 1
    state = job.status()
    assert state["status"] == "cancelled", job.log
    assert seconds < SECONDS + SHELL_S
    wait_until(lambda: not _left(hosts), 5, "everything of the job to end", lambda: "\n".join(_left(hosts)))
    told.found = f"{seconds:.1f} s with the shell's start"
    wait_until(lambda: _lanes(hosts) == [0, 0], 5, "the lanes to be free, as Ray tells it")
    if phase != "preparing":
        assert job.written["status"] == "cancelled", "its driver said so itself, in good order"
        assert (job.folder / "report.html").exists()
        assert (job.folder / "front.csv").exists()
    job.resume()
    job.await_end("done")
    assert job.keys[: len(before)] == before
    told.lost, told.doubled = job.lost(job.keys), job.doubled()
    assert (told.lost, told.doubled) == (0, 0)


def _reached(job: RunningJob, phase: str) -> bool:
    progress = job.written.get("progress", {})
    return progress.get("phase") == phase and (phase != "searching" or progress["measured"] >= 2)


def _left(hosts: Hosts) -> list[str]:
    """What still works for a job: drivers, Ray's workers that are at something, what runs in warmed parents (they wait for the next job)."""
    nodes = [node for node in (hosts.head, hosts.worker) if node is not None]
    lines = [said(process) for node in nodes for process in processes_of(node) if not is_waiting_parent(process)]
    servants = ("ray::IDLE", "ray::Commons", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
    return [
        line
        for line in lines
        if "autoopt.workers" in line
        or DRIVER in line
        or (line.startswith("ray::") and not line.strip().startswith(servants))
    ]


def _lanes(hosts: Hosts) -> list[float]:
    nodes = json.loads(hosts.shell("cluster", "status", "--address", hosts.address, "--json").stdout)["nodes"]
    return [node["slots"]["lane"]["used"] for node in nodes if node["alive"]]
