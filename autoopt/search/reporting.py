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
        notes=(*task.remarks, *_retried(rows)),
        pick=None if front is None else front.recommended,
        quantizers=frozenset(name for name, entry in techniques().items() if entry.precision is not None),
        command=_command(spec),
    )


def _retried(rows: Sequence[results.Row]) -> tuple[str, ...]:
    """That nodes or workers died, where they did."""
    stages = [stage for _, _, outcome in rows for stage in outcome.stages if stage.retries]
    if not stages:
        return ()
    times = sum(stage.retries for stage in stages)
    told = f"{len(stages)} of the stages had to be started again, {times} times in all: their node or worker had died."
    return (told,)


def _command(spec: JobSpec) -> str:
    asked = f"{spec.task} --space {spec.space} --budget '{spec.budget}'"
    return f"autoopt run {asked}" if spec.address is None else f"autoopt submit {asked} --address {spec.address}"
