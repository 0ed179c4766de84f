"""``report``, ``pick``, ``export``: from a job's front to what is deployed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.cli.output import print_json
from autoopt.cli.searching import add_cluster, add_results, add_study, found
from autoopt.errors import JobError

if TYPE_CHECKING:
    from autoopt.front import Config, Front
    from autoopt.jobs import Job

_GOALS = {
    "--max-accuracy-drop": "in the metric's unit: 0.01 is one point of an accuracy",
    "--max-latency-ms": "milliseconds a sample",
    "--max-size-mb": "of the artifact, in megabytes",
    "--min-accuracy": "in the metric's unit",
    "--max-memory-mb": "that loading and running adds to a process, in megabytes",
    "--max-load-s": "seconds from the file to a session",
    "--min-rate": "of a server: requests a second under its bound",
}


def add(commands: Any) -> None:
    """Declare the commands."""
    report = commands.add_parser("report", help="write a job's report again; of one on a cluster, fetch it")
    pick = commands.add_parser("pick", help="the fastest config that meets every goal at 95 %% confidence")
    export = commands.add_parser("export", help="write a config as a bundle")
    for parser, function in ((report, _report), (pick, _pick), (export, _export)):
        parser.add_argument("job", metavar="JOB", help="its name or folder")
        parser.set_defaults(run=function)
    for goal, about in _GOALS.items():
        pick.add_argument(goal, type=float, metavar="X", help=about)
    export.add_argument(
        "id", metavar="ID", nargs="?", help="of the config: its number, or how its id begins; default: the pick"
    )
    export.add_argument("-o", "--out", metavar="DIR", required=True, help="the folder to write")
    for parser in (report, pick, export):
        add_results(parser)
        add_cluster(parser)
        add_study(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")


def _report(given: argparse.Namespace) -> int:
    from autoopt.jobs import LocalJob
    from autoopt.jobs.report import rewrite_report

    job = found(given)
    path = rewrite_report(job.folder, job.study) if isinstance(job, LocalJob) else job.result_so_far().report_path
    if path is None:
        message = f"{job.reference} has written no report yet ({job.status()})"
        raise JobError(message)
    if given.json:
        print_json({"report": str(path)})
    else:
        print(path)
    return 0


def _pick(given: argparse.Namespace) -> int:
    from autoopt.cli.results import pick_data, tell_pick

    goals = {name: getattr(given, name) for name in (goal.strip("-").replace("-", "_") for goal in _GOALS)}
    picked = _front(found(given)).pick(**goals)
    if given.json:
        print_json(pick_data(picked))
    else:
        tell_pick(picked)
    return 0


def _export(given: argparse.Namespace) -> int:
    front = _front(found(given))
    config = front.recommended.config if given.id is None else _named(front, given.id)
    if front.exporter is None:
        message = f"the store no longer has the task of {given.job}; run the job again under another name"
        raise JobError(message)
    path = front.exporter(config, Path(given.out))
    if given.json:
        print_json({"bundle": str(path), "id": config.id, "description": config.describe()})
    else:
        print(f"{path}: {config.describe()}\ncheck it: autoopt verify {path}")
    return 0


def _front(job: Job) -> Front:
    front = job.front
    if front is None:
        message = f"{job.reference} has no front yet ({job.status()}): its reference was not measured. `autoopt resume` goes on"
        raise JobError(message)
    return front


def _named(front: Front, given: str) -> Config:
    """The config with that number, or whose id begins so."""
    known = {config.id: config for config in (*front.all_configs, *front.configs)}.values()
    called = [config for config in known if str(config.number) == given] or [
        config for config in known if config.id.startswith(given)
    ]
    if len(called) == 1:
        return called[0]
    problem = "no config" if not called else f"{len(called)} configs"
    there = ", ".join(f"{config.number} ({config.id})" for config in front)
    message = f"{problem} of that job called {given!r}; its front has {there}"
    raise JobError(message)
