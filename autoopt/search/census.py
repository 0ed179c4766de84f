"""A census of outcomes: how many candidates ended how, by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autoopt.records import Eliminated, Failed, Measured, Outcome


@dataclass(frozen=True)
class Census:
    """Counts; each candidate stands in exactly one place."""

    measured: int = 0
    eliminated: Mapping[str, int] = field(default_factory=dict)
    """By rung: "latency", "recovery 0.25 epochs", …"""
    failed: Mapping[str, int] = field(default_factory=dict)
    """By cause, `autoopt.errors.FailureKind`'s words."""
    running: int = 0
    waiting: int = 0
    retried: int = 0
    """How often an interrupted candidate was tried again."""

    @property
    def decided(self) -> int:
        """Candidates that have ended."""
        return self.measured + sum(self.eliminated.values()) + sum(self.failed.values())


def census_of(outcomes: Iterable[Outcome], *, running: int = 0, waiting: int = 0, retried: int = 0) -> Census:
    """Count, the most frequent cause first."""
    measured = 0
    eliminated: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for outcome in outcomes:
        match outcome:
            case Measured():
                measured += 1
            case Eliminated(rung=rung):
                eliminated[rung] += 1
            case Failed(kind=kind):
                failed[kind.value] += 1
    return Census(measured, dict(eliminated.most_common()), dict(failed.most_common()), running, waiting, retried)
