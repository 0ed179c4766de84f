"""From a job's folder to its front: the study says what was measured, ``confirmed.json`` what was measured afresh."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import BundleError
from autoopt.front import Config, Front, build_front
from autoopt.front.pick import Exporter
from autoopt.jobfolder import JobFolder, write_json
from autoopt.records import Candidate, Measured, Measurement, Outcome, from_json, to_json

if TYPE_CHECKING:
    from autoopt.workers.store.base import Store

Row = tuple[int, Candidate, Outcome]


def configs(rows: Sequence[Row], confirmed: dict[str, Measurement]) -> tuple[Config, ...]:
    """The measured candidates, each with its confirmation where there is one."""
    return tuple(
        Config(
            candidate, outcome.measurement, confirmed.get(candidate.id), outcome.artifact_key, number, outcome.smaller
        )
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
    names = {"pytorch": "PyTorch eager", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT"}
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


def write_front(
    path: Path, rows: Sequence[Row], reference: Candidate, confirmed: dict[str, Measurement], metric: str, task_key: str
) -> None:
    """What a front is made of, for who has no study: a client of a cluster. Replaces the file atomically."""
    data = {
        "metric": metric,
        "reference": to_json(reference),
        "task_key": task_key,
        "measured": [
            [number, to_json(candidate), to_json(replace(outcome, stages=()))]
            for number, candidate, outcome in rows
            if isinstance(outcome, Measured)
        ],
        "confirmed": to_json(confirmed),
    }
    write_json(path, data)


def read_front(data: dict[str, Any], job: str, store: Store | None) -> Front | None:
    """The front that `write_front` has kept; it exports as long as the store has the artifacts."""
    rows = [
        (number, from_json(Candidate, candidate), from_json(Measured, outcome))
        for number, candidate, outcome in data["measured"]
    ]
    reference = from_json(Candidate, data["reference"])
    confirmed = {name: from_json(Measurement, each) for name, each in data["confirmed"].items()}
    exporter = None if store is None else _StoredExporter(job, data["task_key"], store, name_of(reference))
    return front_of(rows, reference, confirmed, data["metric"], exporter)


@dataclass(frozen=True)
class _StoredExporter:
    """Opens the task when something is exported, and not before: it is fetched from the store then."""

    job: str
    task_key: str
    store: Store
    reference_name: str

    def __call__(self, config: Config, out: Path) -> Path:
        from autoopt.search.bundling import Exporter
        from autoopt.task.prepared import PreparedTask

        place = self.store.get(self.task_key)
        if place is None:
            message = f"the store no longer has the prepared task of {self.job}, without which no bundle can be made"
            raise BundleError(message)
        return Exporter(self.job, PreparedTask.open(place), self.store, self.reference_name)(config, out)


def _path(folder: JobFolder) -> Path:
    return folder.path / "confirmed.json"
