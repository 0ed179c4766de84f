"""From a job's folder to its front: the study says what was measured, ``confirmed.json`` what was measured afresh."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from autoopt.front import Config, Front, build_front
from autoopt.front.pick import Exporter
from autoopt.jobfolder import JobFolder, write_json
from autoopt.records import Candidate, Measured, Measurement, Outcome, from_json, to_json

Row = tuple[int, Candidate, Outcome]


def configs(rows: Sequence[Row], confirmed: dict[str, Measurement]) -> tuple[Config, ...]:
    """The measured candidates, each with its confirmation where there is one."""
    return tuple(
        Config(candidate, outcome.measurement, confirmed.get(candidate.id), outcome.artifact_key, number)
        for number, candidate, outcome in rows
        if isinstance(outcome, Measured)
    )


def front_of(
    rows: Sequence[Row],
    reference: Candidate,
    confirmed: dict[str, Measurement],
    metric: str,
    exporter: Exporter | None = None,
) -> Front | None:
    """The front so far; None until the reference has been measured."""
    found = configs(rows, confirmed)
    base = next((config for config in found if config.candidate == reference), None)
    if base is None:
        return None
    return build_front(found, base, metric=metric, reference_name=name_of(reference), exporter=exporter)


def name_of(reference: Candidate) -> str:
    """The reference in the words of a sentence."""
    names = {"pytorch": "PyTorch eager", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    served = reference.deployment
    return f"{names.get(served.engine, served.engine)} {served.precision.upper()}"


def read_confirmed(folder: JobFolder) -> dict[str, Measurement]:
    """Candidate id to its measurement on the test split."""
    path = _path(folder)
    if not path.exists():
        return {}
    return {name: from_json(Measurement, data) for name, data in json.loads(path.read_text()).items()}


def write_confirmed(folder: JobFolder, confirmed: dict[str, Measurement]) -> None:
    """Replace the file atomically."""
    write_json(_path(folder), to_json(confirmed))


def _path(folder: JobFolder) -> Path:
    return folder.path / "confirmed.json"
