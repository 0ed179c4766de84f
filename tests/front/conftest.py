"""Configs with the figures that a test names; everything else is the same for all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autoopt.front import Config
from autoopt.records import (
    Candidate,
    Deployment,
    Effective,
    Environment,
    Estimate,
    Fidelity,
    Latency,
    Measurement,
    Step,
)

REFERENCE_MS = 1.0
REFERENCE_SCORE = 0.93


def _config(  # noqa: PLR0913 (each test names the few that it is about)
    number: int,
    latency_ms: float,
    drop: float,
    *,
    relative: float = 0.01,
    drop_half: float = 0.002,
    size_bytes: int = 1_000_000,
    model: tuple[Step, ...] = (),
    precision: str = "fp32",
    confirmed: bool = False,
) -> Config:
    candidate = Candidate(model, Deployment(f"engine{number}", precision))
    score = REFERENCE_SCORE - drop
    speedup = REFERENCE_MS / latency_ms

    def measurement(split: str) -> Measurement:
        return Measurement(
            candidate_id=candidate.id,
            split=split,
            samples=1000,
            scenario="single_stream",
            speedup=Estimate(speedup, speedup / (1 + relative), speedup * (1 + relative)),
            latency_ms=Estimate(latency_ms, latency_ms / (1 + relative), latency_ms * (1 + relative)),
            score=Estimate(score, score - 0.005, score + 0.005),
            score_drop=Estimate(drop, drop - drop_half, drop + drop_half),
            agreement=0.99,
            latency=Latency(latency_ms, latency_ms, latency_ms, REFERENCE_MS, 20, 400, 0),
            fidelity=Fidelity(1.0, 0.0, 0.0, 100),
            size_bytes=size_bytes,
            peak_rss_bytes=1_000_000,
            load_s=0.1,
            first_ms=latency_ms,
            effective=Effective("1.0", "cpu", precision, 1),
            environment=Environment("cpu", 2, 1, (), "Linux", "3.13", {}),
            taken_at="2026-01-01T00:00:00+00:00",
        )

    return Config(candidate, measurement("validation"), measurement("test") if confirmed else None, "key", number)


@pytest.fixture
def config() -> Callable[..., Config]:
    return _config


@pytest.fixture
def reference() -> Config:
    return _config(0, REFERENCE_MS, 0.0, relative=0.0, drop_half=0.0)
