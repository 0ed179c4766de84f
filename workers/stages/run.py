"""The functions that run in a stage's own process: folders in, a folder out, facts as the answer.

`autoopt.workers.stages.execute` calls `run` through `autoopt.workers.process`, so a crash here is that stage's failure only.
"""

from __future__ import annotations

import json
import tempfile
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

FACTS = "facts.json"
OUTPUTS = "outputs.npy"
# So many validation samples tell an artifact that computes something else from the network it was built from.
FIDELITY_SAMPLES = 256
TEACHER_BATCH = 16


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
    )
    facts = _FUNCTIONS[request["kind"]](work)
    (work.out / FACTS).write_text(json.dumps(facts, indent=1))
    return facts


def _technique(work: Work) -> dict[str, Any]:
    from autoopt.workers import formats
    from autoopt.workers.techniques import technique
    from autoopt.workers.techniques.base import Context

    task = work.task
    chosen = technique(work.name)
    _set_threads(work.threads)
    source = _network(work, work.params["format"], task)
    context = Context(
        task=task,
        signature=task.signature,
        teacher=_teacher(work.parents[2:]),
        seed=work.params["seed"],
        threads=work.threads,
        progress=lambda line: print(line, flush=True),
    )
    model, facts = chosen.apply(formats.load(source), work.params["values"], context)
    formats.save(model, source.format, work.out, task.signature)
    if source.format == "module":
        _record_outputs(model, task, work.out)
    return dict(facts)


def _teacher(chunks: tuple[Path, ...]) -> np.ndarray | None:
    if not chunks:
        return None
    return np.concatenate([np.load(chunk / OUTPUTS) for chunk in chunks])


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


def _teacher_outputs(work: Work) -> dict[str, Any]:
    from autoopt.workers import formats

    task = work.task
    _set_threads(work.threads)
    indices = task.training_order[work.params["start"] : work.params["stop"]]
    original = _original(task, work.parents[0])
    try:
        outputs = _exported_outputs(original, task, indices, work.out)
    except StageError as error:
        print(f"outputs in PyTorch, since it cannot be exported: {error.message}", flush=True)
        outputs = _module_outputs(formats.load(original), task, "train", indices)
    np.save(work.out / OUTPUTS, outputs)
    return {"samples": len(indices)}


def _original_outputs(work: Work) -> dict[str, Any]:
    outputs = work.task.outputs_of_original(work.name, progress=lambda line: print(line, flush=True))
    return {"samples": len(outputs)}


def _exported_outputs(original: Source, task: PreparedTask, indices: np.ndarray, out: Path) -> np.ndarray:
    """The original's first output for training samples, by ONNX Runtime: three times as fast as eager PyTorch."""
    from autoopt.workers import formats

    engine, deployment = engine_named("onnxruntime"), Deployment("onnxruntime", batch=TEACHER_BATCH)
    offer = engine.offer()
    if not offer.available:
        raise StageError(FailureKind.UNSUPPORTED, f"ONNX Runtime is not offered here: {offer.reason}")
    with tempfile.TemporaryDirectory(dir=out) as folder:
        exported, artifact = Path(folder, "onnx"), Path(folder, "artifact")
        exported.mkdir()
        artifact.mkdir()
        engine.build(formats.convert(original, "onnx", TEACHER_BATCH, exported), deployment, artifact)
        session = engine.load(artifact, deployment, task.signature)
        arrays = task.arrays("train").inputs
        parts = []
        for start in range(0, len(indices), TEACHER_BATCH):
            chosen = indices[start : start + TEACHER_BATCH]
            padded = np.resize(chosen, TEACHER_BATCH)
            outputs = session(tuple(np.ascontiguousarray(array[padded]) for array in arrays))
            parts.append(np.array(outputs[0][: len(chosen)], copy=True))
        session.close()
    return np.concatenate(parts)


def _export(work: Work) -> dict[str, Any]:
    from autoopt.workers import formats

    task = work.task
    formats.convert(_network(work, work.params["from"], task), work.name, work.params["batch"], work.out)
    return {"size_bytes": _size(work.out)}


def _build(work: Work) -> dict[str, Any]:
    task = work.task
    deployment = from_json(Deployment, work.params["deployment"])
    source = _network(work, work.params["format"], task)
    engine_named(work.name).build(source, deployment, work.out)
    return {"size_bytes": _size(work.out)}


def _measure(work: Work) -> dict[str, Any]:
    from autoopt.workers.measure.run import measure

    return dict(measure(_measure_request(work)))


def _measure_request(work: Work) -> dict[str, Any]:
    params = work.params
    parents = list(work.parents)
    task, artifact = parents[0], parents[1]
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
        "settings": {**params["settings"], "cores": list(work.cores)},
    }


_FUNCTIONS: dict[str, Callable[[Work], dict[str, Any]]] = {
    "technique": _technique,
    "teacher": _teacher_outputs,
    "original": _original_outputs,
    "export": _export,
    "build": _build,
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
