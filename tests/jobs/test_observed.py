"""How a job on a cluster stands follows from what its driver wrote and what Ray says about the driver."""

from __future__ import annotations

import pytest

from autoopt.jobfolder import JobState, JobStatus
from autoopt.jobs.gateway import Attempt
from autoopt.jobs.observed import observed

RAYS = "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 chars):\nmany\nlines"


def attempt(status: str = "FAILED", message: str = "") -> Attempt:
    return Attempt("mine", "job", 1, status, message, 0, {})


def state(status: JobStatus, by: str = "mine") -> JobState:
    return JobState(status=status, attempt=by)


@pytest.mark.parametrize("wrote", [state(JobStatus.RUNNING), state(JobStatus.RUNNING, by="an earlier one"), None])
def test_a_driver_that_was_killed_has_left_an_interrupted_job(wrote: JobState | None) -> None:
    seen = observed(wrote, attempt(message=RAYS.format(-9)), readable=True)
    assert seen.status is JobStatus.INTERRUPTED
    assert seen.message == "its driver is gone (killed by SIGKILL)"


@pytest.mark.parametrize("wrote", [state(JobStatus.RUNNING), state(JobStatus.INTERRUPTED, by="an earlier one"), None])
def test_a_driver_that_ended_by_an_error_has_failed_whether_it_could_write_so_or_not(wrote: JobState | None) -> None:
    assert observed(wrote, attempt(message=RAYS.format(1)), readable=True).status is JobStatus.FAILED


def test_a_driver_whose_end_ray_cannot_explain_has_left_an_interrupted_job() -> None:
    seen = observed(state(JobStatus.RUNNING), attempt(message="The actor died unexpectedly.\nMore."), readable=True)
    assert seen.status is JobStatus.INTERRUPTED
    assert seen.message == "its driver is gone (The actor died unexpectedly.)"


def test_what_a_driver_wrote_in_the_end_stands() -> None:
    seen = observed(state(JobStatus.FAILED), attempt(message=RAYS.format(1)), readable=True)
    assert seen == state(JobStatus.FAILED)


def test_a_job_that_the_cluster_has_forgotten_was_interrupted() -> None:
    assert observed(state(JobStatus.RUNNING), None, readable=True).status is JobStatus.INTERRUPTED
    assert observed(state(JobStatus.DONE), None, readable=True).status is JobStatus.DONE
