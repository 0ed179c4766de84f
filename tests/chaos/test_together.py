"""Jobs that run side by side share what they compute."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hosts import wait_until

if TYPE_CHECKING:
    from conftest import NewJob, NewRow


def test_two_jobs_of_a_task_compute_each_stage_once(row: NewRow, new_job: NewJob) -> None:
    told = row("two jobs of the same task together")
    jobs = [new_job(name) for name in ("one", "two")]
    for job in jobs:
        job.submit("small", "40 candidates")
    told.injected = 1
    wait_until(
        lambda: all(job.written.get("status") == "running" for job in jobs),
        120,
        "both to run at once",
        lambda: "\n".join(job.log for job in jobs),
    )
    for job in jobs:
        job.await_end("done")
    counts = Counter(key for job in jobs for key in job.keys)
    told.doubled = sum(count - 1 for count in counts.values()) + sum(job.doubled() for job in jobs)
    told.lost = jobs[0].lost(list(counts))
    told.found = f"{len(counts)} stages, {len(jobs[0].keys)} by the first job, {len(jobs[1].keys)} by the second"
    assert (told.lost, told.doubled) == (0, 0)
    first, second = (job.candidates for job in jobs)
    assert set(first["id"]) == set(second["id"])
    assert all(job.keys for job in jobs), "they ran together"
