"""What a search hands out and gets back, and how an outcome is told to Optuna."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from autoopt.records import Candidate, Failed, Measured, Outcome, from_json, outcome_from_json

CANDIDATE, OUTCOME, WHY = "candidate", "outcome", "why"
"""The trial's attributes that hold them."""
CONSTRAINT = "viable"
"""What Optuna's samplers are told to satisfy; see `violation_of`."""


@dataclass(frozen=True)
class Asked:
    """A candidate to work at."""

    number: int
    candidate: Candidate
    why: str = ""
    """Who wanted it: "sampler", or a proposal's reason."""


@dataclass(frozen=True)
class Decided:
    """A candidate that has ended."""

    number: int
    candidate: Candidate
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True)
class Proposal:
    """A candidate that is worth a look, and why."""

    candidate: Candidate
    why: str
    promise: float = 0.0
    """The gain in hypervolume if everything goes well; orders proposals of one kind."""


def asked_of(frozen: FrozenTrial) -> Asked:
    """The candidate that the trial is."""
    attributes = frozen.user_attrs
    return Asked(frozen.number, from_json(Candidate, attributes[CANDIDATE]), attributes.get(WHY, ""))


def decided_of(frozen: FrozenTrial) -> Decided:
    """The candidate that the trial is, and how it ended."""
    asked = asked_of(frozen)
    return Decided(asked.number, asked.candidate, outcome_from_json(frozen.user_attrs[OUTCOME]), asked.why)


def values_of(outcome: Outcome) -> tuple[float, float] | None:
    """The objectives: (score, latency in ms); None where it was not measured, or not as numbers."""
    if not isinstance(outcome, Measured):
        return None
    values = (outcome.measurement.score.value, outcome.measurement.latency_ms.value)
    return values if all(map(math.isfinite, values)) else None


def violation_of(outcome: Outcome, max_drop: float) -> float:
    """Optuna's constraint: satisfied at 0 and below. Graded, so that TPE prefers what came nearer."""
    if isinstance(outcome, Measured) and values_of(outcome) is not None:
        return outcome.measurement.score_drop.value - max_drop
    return 2.0 if isinstance(outcome, Failed) else 1.0
