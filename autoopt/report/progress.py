"""The search over time: how its front grew, and where its time went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from autoopt.front import Config
from autoopt.front.pareto import mean_doublings
from autoopt.records import Measured
from autoopt.report.data import ReportData, Row


@dataclass(frozen=True)
class Moment:
    """The state after one more config was measured."""

    elapsed_s: float
    number: int
    """The candidate that was measured."""
    mean_speedup: float
    """The best speed-up on average over the drops that one may tolerate; see `Front.hypervolume`."""


@dataclass(frozen=True)
class StageTime:
    """All stages of a kind."""

    kind: str
    runs: int
    cached: int
    """How many the store answered."""
    seconds: float


def growth(data: ReportData) -> tuple[Moment, ...]:
    """A moment a measured config, in the order of time; by what the search saw, the validation split."""
    if data.front is None:
        return ()
    reference = _as_searched(data.front.reference)
    # What another precedes on both figures covers nothing by itself: only the others need be counted again.
    ahead: list[Config] = []
    covered = mean_doublings(ahead, reference)
    moments = []
    for elapsed_s, config in sorted(_measured(data), key=lambda item: item[0]):
        if not any(_precedes(other, config) for other in ahead):
            ahead = [*(other for other in ahead if not _precedes(config, other)), config]
            covered = mean_doublings(ahead, reference)
        moments.append(Moment(elapsed_s, config.number, 2**covered))
    return tuple(moments)


def _precedes(config: Config, other: Config) -> bool:
    """By point estimates, on both figures or equal."""
    return config.score_drop.value <= other.score_drop.value and config.latency_ms.value <= other.latency_ms.value


def stage_times(rows: Iterable[Row]) -> tuple[StageTime, ...]:
    """Summed over all candidates, the longest first."""
    groups: defaultdict[str, list[tuple[bool, float]]] = defaultdict(list)
    for row in rows:
        for stage in row.outcome.stages:
            groups[stage.kind].append((stage.cached, stage.seconds))
    times = [
        StageTime(
            kind=kind,
            runs=sum(not cached for cached, _ in runs),
            cached=sum(cached for cached, _ in runs),
            seconds=sum(seconds for _, seconds in runs),
        )
        for kind, runs in groups.items()
    ]
    return tuple(sorted(times, key=lambda time: -time.seconds))


def _measured(data: ReportData) -> Iterable[tuple[float, Config]]:
    for row in data.rows:
        if isinstance(row.outcome, Measured):
            outcome = row.outcome
            config = Config(row.candidate, outcome.measurement, None, outcome.artifact_key, row.number)
            yield max(0.0, _ended_at(outcome) - data.started_at), config


def _ended_at(outcome: Measured) -> float:
    taken_at = datetime.fromisoformat(outcome.measurement.taken_at)
    return (taken_at if taken_at.tzinfo else taken_at.replace(tzinfo=UTC)).timestamp()


def _as_searched(config: Config) -> Config:
    return Config(config.candidate, config.validation, None, config.artifact_key, config.number)
