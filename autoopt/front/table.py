"""A config as one flat row: the columns of `Front.to_pandas`, ``front.csv`` and ``candidates.parquet``."""

from __future__ import annotations

from typing import TypeAlias

from autoopt.front.config import Config
from autoopt.front.pick import speedup_over
from autoopt.records import Candidate, Estimate, Measurement
from autoopt.records.candidate import DYNAMIC

Cell: TypeAlias = bool | int | float | str | None


def config_row(config: Config, lossless: Config | None) -> dict[str, Cell]:
    """Every figure with its interval as ``name``, ``name_low``, ``name_high``; both splits where there are two."""
    judged = config.judged
    row = candidate_row(config.number, config.candidate) | {"split": judged.split}
    row |= judged_row(judged)
    row |= estimate_cells("speedup_vs_lossless", None if lossless is None else speedup_over(config, lossless))
    for split, measurement in (("validation", config.validation), ("test", config.test)):
        row |= estimate_cells(f"{split}_score", None if measurement is None else measurement.score)
        row |= estimate_cells(f"{split}_speedup", None if measurement is None else measurement.speedup)
    return row | {"artifact_key": config.artifact_key}


def candidate_row(number: int, candidate: Candidate) -> dict[str, Cell]:
    """What was chosen."""
    served = candidate.deployment
    return {
        "number": number,
        "id": candidate.id,
        "model_id": candidate.model_id,
        "description": candidate.describe(),
        "model": " + ".join(step.technique for step in candidate.model) or "unchanged",
        "engine": served.engine,
        "precision": served.precision,
        "fusion": served.fusion,
        "batch": served.batch,
        "threads": served.threads,
        "hardware": served.hardware,
        "instances": served.instances,
        "batching": served.batching if served.batch > 1 else None,
        "max_wait_ms": served.max_wait_ms if served.batching == DYNAMIC else None,
        "options": ", ".join(f"{name}={value}" for name, value in sorted(served.options.items())),
    }


def judged_row(measurement: Measurement) -> dict[str, Cell]:
    """What was measured."""
    return {
        **estimate_cells("latency_ms", measurement.latency_ms),
        **estimate_cells("speedup", measurement.speedup),
        **estimate_cells("score", measurement.score),
        **estimate_cells("score_drop", measurement.score_drop),
        **estimate_cells("rate", None if measurement.served is None else measurement.served.rate),
        "p90_ms": measurement.latency.p90_ms,
        **estimate_cells("energy_mj", measurement.energy_mj),
        "agreement": measurement.agreement,
        "size_mb": measurement.size_bytes / 1e6,
        "memory_mb": measurement.peak_rss_bytes / 1e6,
        "load_s": measurement.load_s,
        "first_ms": measurement.first_ms,
        "engine_version": measurement.effective.engine_version,
        "remarks": "; ".join(measurement.remarks),
    }


def estimate_cells(name: str, estimate: Estimate | None) -> dict[str, Cell]:
    """Three cells; None where there is no figure."""
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
