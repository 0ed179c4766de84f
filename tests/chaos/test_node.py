"""A worker node may die whatever it is doing: the stage runs elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hosts import Hosts, wait_until

if TYPE_CHECKING:
    from conftest import NewJob, NewRow
    from running import RunningJob


def test_a_worker_node_that_dies_costs_the_job_nothing_but_time(row: NewRow, new_job: NewJob, hosts: Hosts) -> None:
    job = new_job("nodes").submit("trained", "40 candidates")
    told = row("a worker node killed in training, building, measuring")
    killed: dict[str, str] = {}
    while len(killed) < len(KINDS):
        work, key = wait_until(lambda: _at_work(job, hosts, set(killed)), 400, f"more than {killed}", lambda: job.log)
        hosts.kill_worker()
        told.injected += 1
        killed[work] = key
        hosts.start()
    job.await_end("done", limit_s=600)
    told.lost, told.doubled = job.lost(job.keys), job.doubled()
    retried = {work: [run["retries"] for run in job.stages if run["key"].startswith(killed[work])] for work in killed}
    told.found = f"retried: {retried}"
    assert (told.lost, told.doubled) == (0, 0)
    for runs in retried.values():
        (retries,) = runs
        assert retries >= 1
    assert job.candidates["retries"].sum() >= 1, "what a candidate's own stages were retried is in its outcome"
    assert "had to be started again" in (job.folder / "report.md").read_text()
    assert set(job.candidates["outcome"]) <= {"measured", "eliminated"}
    assert not job.trials("RUNNING")


def _kind_of(stage: str) -> str | None:
    """By the beginning of the log's name."""
    return next((kind for kind, starts in KINDS.items() if stage.startswith(starts)), None)


KINDS = {
    "training": ("technique-recovery",),
    "building": ("build", "export", "technique-static_quantization", "technique-student"),
    "measuring": ("measure", "probe"),
}


def _at_work(job: RunningJob, hosts: Hosts, but: set[str]) -> tuple[str, str] | None:
    """What the worker does that is none of these, and the key's beginning."""
    assert hosts.worker is not None
    for log in job.logs_written(hosts.worker):
        name = Path(log).stem
        work = _kind_of(name)
        if work is not None and work not in but:
            return work, name.rpartition("-")[2]
    return None
