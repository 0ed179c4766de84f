"""How a job on a cluster stands, by two witnesses: what its driver wrote, and what Ray says of the driver."""

from __future__ import annotations

from dataclasses import replace

from autoopt.jobfolder import JobState, JobStatus
from autoopt.jobs.gateway import Attempt

_GONE = "the cluster knows nothing of it any more: its head was restarted. `autoopt resume` goes on"


def observed(state: JobState | None, latest: Attempt | None, *, readable: bool) -> JobState:
    """A job's state by what its driver wrote and what Ray says about the last attempt.

    Args:
        state: from the store; None where nothing is there.
        latest: Ray's last attempt; None where the cluster has forgotten it.
        readable: whether the store can be read from here.
    """
    before = state or JobState()
    if latest is None:
        return before if before.status.ended else replace(before, status=JobStatus.INTERRUPTED, message=_GONE)
    mine = state is not None and state.attempt == latest.id
    if latest.live:
        begun = mine or (not readable and latest.status == "RUNNING")
        status = before.status if mine else (JobStatus.RUNNING if begun else JobStatus.SUBMITTED)
        return replace(before, status=status, message=before.message if mine else "")
    if mine and before.status.ended:
        stopped = latest.stopped and before.status is JobStatus.INTERRUPTED
        return replace(before, status=JobStatus.CANCELLED) if stopped else before
    if latest.stopped:
        return replace(before, status=JobStatus.CANCELLED, message="cancelled; it can be resumed")
    code = latest.exit_code
    if (mine and code is None) or (code or 0) < 0:
        return replace(before, status=JobStatus.INTERRUPTED, message=f"its driver is gone ({latest.why})")
    done = latest.status == "SUCCEEDED"
    return replace(before, status=JobStatus.DONE if done else JobStatus.FAILED, message="" if done else latest.message)
