"""What does batching buy a server? The demo's network behind one queue: single requests, static and dynamic batches.

    python benchmarks/serving/batching.py [--engine openvino] [--precision fp32] [--batch 8] [--p99-ms 20]

The same requests (a Poisson process) at the same rates for each kind, in turn; then the highest rate of each under the bound. Dynamic
batches must answer sooner than static ones where requests are rare, and keep up with at least the rate of static ones and of single requests.
Needs two cores that nothing else uses. The last line is a JSON object of the figures and their targets.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoopt.records import Deployment, to_json
from autoopt.records.candidate import DYNAMIC, STATIC
from autoopt.task import PreparedTask, load_task, prepare
from autoopt.workers import formats
from autoopt.workers.engines import engine
from autoopt.workers.engines.base import Source
from autoopt.workers.measure import ServedArtifact, TimingSettings
from autoopt.workers.measure.handle import Server, served
from autoopt.workers.measure.requests import RequestQueue
from autoopt.workers.measure.run import serving
from autoopt.workers.measure.service import serve, watch_at
from autoopt.workers.process import Limits, Preload, call, shutdown
from autoopt.workers.stages.plan import smaller_batches
from autoopt.workers.store.local import LocalStore

TASK = Path(__file__).parents[2] / "examples" / "fashion_mnist" / "task.py"
PRELOAD = Preload(("numpy", "torch", "onnxruntime", "openvino"))
SHARES = (0.05, 0.25, 0.5, 0.75)
"""Of what single requests may come at most."""


def prepared(request: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: the task in a store, and the network built for every batch."""
    folder = Path(request["folder"])
    task = prepare(load_task(f"{TASK}:task"), LocalStore(folder / "store"))
    each = engine(request["engine"])
    source = Source(task.source_format, task.folder / "network", task.signature)
    target = next(name for name in each.formats if formats.path(source.format, name) is not None)
    for size in request["sizes"]:
        built = formats.convert(source, target, size, folder / f"{target}-{size}")
        out = folder / f"artifact-{size}"
        out.mkdir()
        each.build(built, Deployment(request["engine"], request["precision"], batch=size), out)
    return {"task": str(task.folder)}


def measured(request: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: every kind at the same rates, then its highest rate."""
    folder, task = Path(request["folder"]), PreparedTask.open(Path(request["task"]))
    lane, *others = sorted(os.sched_getaffinity(0))
    beside = tuple(others) or (lane,)
    settings = TimingSettings(window_s=request["window_s"], searches=request["searches"])
    found: dict[str, Any] = {}
    top = None
    for name, deployment in kinds(request).items():
        queue = RequestQueue.create()
        smaller = (
            {str(size): str(folder / f"artifact-{size}") for size in smaller_batches(deployment.batch)}
            if deployment.batching == DYNAMIC
            else {}
        )
        artifact = ServedArtifact(deployment.engine, str(folder / f"artifact-{deployment.batch}"), deployment, smaller)
        with served(serving(artifact, task, (lane,), "server", queue)) as server:
            capacity = _capacity(server)
            top = capacity if top is None else top
            windows = [
                watch_at(server, queue, share * top, request["p99_ms"], beside, request["window_s"], seed)
                for seed, share in enumerate(SHARES, 1)
            ]
            result = serve(server, queue, capacity, request["p99_ms"], beside, settings)
        queue.discard()
        found[name] = {"capacity": capacity, "rate": to_json(result.rate), "harness_p50_ms": result.harness_p50_ms}
        found[name]["p99_ms"] = {
            # None where requests were not answered any more
            f"{share:g}": window.p99_ms if math.isfinite(window.p99_ms) else None
            for share, window in zip(SHARES, windows, strict=True)
        }
        print(f"{name}: {found[name]}", flush=True)
    return found


def _capacity(server: Server) -> float:
    server.load()
    call_ns = server.warm(0.5)
    return server.serving.artifact.deployment.batch * 1e9 / call_ns


def kinds(request: dict[str, Any]) -> dict[str, Deployment]:
    """What is compared, the single requests first."""
    single = Deployment(request["engine"], request["precision"])
    batched = replace(single, batch=request["batch"])
    return {
        "single requests": single,
        "static batches": replace(batched, batching=STATIC),
        "dynamic batches, no wait": replace(batched, batching=DYNAMIC),
        "dynamic batches, 2 ms": replace(batched, batching=DYNAMIC, max_wait_ms=2.0),
    }


def main() -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--p99-ms", type=float, default=20.0)
    parser.add_argument("--window-s", type=float, default=2.0)
    parser.add_argument("--searches", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="autoopt-batching-") as folder:
        request = {**vars(given), "folder": folder, "sizes": [*smaller_batches(given.batch), given.batch]}
        log = Path(folder, "log")
        request |= call("batching:prepared", request, Limits(900.0), PRELOAD, log)
        found = call("batching:measured", request, Limits(900.0), PRELOAD, log)
    shutdown()
    rows = [("", "highest rate", *(f"p99 at {share:.0%}" for share in SHARES))]
    for name, each in found.items():
        rate = each["rate"]
        shown = f"{rate['value']:.0f}/s ({rate['low']:.0f}–{rate['high']:.0f})"
        rows.append(
            (name, shown, *("never" if value is None else f"{value:.1f} ms" for value in each["p99_ms"].values()))
        )
    for row in rows:
        print(f"{row[0]:26}{row[1]:>24}" + "".join(f"{cell:>14}" for cell in row[2:]))
    single, static, dynamic = (
        found[name] for name in ("single requests", "static batches", "dynamic batches, no wait")
    )
    rare = f"{SHARES[0]:g}"
    figures = {
        "dynamic_over_single": _over(dynamic["rate"]["value"], single["rate"]["value"]),
        "dynamic_over_static": _over(dynamic["rate"]["value"], static["rate"]["value"]),
        "static_over_dynamic_p99_where_requests_are_rare": _over(static["p99_ms"][rare], dynamic["p99_ms"][rare]),
    }
    target = {
        "dynamic_over_single": 0.95,
        "dynamic_over_static": 0.95,
        "static_over_dynamic_p99_where_requests_are_rare": 2.0,
    }
    print(json.dumps({**figures, "found": found, "target": target}))
    return 0 if all(value is None or value >= target[name] for name, value in figures.items()) else 1


def _over(one: float | None, other: float | None) -> float | None:
    """The ratio; None where the other never kept up, or the one never answered: then nothing is left to compare."""
    return one / other if one is not None and other else None


if __name__ == "__main__":
    sys.exit(main())
