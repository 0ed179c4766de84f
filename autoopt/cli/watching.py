"""``jobs``, ``status``, ``watch``, ``cancel``: how jobs stand, and the end of one."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autoopt.cli.output import print_json, print_table
from autoopt.cli.searching import STOPPED, add_results, add_study

if TYPE_CHECKING:
    from autoopt.jobfolder import JobState
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
    for parser, function in ((listed, _jobs), (status, _status), (watch, _watch), (cancel, _cancel)):
        add_results(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=function)


def _jobs(given: argparse.Namespace) -> int:
    from autoopt.jobs import jobs

    found = jobs(given.results)
    if given.json:
        print_json([_data(each) for each in found])
    elif not found:
        print(f"There are no jobs in {given.results}/. `autoopt run TASK` begins one.")
    else:
        rows = [(each.id, str(each.status()), each.spec.created_at, _so_far(each.state())) for each in found]
        print_table(("job", "status", "begun", "progress"), rows)
    return 0


def _status(given: argparse.Namespace) -> int:
    if given.job is None:
        return _jobs(given)
    from autoopt.jobs import job

    found = job(given.job, given.results)
    if given.json:
        print_json(_data(found))
        return 0
    state = found.state()
    print(f"{found.path}: {state.status}" + (f" ({state.message})" if state.message else ""))
    print(_so_far(state))
    if state.progress.best is not None:
        best = state.progress.best
        print(f"best so far: {best.summary}: {best.speedup:.3g}×, {state.progress.metric} {best.score:.4g}")
    if state.progress.dashboard and not state.status.ended:
        print(f"Ray dashboard: {state.progress.dashboard}")
    if state.status.ended and state.status != "done":
        print(f"go on with: autoopt resume {shlex.quote(str(found.path))}")
    return 0


def _watch(given: argparse.Namespace) -> int:
    from autoopt.cli.live import shown
    from autoopt.cli.results import tell
    from autoopt.jobs import job

    found = job(given.job, given.results, given.study)
    try:
        with shown() as show:
            while not (state := found.state()).status.ended:
                show(state.progress)
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        print(f"{found.path} goes on; `autoopt cancel {shlex.quote(str(found.path))}` ends it", file=sys.stderr)
        return STOPPED
    tell(found.result(), as_json=given.json)
    return 0


def _cancel(given: argparse.Namespace) -> int:
    from autoopt.jobs import job

    found = job(given.job, given.results)
    status = found.cancel()
    if given.json:
        print_json(_data(found))
    else:
        print(f"{found.path}: {status}")
    return 0


def _so_far(state: JobState) -> str:
    """The progress; one that has ended is in no phase any more, and has no time left."""
    from autoopt.cli.live import summary

    progress = state.progress
    return summary(replace(progress, phase=state.status, seconds_left=None) if state.status.ended else progress)


def _data(job: Job) -> dict[str, Any]:
    return {"job": job.id, "folder": str(job.path), "spec": job.spec, "state": job.state()}
