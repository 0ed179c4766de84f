"""The head has Ray's memory of all jobs; ours is in the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hosts import wait_until

if TYPE_CHECKING:
    from conftest import NewJob, NewRow
    from hosts import Hosts


def test_jobs_of_a_head_that_was_restarted_are_shown_and_go_on(row: NewRow, new_job: NewJob, hosts: Hosts) -> None:
    told = row("the head restarted")
    job = new_job("headless").submit("small", "40 candidates")
    wait_until(lambda: len(job.keys) >= 6, 300, "a few stages", lambda: job.log)
    hosts.kill_head()
    told.injected += 1
    before = job.keys
    hosts.start()
    asked = ("--address", hosts.address, "--store", job.store, "--json")
    (shown,) = json.loads(hosts.shell("jobs", *asked).stdout)
    assert (shown["job"], shown["state"]["status"]) == (job.name, "interrupted")
    state = job.status()
    assert state["status"] == "interrupted"
    assert "autoopt resume" in state["message"]
    said = hosts.shell("status", job.name, "--address", hosts.address, "--store", job.store).stdout
    command = next(line for line in said.splitlines() if line.startswith("go on with: autoopt "))
    hosts.shell(*command.removeprefix("go on with: autoopt ").split())
    job.await_end("done")
    assert job.keys[: len(before)] == before
    told.lost, told.doubled = job.lost(job.keys), job.doubled()
    assert (told.lost, told.doubled) == (0, 0)
    assert not job.trials("RUNNING")
