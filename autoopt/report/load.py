"""A server's configs under load: the latency-rate curves, and the rates that were kept up with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from autoopt.front import Config
from autoopt.front.words import figure, interval, number
from autoopt.records import Served
from autoopt.records.candidate import DYNAMIC
from autoopt.report.data import ReportData

_DRAWN = 6
"""Curves in one drawing: more would hide each other."""


@dataclass(frozen=True)
class LoadRow:
    """One config of the table."""

    number: int
    name: str
    rate: str
    rate_interval: str
    p50_ms: str
    """At the highest rate that held."""
    p99_ms: str
    mean_batch: str
    tried: int
    """Rates."""


def bound_ms(data: ReportData) -> float | None:
    """The job's bound; None where nothing was measured under load."""
    return next((served.bound_ms for _, served in _served(data)), None)


def rows(data: ReportData) -> tuple[LoadRow, ...]:
    """Those that are drawn."""
    return tuple(_row(config, served) for config, served in chosen(data))


def curves(data: ReportData) -> list[dict[str, Any]]:
    """What the page draws, finite numbers only: a rate at which requests were not answered any more is left out."""
    return [
        {
            "number": config.number,
            "name": config.describe(),
            "rate": [point.rate for point in points],
            "p50_ms": [point.p50_ms for point in points],
            "p99_ms": [point.p99_ms for point in points],
            "batch": [point.mean_batch for point in points],
            "held": [point.held for point in points],
        }
        for config, served in chosen(data)
        for points in ([point for point in served.curve if math.isfinite(point.p99_ms)],)
    ]


def chosen(data: ReportData) -> list[tuple[Config, Served]]:
    """The recommended config, the reference, the front and, besides, the best with each kind of batching: what one wants to compare."""
    served = {config.id: (config, each) for config, each in _served(data)}
    wanted = []
    if data.recommended is not None:
        wanted.append(data.recommended.config.id)
    if data.front is not None:
        wanted += [data.front.reference.id, *(config.id for config in data.front)]
    best = sorted(served.values(), key=lambda pair: -pair[1].rate.value)
    for batching in ("one at a time", "static", DYNAMIC):
        wanted += [config.id for config, _ in best if batching_of(config) == batching][:1]
    return [served[name] for name in dict.fromkeys(wanted) if name in served][:_DRAWN]


def batching_of(config: Config) -> str:
    """In words."""
    deployment = config.candidate.deployment
    return "one at a time" if deployment.batch == 1 else deployment.batching


def _served(data: ReportData) -> list[tuple[Config, Served]]:
    pairs = ((config, config.judged.served or config.validation.served) for config in data.configs)
    return [(config, served) for config, served in pairs if served is not None]


def _row(config: Config, served: Served) -> LoadRow:
    held = [point for point in served.curve if point.held]
    at = max(held, key=lambda point: point.rate, default=served.curve[0])
    none = served.rate.value == 0
    return LoadRow(
        number=config.number,
        name=config.describe(),
        rate="none held" if none else figure(served.rate),
        rate_interval="" if none else interval(served.rate),
        p50_ms=number(at.p50_ms),
        p99_ms=number(at.p99_ms) if math.isfinite(at.p99_ms) else "never answered",
        mean_batch=number(at.mean_batch),
        tried=len(served.curve),
    )
