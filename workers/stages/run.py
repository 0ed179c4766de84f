"""The functions that run in a stage's own process: folders in, a folder out, facts as the answer.

`autoopt.workers.stages.execute` calls `run` through `autoopt.workers.process`, so a crash here is that stage's failure only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, from_json, to_json
from autoopt.task.prepared import PreparedTask
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.engines.base import Source
from autoopt.workers.measure.gpu import alone
from autoopt.workers.stages.chunks import FEATURES, OUTPUTS, Chunked
from autoopt.workers.techniques.base import Context, Taught

FACTS = "facts.json"
# So many validation samples tell an artifact that computes something else from the network it was built from.
FIDELITY_SAMPLES = 256


@dataclass(frozen=True)
class Work:
    """What a stage's function gets."""

    name: str
    params: dict[str, Any]
    parents: tuple[Path, ...]
    """The parents' folders; the first is the task's."""
    out: Path
    threads: int
    cores: tuple[int, ...]
    beside: tuple[int, ...] = ()
    """The node's other cores, for what must not disturb a measurement."""

    @property
    def task(self) -> PreparedTask:
        """The prepared task."""
        return PreparedTask.open(self.parents[0])


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one stage; its facts are returned and also left in the folder as ``facts.json``.

    Raises:
        StageError: with the kind that the census counts it under.
    """
    work = Work(
        name=request["name"],
        params=request["params"],
        parents=tuple(Path(parent) for parent in request["parents"]),
        out=Path(request["out"]),
        threads=request["threads"],
        cores=tuple(request["cores"]),
        beside=tuple(request["beside"]),
    )
    facts = _FUNCTIONS[request["kind"]](work)
    (work.out / FACTS).write_text(json.dumps(facts, indent=1))
    return facts


def _technique(work: Work) -> dict[str, Any]:
    from autoopt.workers import formats
    from autoopt.workers.techniques import technique

    task = work.task
    chosen = technique(work.name)
    _set_threads(work.threads)
    source = _network(work, work.params["format"], task)
    model, facts = chosen.apply(formats.load(source), work.params["values"], _context(work))
    formats.save(model, source.format, work.out, task.signature)
    if source.format == "module":
        _record_outputs(model, task, work.out)
    return dict(facts)


def _context(work: Work) -> Context:
    task = work.task
    return Context(
        task=task,
        signature=task.signature,
        taught=_taught(work.parents[2:]),
        seed=work.params.get("seed", 0),
        threads=work.threads,
        progress=lambda line: print(line, flush=True),
    )


def _taught(chunks: tuple[Path, ...]) -> Taught | None:
    if not chunks:
        return None
    features = [chunk / FEATURES for chunk in chunks]
    return Taught(
        Chunked([np.load(chunk / OUTPUTS, mmap_mode="r") for chunk in chunks]),
        Chunked([np.load(path, mmap_mode="r") for path in features]) if all(map(Path.exists, features)) else None,
    )


def _record_outputs(model: Any, task: PreparedTask, out: Path) -> None:
    """What the network answers to the first validation samples: an artifact built from it must answer the same."""
    outputs = _module_outputs(model, task, "validation", np.arange(min(FIDELITY_SAMPLES, task.splits["validation"])))
    if not np.isfinite(outputs).all():
        raise StageError(FailureKind.DIVERGED, "the network's outputs hold NaN or infinity.")
    np.save(out / OUTPUTS, outputs)


def _module_outputs(model: Any, task: PreparedTask, split: str, indices: np.ndarray, batch: int = 256) -> np.ndarray:
    """The first output of a module for chosen samples of a split, (len(indices), ...)."""
    import torch

    from autoopt.workers import formats

    arrays = task.arrays(split)
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(indices), batch):
            chosen = indices[start : start + batch]
            inputs = tuple(torch.from_numpy(np.ascontiguousarray(array[chosen])) for array in arrays.inputs)
            parts.append(formats.call_module(model, inputs, task.signature)[0].float().numpy())
    return np.concatenate(parts)


def _teach(work: Work) -> dict[str, Any]:
    from autoopt.workers import formats
    from autoopt.workers.stages.teaching import teach

    task = work.task
    _set_threads(work.threads)
    places = np.arange(work.params["start"], min(work.params["stop"], len(task.training_order)))
    teach(formats.load(_original(task, work.parents[0])), _context(work), places, work.out)
    return {"samples": len(places)}


def _original_outputs(work: Work) -> dict[str, Any]:
    outputs = work.task.outputs_of_original(work.name, progress=lambda line: print(line, flush=True))
    return {"samples": len(outputs)}


def _export(work: Work) -> dict[str, Any]:
    from autoopt.workers import formats

    task = work.task
    formats.convert(_network(work, work.params["from"], task), work.name, work.params["batch"], work.out)
    return {"size_bytes": _size(work.out)}


def _build(work: Work) -> dict[str, Any]:
    task = work.task
    deployment = from_json(Deployment, work.params["deployment"])
    source = _network(work, work.params["format"], task)
    with alone(deployment.hardware):
        engine_named(work.name).build(source, deployment, work.out)
    return {"size_bytes": _size(work.out)}


def _measure(work: Work) -> dict[str, Any]:
    from autoopt.workers.measure.run import measure

    with alone(work.params["deployment"]["hardware"], work.params["reference"]["hardware"]):
        return dict(measure(_measure_request(work)))


def _predict(work: Work) -> dict[str, Any]:
    from autoopt.workers.measure.records import ServedArtifact
    from autoopt.workers.measure.run import predict

    deployment = from_json(Deployment, work.params["deployment"])
    artifact = ServedArtifact(deployment.engine, str(work.parents[1]), deployment)
    with alone(deployment.hardware):
        outputs = predict(artifact, work.task, work.name, work.params["samples"], work.cores)
    np.save(work.out / OUTPUTS, outputs)
    return {"samples": len(outputs)}


def _measure_request(work: Work) -> dict[str, Any]:
    params = work.params
    parents = list(work.parents)
    task, artifact = parents[0], parents[1]
    sizes = params["smaller"]
    smaller = dict(zip(sizes, map(str, parents[len(parents) - len(sizes) :]), strict=True))
    del parents[len(parents) - len(sizes) :]
    predicted = parents.pop() / OUTPUTS if params["predicted"] else None
    outputs = parents.pop() / OUTPUTS if params["outputs"] else task / "outputs" / "validation.npy"
    reference, reference_latency_ms = artifact, None
    if len(parents) > 2:  # noqa: PLR2004 (task, artifact, then the reference's artifact and measurement)
        reference = parents[2]
        facts = json.loads((parents[3] / FACTS).read_text())
        reference_latency_ms = facts["latency"]["median_ms"] / params["reference"]["batch"]
    return {
        "candidate_id": params["candidate"],
        "artifact": {
            "engine": params["deployment"]["engine"],
            "path": str(artifact),
            "deployment": params["deployment"],
            "smaller": smaller,
        },
        "reference": {
            "engine": params["reference"]["engine"],
            "path": str(reference),
            "deployment": params["reference"],
        },
        "task": str(task),
        "split": None if work.name == "none" else work.name,
        "samples": params["samples"],
        "scenario": params["scenario"],
        "reference_latency_ms": reference_latency_ms,
        "source_outputs": None if work.name == "none" else str(outputs),
        "own_outputs": None if predicted is None else str(predicted),
        "settings": {**params["settings"], "cores": list(work.cores), "beside": list(work.beside)},
        "p99_ms": params["p99_ms"],
        "executed": params["executed"],
    }


_FUNCTIONS: dict[str, Callable[[Work], dict[str, Any]]] = {
    "technique": _technique,
    "teacher": _teach,
    "original": _original_outputs,
    "export": _export,
    "build": _build,
    "predict": _predict,
    "probe": _measure,
    "measure": _measure,
}


def _network(work: Work, network_format: str, task: PreparedTask) -> Source:
    """The network that the stage starts from: the second parent's, which may be the task itself."""
    folder = work.parents[1]
    if folder == work.parents[0]:
        return _original(task, folder)
    return Source(network_format, folder, task.signature)


def _original(task: PreparedTask, folder: Path) -> Source:
    return Source(task.source_format, folder / "network", task.signature)


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_request(kind: str, work: Work) -> dict[str, Any]:
    """The request for `run`, as JSON values."""
    return {"kind": kind, **to_json({**vars(work), "parents": [str(p) for p in work.parents], "out": str(work.out)})}
