"""``run``, ``submit``, ``resume``: begin a search, or let one go on."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import ExitStack, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

from autoopt.cli.output import print_json
from autoopt.records.measurement import SCENARIOS

if TYPE_CHECKING:
    from autoopt.jobs import Job, JobResult, LocalJob

ADDRESS = "AUTOOPT_ADDRESS"
STOPPED = 130
RESULTS = "results"
ALLOWED = "postgresql+psycopg://user@host/database, sqlite:///file.db"
AGAIN = (
    "of the job's study, where it is in a database whose password is not in $AUTOOPT_STUDY, $PGPASSWORD or ~/.pgpass "
    "(the process list shows what is given here, not those)"
)


def add(commands: Any) -> None:
    """Declare the commands."""
    run = commands.add_parser("run", help="search here, showing progress; Ctrl-C stops in good order")
    submit = commands.add_parser("submit", help="search in the background, here or on a cluster")
    for parser in (run, submit):
        parser.add_argument("task", metavar="TASK", help="path/file.py:name of an autoopt.Task (:task by default)")
        parser.add_argument("--space", default="quick", help="a shipped search space, or a YAML file (default: quick)")
        parser.add_argument("--budget", default="10m", help='"10m", "60 candidates" or "1h, 200" (default: 10m)')
        parser.add_argument("--name", help="the job's name (default: made from task, space and time)")
        parser.add_argument(
            "--store",
            help="the artifact store: a folder, or a URL such as s3://bucket/folder (default: $AUTOOPT_STORE, else your cache)",
        )
        add_study(
            parser, f"a database for the search's memory: {ALLOWED} (default: $AUTOOPT_STUDY, else the job's folder)"
        )
        parser.add_argument("--scenario", choices=SCENARIOS, help="default: as the space says")
        parser.add_argument(
            "--p99-ms", type=float, help="server: milliseconds within which 99 %% of the requests are answered"
        )
        parser.add_argument(
            "--hardware", action="append", help="what to serve on, in place of the space's; may be repeated"
        )
        parser.add_argument(
            "--install-engines",
            action="store_true",
            help="install the space's missing engines, each in an environment of its own, where they are needed",
        )
        parser.add_argument("--seed", type=int, default=0, help="of sampling and training (default: 0)")
    submit.add_argument("--code", help="on a cluster: the folder of the code that travels (default: the task's own)")
    submit.add_argument("--wait", action="store_true", help="on a cluster: wait for hardware that is not there")
    resume = commands.add_parser("resume", help="let a job go on that was stopped")
    resume.add_argument("job", metavar="JOB", help="its name or folder")
    resume.add_argument("--budget", help="a larger budget, for a job that has used its own")
    add_study(resume)
    resume.add_argument("--background", action="store_true", help="return at once (as always for one on a cluster)")
    add_address(submit)
    add_cluster(resume)
    for parser, function in ((run, _run), (submit, _submit), (resume, _resume)):
        add_results(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=function)


def add_results(parser: argparse.ArgumentParser) -> None:
    """Declare where jobs of this machine are, and what is fetched from others."""
    parser.add_argument("--results", default=RESULTS, help="the folder of all jobs (default: results)")


def add_address(parser: argparse.ArgumentParser) -> None:
    """Declare where a cluster is."""
    parser.add_argument(
        "--address",
        default=os.environ.get(ADDRESS),
        metavar="URL",
        help=f"of a cluster's dashboard, http://host:8265 (default: ${ADDRESS}, else this machine alone)",
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Declare where a job on a cluster is found."""
    add_address(parser)
    parser.add_argument(
        "--store", help="of a job on a cluster: its store, where the cluster has forgotten it or may not tell it"
    )


def found(given: argparse.Namespace) -> Job:
    """The job that is meant."""
    from autoopt.jobs import job

    return job(given.job, given.results, getattr(given, "study", None), address=given.address, store=given.store)


def add_study(parser: argparse.ArgumentParser, about: str = AGAIN) -> None:
    """Declare where the study is."""
    parser.add_argument("--study", metavar="URL", help=about)


def _asked(given: argparse.Namespace) -> dict[str, Any]:
    return {
        name: getattr(given, name)
        for name in (
            "task",
            "space",
            "budget",
            "name",
            "results",
            "store",
            "study",
            "scenario",
            "p99_ms",
            "hardware",
            "seed",
            "install_engines",
        )
    }


def _run(given: argparse.Namespace) -> int:
    from autoopt.cli.live import shown
    from autoopt.jobs import search

    with shown() as show, ExitStack() as stack:
        result = search(**_asked(given), on_start=partial(_begin, stack), on_progress=show)
    return _end(result, given)


def _submit(given: argparse.Namespace) -> int:
    from autoopt.jobs import submit

    _tell_submitted(submit(**_asked(given), address=given.address, code=given.code, wait=given.wait), given)
    return 0


def _resume(given: argparse.Namespace) -> int:
    from autoopt.cli.live import shown
    from autoopt.jobs import LocalJob, go_on

    job = found(given)
    if given.background or not isinstance(job, LocalJob):
        _tell_submitted(job.resume(budget=given.budget), given)
        return 0
    with shown() as show, ExitStack() as stack:
        result = go_on(job, budget=given.budget, on_start=partial(_begin, stack), on_progress=show)
    return _end(result, given)


def _begin(stack: ExitStack, job: LocalJob) -> None:
    """Say which job it is. What libraries print goes to its log, where it tears no picture apart and spoils no JSON."""
    print(f"job {job.path}", file=sys.stderr, flush=True)
    log = stack.enter_context(job.folder.log_path.open("a", buffering=1))
    stack.enter_context(redirect_stdout(log))
    logging.basicConfig(filename=job.folder.log_path, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.captureWarnings(capture=True)
    stack.callback(logging.captureWarnings, capture=False)


def _end(result: JobResult, given: argparse.Namespace) -> int:
    from autoopt.cli.results import tell

    tell(result, as_json=given.json)
    return 0 if result.status == "done" else STOPPED


def _tell_submitted(job: Job, given: argparse.Namespace) -> None:
    if given.json:
        print_json({"job": job.id, **where(job), "status": job.status()})
        return
    print(f"job {job.reference}\nwatch it:  autoopt watch {job.reference}\nend it:    autoopt cancel {job.reference}")


def where(job: Job) -> dict[str, str]:
    """Where a job is, for JSON."""
    from autoopt.jobs import ClusterJob, LocalJob

    if isinstance(job, ClusterJob):
        return {"address": job.gateway.address}
    assert isinstance(job, LocalJob), "there are two kinds"
    return {"folder": str(job.path)}
