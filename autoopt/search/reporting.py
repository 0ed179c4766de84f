"""A job's report: its data from what is known of it, while it runs or long after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoopt.front import Front
from autoopt.jobfolder import JobSpec
from autoopt.records import environment as environments
from autoopt.report import Exclusion, ReportData, Row, TaskFacts
from autoopt.search import results
from autoopt.task import PreparedTask
from autoopt.workers.techniques import techniques


@dataclass(frozen=True)
class Span:
    """When a job ran, in seconds since the epoch; ``complete`` is False where it was interrupted."""

    started_at: float
    ended_at: float
    complete: bool


def report_data(
    spec: JobSpec,
    task: PreparedTask,
    scenario: str,
    front: Front | None,
    rows: Sequence[results.Row],
    exclusions: Sequence[Exclusion],
    span: Span,
) -> ReportData:
    """Everything that a report tells."""
    return ReportData(
        job=spec.name,
        task=TaskFacts(task.name, task.metric_name, task.splits),
        space=spec.space,
        scenario=scenario,
        budget=spec.budget,
        started_at=span.started_at,
        ended_at=span.ended_at,
        complete=span.complete,
        front=front,
        rows=tuple(Row(*row) for row in rows),
        environment=environments.current() if front is None else front.reference.validation.environment,
        exclusions=tuple(exclusions),
        notes=task.remarks,
        pick=None if front is None else front.recommended,
        quantizers=frozenset(name for name, entry in techniques().items() if entry.precision is not None),
        command=f"autoopt run {spec.task} --space {spec.space} --budget '{spec.budget}'",
    )
