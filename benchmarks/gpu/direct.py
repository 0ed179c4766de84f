"""The same deployments without the search: each is built and measured in processes of its own, in turn with eager PyTorch on one core."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import StageError
from autoopt.records import Deployment, Estimate, Signature, TensorSpec, from_json, to_json
from autoopt.workers import formats, process
from autoopt.workers.engines import engine, offers
from autoopt.workers.engines.base import Source
from autoopt.workers.measure import ServedArtifact, TimingSettings, gpu, resources
from autoopt.workers.measure.fidelity import compare
from autoopt.workers.measure.handle import served
from autoopt.workers.measure.paired import time_pair
from autoopt.workers.measure.records import Executed
from autoopt.workers.measure.server import Serving
from autoopt.workers.process import Limits, Preload

ENGINES = ("pytorch", "onnxruntime", "tensorrt", "torchscript", "inductor")
FUSIONS = ("default", "channels_last", "fused", "cuda_graphs")
REFERENCE = Deployment("pytorch")
TOTAL_S, BUILD_S, MEASURE_S = 540.0, 150.0, 60.0
SAMPLES = 128


def measured(names: Sequence[str], hardware: Sequence[str], folder: Path) -> dict[str, Any]:
    """Of each network, every deployment: its figures, or why there are none. Nothing begins after nine minutes."""
    until = time.monotonic() + TOTAL_S
    found: dict[str, Any] = {name: [] for name in names}
    for deployment in deployments(hardware):  # the engines that take longest to build come last, for all networks
        for name in names:
            left_s = until - time.monotonic()
            served_by = f"{deployment.engine} {deployment.precision} {deployment.fusion}"
            cell: dict[str, Any] = {"served": served_by, "hardware": deployment.hardware}
            cell |= _one(deployment, name, folder, left_s) if left_s > 0 else {"why": "no time was left"}
            found[name].append(cell)
            told = cell.get("speedup", cell.get("why"))
            print(f"{name}: {served_by} on {deployment.hardware}: {told}", file=sys.stderr)
    process.shutdown()
    return found


def deployments(hardware: Sequence[str]) -> Iterator[Deployment]:
    """Every engine and float that there is, on the GPU at every fusion level."""
    there = offers()
    for name in ENGINES:
        offer = there[name]
        for device in hardware:
            if device not in offer.precisions:
                print(f"{name} on {device}: {offer.lacking.get(device, offer.reason)}", file=sys.stderr)
            for precision in offer.precisions.get(device, ()):
                for fusion in FUSIONS if device == "cuda" else FUSIONS[:1]:
                    if fusion in offer.fusions_on(device) and not precision.startswith("int8"):
                        yield Deployment(name, precision, fusion, hardware=device)


def build(request: dict[str, Any]) -> None:
    """In a process of its own: the network as an artifact, and the reference's where there is none yet."""
    deployment = from_json(Deployment, request["deployment"])
    source = _source(request["network"], Path(request["bench"]))
    reference = Path(request["bench"], "reference")
    for each, out in ((REFERENCE, reference), (deployment, Path(request["out"]))):
        if not out.exists():
            built = engine(each.engine)
            needed = next(name for name in built.formats if formats.path(source.format, name) is not None)
            converted = formats.convert(source, needed, 1, out.with_name(f"{out.name}-source"))
            out.mkdir()
            built.build(converted, each, out)


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: agreement with the network and the time in turn with it."""
    deployment = from_json(Deployment, request["deployment"])
    signature, samples = _signature(request["network"]), (_samples(request["network"]),)
    batches = tuple((samples[0][row : row + 1],) for row in range(16))
    cores = resources.lane(())[:1]
    candidate, original = (
        Serving(ServedArtifact(each.engine, str(folder), each), signature, cores, batches)
        for folder, each in (
            (request["out"], deployment),
            (Path(request["bench"], "reference"), REFERENCE),
        )
    )
    with served(candidate) as artifact, served(original, is_reference=True) as reference:
        artifact.load()
        reference.load()
        fidelity = compare(artifact.predict(samples), reference.predict(samples), class_scores=True)
        warm_s = gpu.warm_up(artifact, gpu.state) if deployment.hardware == "cuda" else 0.0
        pairs = time_pair(artifact, reference, TimingSettings(target_half_width=0.03, max_s=3.0))
        told = gpu.told(gpu.state()) if deployment.hardware == "cuda" else gpu.Told()
        effective = artifact.effective()
        resources.require_as_asked(effective, deployment, Executed())
    return {
        "agreement": fidelity.agreement,
        "mean_difference": fidelity.mean_difference,
        "speedup": to_json(pairs.speedup),
        "latency_ms": pairs.latency.median_ms,
        "warm_s": round(warm_s, 2),
        "told": {**effective.details, **told.details},
        "remarks": [*pairs.remarks, *told.remarks],
    }


def _one(deployment: Deployment, name: str, folder: Path, left_s: float) -> dict[str, Any]:
    out = folder / name / f"{deployment.engine}-{deployment.precision}-{deployment.fusion}-{deployment.hardware}"
    out.parent.mkdir(exist_ok=True)
    request = {"deployment": to_json(deployment), "network": name, "out": str(out), "bench": str(out.parent)}
    preload, log, began = Preload(("numpy", "torch")), folder / "log", time.monotonic()
    try:
        process.call("direct:build", request, Limits(min(BUILD_S, left_s)), preload, log)
        build_s = time.monotonic() - began
        told = process.call("direct:measure", request, Limits(MEASURE_S), preload, log)
    except StageError as error:
        return {"why": f"{error.kind}: {error.message}"}
    speedup = from_json(Estimate, told["speedup"])
    return {**told, "speedup": [round(value, 2) for value in astuple(speedup)], "build_s": round(build_s, 1)}


def _source(name: str, bench: Path) -> Source:
    from tasks import NETWORKS

    folder = bench / "module"
    if folder.exists():
        return Source("module", folder, _signature(name))
    return formats.save(NETWORKS[name][0](), "module", folder, _signature(name))


def _samples(name: str) -> np.ndarray:
    from tasks import NETWORKS

    return NETWORKS[name][1](SAMPLES, 1)


def _signature(name: str) -> Signature:
    one = _samples(name)[:1]
    return Signature("array", (TensorSpec("x", one.shape[1:], str(one.dtype)),))
