"""Write a job's report again from what is on disk: for a job that was killed, or after autoopt was upgraded."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import JobError
from autoopt.jobfolder import JobFolder, JobStatus
from autoopt.jobs.stored import open_task, setup_of, stored_front, stored_rows

if TYPE_CHECKING:
    from autoopt.report import ReportData


def rewrite_report(folder: JobFolder, study: str | None = None) -> Path:
    """Write ``report.html``, ``report.md``, ``front.csv`` and ``candidates.parquet``; returns the first.

    Args:
        folder: the job's.
        study: the URL of its study, where its files hold it without the password; see `autoopt.job`.

    Raises:
        JobError: the job ended before there was anything to report.
        UserError, StudyError: the study cannot be read.
    """
    from autoopt.report import write_report

    write_report(_data(folder, study), folder.path)
    return folder.report_path


def _data(folder: JobFolder, study: str | None) -> ReportData:
    from autoopt.search.reporting import Span, report_data

    setup, task = setup_of(folder), open_task(folder)
    if setup is None or task is None:
        message = f"{folder.path} has nothing to report yet: its task was never prepared, or the store no longer has it"
        raise JobError(message)
    spec, state = folder.spec(), folder.state()
    began = datetime.fromisoformat(spec.created_at).timestamp()
    span = Span(began, began + state.progress.seconds_used, state.status is JobStatus.DONE)
    rows = stored_rows(folder, study)
    front = stored_front(folder, rows=rows)
    return report_data(spec, task, setup.scenario, front, rows, _exclusions(folder), span)


def _exclusions(folder: JobFolder) -> list[Any]:
    from autoopt.report import Exclusion

    excluded = json.loads(folder.setup_path.read_text()).get("excluded", [])
    return [Exclusion(entry["what"], entry["why"], entry.get("remedy") or "") for entry in excluded]
