"""How a candidate ended. Failures are values: every candidate ends in exactly one of three outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from autoopt.errors import FailureKind
from autoopt.records.codec import from_json, to_json
from autoopt.records.measurement import Measurement


@dataclass(frozen=True)
class StageRun:
    """That a stage was needed, and what it cost: the rows of a job's time line."""

    kind: str
    """"technique", "export", "build" or "measure"."""
    name: str
    key: str
    cached: bool
    started_at: float
    """Seconds since the epoch."""
    seconds: float
    """Of work; 0 where the store had it."""
    node: str = ""
    retries: int = 0
    """So often its node or worker died before."""


@dataclass(frozen=True)
class Measured:
    """The candidate became a config."""

    measurement: Measurement
    artifact_key: str
    """The store's key of the built artifact."""
    smaller: Mapping[str, str] = field(default_factory=dict)
    """Of a server with dynamic batching: those of the same network for smaller batches, by their size."""
    stages: tuple[StageRun, ...] = ()


@dataclass(frozen=True)
class Eliminated:
    """The search decided, before the end, that the candidate cannot enter the front."""

    rung: str
    """Where: "latency", "recovery 0.25 epochs", "budget", …"""
    reason: str
    speedup: float | None = None
    """As probed, where it was."""
    score: float | None = None
    stages: tuple[StageRun, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A stage failed."""

    stage: str
    """"build onnxruntime", "technique structured_pruning", …"""
    kind: FailureKind
    message: str
    log: str = ""
    """The end of what the stage's process printed."""
    stages: tuple[StageRun, ...] = ()


Outcome: TypeAlias = Measured | Eliminated | Failed

_KINDS: dict[str, type[Measured | Eliminated | Failed]] = {
    "measured": Measured,
    "eliminated": Eliminated,
    "failed": Failed,
}


def outcome_name(outcome: Outcome) -> str:
    """The kind in one word: measured, eliminated or failed."""
    return type(outcome).__name__.lower()


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """The record, with its kind under "outcome"."""
    return {"outcome": outcome_name(outcome), **to_json(outcome)}


def outcome_from_json(data: dict[str, Any]) -> Outcome:
    """The inverse of `outcome_to_json`; raises ValueError for an unknown kind."""
    name = data.get("outcome")
    if name not in _KINDS:
        message = f"unknown outcome {name!r}; known are {', '.join(_KINDS)}"
        raise ValueError(message)
    return from_json(_KINDS[name], data)
