"""Write a job's report again from what is on disk: for a job that was killed, or after autoopt was upgraded."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import JobError
from autoopt.jobfolder import JobFolder, JobStatus
from autoopt.jobs.stored import open_task, setup_of, stored_front, stored_rows
from autoopt.records import environment as environments

if TYPE_CHECKING:
    from autoopt.report import ReportData


def rewrite_report(folder: JobFolder) -> Path:
    """Write ``report.html``, ``report.md``, ``front.csv`` and ``candidates.parquet``; returns the first.

    Raises:
        JobError: the job ended before there was anything to report.
    """
    from autoopt.report import write_report

    write_report(_data(folder), folder.path)
    return folder.report_path


def _data(folder: JobFolder) -> ReportData:
    from autoopt.report import ReportData, Row, TaskFacts
    from autoopt.workers.techniques import techniques

    setup, task = setup_of(folder), open_task(folder)
    if setup is None or task is None:
        message = f"{folder.path} has nothing to report yet: its task was never prepared, or the store no longer has it"
        raise JobError(message)
    spec, state = folder.spec(), folder.state()
    front = stored_front(folder)
    return ReportData(
        job=spec.name,
        task=TaskFacts(task.name, task.metric.name, task.splits),
        space=spec.space,
        scenario=setup.scenario,
        budget=spec.budget,
        started_at=_seconds(spec.created_at),
        ended_at=_seconds(spec.created_at) + state.progress.seconds_used,
        complete=state.status is JobStatus.DONE,
        front=front,
        rows=tuple(Row(*row) for row in stored_rows(folder)),
        environment=environments.current() if front is None else front.reference.validation.environment,
        exclusions=tuple(_exclusions(folder)),
        notes=task.remarks,
        pick=None if front is None else front.pick(max_accuracy_drop=0.01),
        quantizers=frozenset(name for name, entry in techniques().items() if entry.precision is not None),
        command=f"autoopt run {spec.task} --space {spec.space} --budget '{spec.budget}'",
    )


def _exclusions(folder: JobFolder) -> list[Any]:
    from autoopt.report import Exclusion

    excluded = json.loads(folder.setup_path.read_text()).get("excluded", [])
    return [Exclusion(entry["what"], entry["why"], entry.get("remedy") or "") for entry in excluded]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
