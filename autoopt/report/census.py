"""How the candidates ended, counted by cause, and where the search dropped those that it dropped."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoopt.records import Eliminated, Failed
from autoopt.records.outcome import outcome_name
from autoopt.report.data import Row

_ORDER = ("measured", "eliminated", "failed")


@dataclass(frozen=True)
class Cause:
    """One line of the census."""

    outcome: str
    """"measured", "eliminated" or "failed"."""
    cause: str
    stage: str
    """The stage or rung where it happened."""
    count: int
    example: str
    """What one of them said."""
    example_number: int
    """Which one."""


@dataclass(frozen=True)
class Rung:
    """One place where the search drops candidates."""

    name: str
    count: int
    probed: int
    """How many of them had been timed."""
    median_speedup: float | None
    example: str


def census(rows: Iterable[Row]) -> tuple[Cause, ...]:
    """A line a cause: measured first, then eliminated, then failed, each by falling count."""
    groups: defaultdict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[_cause(row)].append(row)
    lines = [
        Cause(*key, count=len(group), example=_message(group[0]), example_number=group[0].number)
        for key, group in groups.items()
    ]
    return tuple(sorted(lines, key=lambda line: (_ORDER.index(line.outcome), -line.count, line.cause, line.stage)))


def totals(rows: Sequence[Row]) -> dict[str, int]:
    """Counts by outcome: measured, eliminated, failed."""
    names = [outcome_name(row.outcome) for row in rows]
    return {name: names.count(name) for name in _ORDER}


def rungs(rows: Iterable[Row]) -> tuple[Rung, ...]:
    """The elimination's rungs in the order in which the search first used them."""
    groups: defaultdict[str, list[Eliminated]] = defaultdict(list)
    for row in rows:
        if isinstance(row.outcome, Eliminated):
            groups[row.outcome.rung].append(row.outcome)
    return tuple(_rung(name, group) for name, group in groups.items())


def _rung(name: str, group: Sequence[Eliminated]) -> Rung:
    speedups = [outcome.speedup for outcome in group if outcome.speedup is not None]
    return Rung(
        name=name,
        count=len(group),
        probed=len(speedups),
        median_speedup=statistics.median(speedups) if speedups else None,
        example=group[0].reason,
    )


def _cause(row: Row) -> tuple[str, str, str]:
    outcome = row.outcome
    if isinstance(outcome, Failed):
        return ("failed", str(outcome.kind), outcome.stage)
    if isinstance(outcome, Eliminated):
        return ("eliminated", "cannot enter the front", outcome.rung)
    return ("measured", "became a config", "")


def _message(row: Row) -> str:
    outcome = row.outcome
    if isinstance(outcome, Failed):
        return outcome.message
    return outcome.reason if isinstance(outcome, Eliminated) else ""
