"""A small space and outcomes made by hand: the pure half of a search needs neither plugins nor engines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autoopt.records import (
    Candidate,
    Deployment,
    Effective,
    Environment,
    Estimate,
    Fidelity,
    Latency,
    Measured,
    Measurement,
)
from autoopt.space import Listed, ParameterChoice, Space, StepChoice, Target

REFERENCE = Candidate((), Deployment("eager", fusion="default"))


def make_space() -> Space:
    def parameter(name: str, *values: float | str, default: float | str | None = None) -> ParameterChoice:
        first = values[0] if default is None else default
        return ParameterChoice(name, Listed(values), first, first)

    changed = {"changed": (True,)}
    return Space(
        name="test",
        scenario="single_stream",
        steps=(
            StepChoice(
                "student",
                (parameter("depth", 0.2, 0.4, 0.6, 0.8), parameter("order", "influence", "late")),
                optional=True,
            ),
            StepChoice("pruning", (parameter("ratio", 0.1, 0.2, 0.3, 0.4, 0.5),), optional=True),
            StepChoice(
                "recovery",
                (parameter("epochs", 0.0625, 0.25, 1.0, 4.0), parameter("rate", 0.02, 0.05, 0.1, default=0.05)),
                when=changed,
                trains=True,
                rungs=(0.0625, 0.25, 1.0, 4.0),
                start=0.0625,
            ),
            StepChoice("static", (parameter("calibration", 128, 512),), precision="int8"),
        ),
        targets=(
            Target("runtime", "cpu", "fp32", ("all", "basic")),
            Target("runtime", "cpu", "int8", ("all", "basic"), ("static",)),
            Target("vino", "cpu", "fp32", ("default",)),
            Target("vino", "cpu", "int8", ("default",), ("static",)),
            Target("eager", "cpu", "fp32", ("default",)),
        ),
        max_drop_of_interest=0.05,
    )


def make_measured(
    candidate: Candidate, score: float, latency_ms: float, reference: tuple[float, float] = (0.92, 2.0)
) -> Measured:
    base_score, base_ms = reference
    exactly = lambda value: Estimate(value, value, value)  # noqa: E731 (three fields in one)
    measurement = Measurement(
        candidate_id=candidate.id,
        split="validation",
        samples=1000,
        scenario="single_stream",
        speedup=exactly(base_ms / latency_ms),
        latency_ms=exactly(latency_ms),
        score=exactly(score),
        score_drop=exactly(base_score - score),
        agreement=1.0,
        latency=Latency(latency_ms, latency_ms, latency_ms, base_ms, 10, 100, 0),
        fidelity=Fidelity(1.0, 0.0, 0.0, 10),
        size_bytes=1,
        peak_rss_bytes=1,
        load_s=0.0,
        first_ms=1.0,
        effective=Effective("1", "cpu", candidate.deployment.precision, candidate.deployment.threads),
        environment=Environment("cpu", 1, 1, (), "Linux", "3.11", {}),
        taken_at="2026-01-01T00:00:00Z",
    )
    return Measured(measurement, artifact_key="0" * 64)


@pytest.fixture
def space() -> Space:
    return make_space()


@pytest.fixture
def reference() -> Candidate:
    return REFERENCE


@pytest.fixture
def outcome() -> Callable[[Candidate, float, float], Measured]:
    """(candidate, score, latency in ms) -> its outcome; the reference has 0.92 at 2 ms."""
    return make_measured
