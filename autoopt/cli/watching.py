"""``jobs``, ``status``, ``watch``, ``logs``, ``cancel``: how jobs stand, and the end of one."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autoopt.cli.output import print_json, print_table
from autoopt.cli.searching import STOPPED, add_cluster, add_results, add_study, found, where
from autoopt.errors import JobError

if TYPE_CHECKING:
    from autoopt.jobfolder import JobSpec, JobState
    from autoopt.jobs import Job

POLL_S = 0.5


def add(commands: Any) -> None:
    """Declare the commands."""
    listed = commands.add_parser("jobs", help="list the jobs")
    status = commands.add_parser("status", help="how a job stands; without one, all of them")
    status.add_argument("job", metavar="JOB", nargs="?", help="its name or folder")
    watch = commands.add_parser("watch", help="show a job's progress until it ends; Ctrl-C leaves it running")
    watch.add_argument("job", metavar="JOB", help="its name or folder")
    add_study(watch)
    cancel = commands.add_parser("cancel", help="end a job, its best so far on disk")
    cancel.add_argument("job", metavar="JOB", help="its name or folder")
    logs = commands.add_parser("logs", help="print a job's log")
    logs.add_argument("job", metavar="JOB", help="its name or folder")
    logs.add_argument("--follow", "-f", action="store_true", help="go on until the job has ended")
    for parser, function in ((listed, _jobs), (status, _status), (watch, _watch), (cancel, _cancel), (logs, _logs)):
        add_results(parser)
        add_cluster(parser)
        about = "print a line of JSON a change" if parser is watch else "print JSON"
        parser.add_argument("--json", action="store_true", help=about)
        parser.set_defaults(run=function)


def _jobs(given: argparse.Namespace) -> int:
    from autoopt.jobs import jobs

    listed = jobs(given.results, address=given.address, store=given.store)
    if given.json:
        print_json([_listed(each) for each in listed])
    elif not listed:
        place = given.address or f"{given.results}/"
        print(f"There are no jobs in {place}. `autoopt {'submit' if given.address else 'run'} TASK` begins one.")
    else:
        print_table(("job", "status", "begun", "progress"), [_row(each) for each in listed])
    return 0


def _row(job: Job) -> tuple[str, str, str, str]:
    spec = _spec(job)
    begun = "" if spec is None else spec.created_at
    try:
        state = job.state()
    except JobError as error:  # one that is damaged must not hide the others
        return job.id, "unreadable", begun, str(error)
    return job.id, str(state.status), begun, _so_far(state)


def _spec(job: Job) -> JobSpec | None:
    """What was asked; None where it has not begun, or cannot be read from here."""
    try:
        return job.spec
    except JobError:
        return None


def _status(given: argparse.Namespace) -> int:
    if given.job is None:
        return _jobs(given)
    job = found(given)
    if given.json:
        print_json(_data(job))
        return 0
    state = job.state()
    print(f"{job.reference}: {state.status}" + (f" ({state.message})" if state.message else ""))
    print(_so_far(state))
    if state.progress.best is not None:
        best = state.progress.best
        print(f"best so far: {best.summary}: {best.speedup:.3g}×, {state.progress.metric} {best.score:.4g}")
    if state.progress.dashboard and not state.status.ended:
        print(f"Ray dashboard: {state.progress.dashboard}")
    if state.status.ended and state.status != "done":
        print(f"go on with: autoopt resume {job.reference}")
    return 0


def _watch(given: argparse.Namespace) -> int:
    from autoopt.cli.live import shown
    from autoopt.cli.results import tell

    job = found(given)
    if given.json:
        return _follow(job)
    try:
        with shown() as show:
            while not (state := job.state()).status.ended:
                show(state.progress)
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        print(f"{job.reference} goes on; `autoopt cancel {job.reference}` ends it", file=sys.stderr)
        return STOPPED
    tell(job.result(), as_json=False)
    return 0


def _follow(job: Job) -> int:
    """A line of JSON a change, the last one when it has ended. Its clock alone is none, or there would be a line every two seconds.

    Raises:
        JobError: it failed.
    """
    told = None
    while True:
        state = job.state()
        change = (state.status, state.message, replace(state.progress, seconds_used=0.0, seconds_left=None))
        if change != told:
            told = change
            print_json({"job": job.id, **where(job), "state": state}, indent=None)
        if state.status == "failed":
            job.result()
        if state.status.ended:
            return 0
        time.sleep(POLL_S)


def _cancel(given: argparse.Namespace) -> int:
    job = found(given)
    status = job.cancel()
    if given.json:
        print_json(_data(job))
    else:
        print(f"{job.reference}: {status}")
    return 0


def _so_far(state: JobState) -> str:
    """The progress; one that has ended is in no phase any more, and has no time left."""
    from autoopt.cli.live import summary

    progress = state.progress
    return summary(replace(progress, phase=state.status, seconds_left=None) if state.status.ended else progress)


def _logs(given: argparse.Namespace) -> int:
    job = found(given)
    try:
        for line in job.logs(follow=given.follow):
            print(json.dumps({"line": line}) if given.json else line, flush=given.follow)
    except KeyboardInterrupt:
        return STOPPED
    return 0


def _data(job: Job) -> dict[str, Any]:
    return {"job": job.id, **where(job), "spec": _spec(job), "state": job.state()}


def _listed(job: Job) -> dict[str, Any]:
    try:
        return _data(job)
    except JobError as error:  # one that is damaged must not hide the others
        return {"job": job.id, **where(job), "spec": _spec(job), "state": None, "message": str(error)}
