"""The two tables: ``front.csv`` (a row a config of the front) and ``candidates.parquet`` (a row a candidate)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from autoopt.front import Config
from autoopt.front.table import Cell, candidate_row, config_row
from autoopt.records import Eliminated, Failed
from autoopt.records.outcome import outcome_name
from autoopt.report.data import ReportData, Row

_TEXT = ("outcome", "rung", "reason", "stage", "failure", "message", "log", "steps")
_STRINGS = frozenset(
    {
        "id",
        "model_id",
        "description",
        "model",
        "engine",
        "precision",
        "fusion",
        "hardware",
        "split",
        "engine_version",
        "batching",
        "options",
    }
    | {"remarks", "artifact_key", *_TEXT}
)
_INTEGERS = frozenset({"number", "batch", "threads", "instances", "retries"})
_FLAGS = frozenset({"on_front"})


def write_front_csv(data: ReportData, path: Path) -> None:
    """`Front.to_pandas` as CSV; an empty file's header tells that there is no front."""
    frame = pd.DataFrame(columns=["number", "id"]) if data.front is None else data.front.to_pandas()
    frame.to_csv(path, index=False)


def write_candidates(data: ReportData, path: Path) -> None:
    """Every candidate, flattened, as Parquet. The column types do not depend on which outcomes occurred."""
    candidates_frame(data).to_parquet(path, index=False)


def candidates_frame(data: ReportData) -> pd.DataFrame:
    """A row a candidate. Parameters of steps stand in columns ``technique.parameter`` as text, for their types vary."""
    configs = {config.number: config for config in data.configs}
    listed = frozenset[str]() if data.front is None else frozenset(config.id for config in data.front)
    rows = [_row(row, configs.get(row.number), data) | {"on_front": row.candidate.id in listed} for row in data.rows]
    frame = pd.DataFrame(rows, columns=_columns(rows))
    return frame.astype({name: _dtype(name) for name in frame.columns})


def _columns(rows: list[dict[str, Cell]]) -> list[str]:
    known = dict.fromkeys(["number", "id", "description", "on_front", *_TEXT])
    for row in rows:
        known |= dict.fromkeys(row)
    return list(known)


def _dtype(name: str) -> str:
    if name in _FLAGS:
        return "bool"
    if name in _INTEGERS:
        return "int64"
    return "string" if name in _STRINGS or "." in name else "float64"


def _row(row: Row, config: Config | None, data: ReportData) -> dict[str, Cell]:
    cells = candidate_row(row.number, row.candidate) | _outcome_cells(row)
    if config is not None:
        cells |= config_row(config, None if data.front is None else data.front.lossless)
    steps = " + ".join(step.technique for step in row.candidate.model)
    parameters = {
        f"{step.technique}.{name}": str(value) for step in row.candidate.model for name, value in step.params.items()
    }
    stages = row.outcome.stages
    cost = {"work_s": sum(stage.seconds for stage in stages), "retries": sum(stage.retries for stage in stages)}
    return cells | {"steps": steps} | cost | parameters


def _outcome_cells(row: Row) -> dict[str, Cell]:
    outcome = row.outcome
    cells: dict[str, Cell] = {"outcome": outcome_name(outcome)}
    if isinstance(outcome, Eliminated):
        cells |= {"rung": outcome.rung, "reason": outcome.reason}
        cells |= {"probed_speedup": outcome.speedup, "probed_score": outcome.score}
    if isinstance(outcome, Failed):
        cells |= {"stage": outcome.stage, "failure": str(outcome.kind), "message": outcome.message, "log": outcome.log}
    return cells
