"""Every engine on every small network in every precision that it declares: what passes, what is refused and why, how it compares with eager.

    python benchmarks/conformance/conformance.py [--engine NAME ...] [--network NAME ...] [--out FOLDER]

Each case is built and served in processes of its own, with limits: an engine that crashes or hangs is a cell of the table. An artifact passes
when its outputs agree with the network's own, what ran is what was asked, and no more threads computed; its time is the paired one against
eager PyTorch FP32 (A B A B …, one sample, one thread). Writes ``conformance.json`` and ``conformance.md``; of a part, what the files hold of the
others on the same machine stays. Half an hour, of which half is TVM's tuning. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from autoopt import engine_environments
from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Estimate, from_json, to_json
from autoopt.records.environment import current
from autoopt.workers import process
from autoopt.workers.engines import engine, engines, offers
from autoopt.workers.process import Limits, Preload

REFERENCE = Deployment("pytorch")
FILE = "conformance.json"
SAMPLES = 64
BUILD_S, MEASURE_S, MEMORY = 600.0, 120.0, 12_000_000_000
RUNNING = Preload(("numpy", "torch"), ("onnxruntime", "openvino"))
BUILDING = Preload(("numpy", "torch", "onnxruntime"), ("onnx", "openvino", "nncf"))


@dataclass(frozen=True)
class Cell:
    """How a case ended."""

    engine: str
    precision: str
    network: str
    outcome: str
    """"pass", "refused" (the engine says that it cannot take the network) or "error"."""
    why: str = ""
    agreement: float | None = None
    mean_difference: float | None = None
    speedup: Estimate | None = None
    """Eager PyTorch's time divided by this artifact's."""
    build_s: float | None = None
    taken_on: str = ""
    hardware: str = "cpu"

    @property
    def row(self) -> tuple[str, str]:
        """What stands in front of its row."""
        return self.engine if self.hardware == "cpu" else f"{self.engine} on {self.hardware}", self.precision

    @property
    def case(self) -> tuple[str, str, str, str]:
        """What it is of."""
        return self.engine, self.hardware, self.precision, self.network

    @property
    def text(self) -> str:
        """In the table."""
        if self.outcome == "pass":
            assert self.speedup is not None
            return f"{self.speedup.value:.2g}×"
        return self.outcome


def build(request: dict[str, Any]) -> None:
    """In a process of its own, with the engine's interpreter: the network, quantized where the precision says so, as an artifact."""
    from autoopt.testing.workbench import Workbench

    deployment, network = from_json(Deployment, request["deployment"]), _network(request["network"])
    each, out = engine(deployment.engine), Path(request["out"])
    out.mkdir()
    source = Workbench(Path(request["bench"])).source(network, each.formats, deployment)
    each.build(source, deployment, out)


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: agreement with the network, then its time in turn with eager PyTorch's."""
    from autoopt.workers.measure import ServedArtifact, TimingSettings, resources
    from autoopt.workers.measure.fidelity import compare, require_faithful
    from autoopt.workers.measure.handle import served
    from autoopt.workers.measure.paired import time_pair
    from autoopt.workers.measure.records import Executed
    from autoopt.workers.measure.server import Serving

    deployment, network = from_json(Deployment, request["deployment"]), _network(request["network"])
    batches = tuple(network.inputs(1, seed) for seed in range(SAMPLES))
    samples = tuple(np.concatenate(column) for column in zip(*batches, strict=True))
    cores = resources.cores_for(deployment, resources.lane(()))
    artifact, eager = (
        Serving(ServedArtifact(each.engine, request[where], each), network.signature, cores, batches[:16])
        for where, each in (("out", deployment), ("reference", REFERENCE))
    )
    with served(artifact) as mine, served(eager, is_reference=True) as reference:
        mine.load()
        reference.load()
        fidelity = compare(mine.predict(samples), reference.predict(samples), class_scores=True)
        require_faithful(fidelity, deployment.precision)
        pairs = time_pair(mine, reference, TimingSettings(target_half_width=0.03, max_s=1.5))
        for thread_ns in mine.thread_ns():
            resources.require_threads(thread_ns, deployment)
        resources.require_as_asked(mine.effective(), deployment, Executed())
    return {**to_json(fidelity), "speedup": to_json(pairs.speedup)}


def _network(name: str) -> Any:
    from autoopt.testing.engine_networks import NETWORKS

    return next(network for network in NETWORKS if network.name == name)


def run(deployment: Deployment, network: str, bench: Path) -> Cell:
    """One case."""
    cell = Cell(deployment.engine, deployment.precision, network, "pass", hardware=deployment.hardware)
    cell = replace(cell, taken_on=f"{datetime.now(UTC):%Y-%m-%d}")
    with tempfile.TemporaryDirectory(prefix="autoopt-conformance-") as folder:
        request = {
            "deployment": to_json(deployment),
            "network": network,
            "bench": str(Path(folder, "bench")),
            "out": str(Path(folder, "artifact")),
            "reference": str(bench / network),
        }
        log, start = Path(folder, "log"), time.monotonic()
        own = engine_environments.find(deployment.engine)
        building = Preload(("numpy",), engine=deployment.engine) if own else BUILDING
        try:
            process.call(f"{_module()}:build", request, Limits(BUILD_S, MEMORY), building, log)
            build_s = time.monotonic() - start
            found = process.call(f"{_module()}:measure", request, Limits(MEASURE_S, MEMORY), RUNNING, log)
        except StageError as error:
            outcome = "refused" if error.kind is FailureKind.UNSUPPORTED else "error"
            return replace(cell, outcome=outcome, why=f"{error.kind}: {error.message}")
    return replace(
        cell,
        agreement=found["agreement"],
        mean_difference=found["mean_difference"],
        speedup=from_json(Estimate, found["speedup"]),
        build_s=build_s,
    )


def _module() -> str:
    return Path(__file__).stem


def cases(only: Sequence[str], networks: Sequence[str]) -> Iterator[tuple[Deployment, str]]:
    """Every engine, precision and network that there is here."""
    for name, offer in offers().items():
        if only and name not in only:
            continue
        for hardware, precisions in offer.precisions.items():
            for precision in precisions:
                for network in networks:
                    if not precision.startswith("int8") or precision in _network(network).quantizes:
                        yield Deployment(name, precision, hardware=hardware), network


def table(cells: Sequence[Cell], networks: Sequence[str]) -> str:
    """Rows of engines and precisions, columns of networks; below it why what did not pass did not, and what is not offered."""
    found = {(*cell.row, cell.network): cell for cell in cells}
    lines = [f"| engine | precision | {' | '.join(networks)} | lowest agreement |", "|---" * (len(networks) + 3) + "|"]
    for name, precision in dict.fromkeys(cell.row for cell in cells):
        row = [found.get((name, precision, network)) for network in networks]
        agreements = [cell.agreement for cell in row if cell is not None and cell.agreement is not None]
        lowest = f"{min(agreements):.1%}" if agreements else ""
        lines.append(f"| {name} | {precision} | {' | '.join(cell.text if cell else '–' for cell in row)} | {lowest} |")
    notes = [f"{' '.join(cell.row)}, {cell.network}: {cell.why}" for cell in cells if cell.outcome != "pass"]
    notes += [
        f"{name} is not offered here: {offer.reason} ({offer.remedy})"
        for name, offer in offers().items()
        if not offer.available
    ]
    return "\n".join([*lines, *(f"\n* {note}" for note in notes)])


def head(cells: Sequence[Cell]) -> str:
    """What stands above the table."""
    here, days = current(), sorted({cell.taken_on for cell in cells})
    return (
        f"`make conformance`, {' to '.join(dict.fromkeys((days[0], days[-1])))}, {here.cpu}, {here.cores} cores ({', '.join(here.flags)}). "
        "A number is a pass: eager PyTorch FP32's time over the engine's, in turn, one sample, one thread; – where the network has nothing to quantize so."
    )


def with_others(cells: Sequence[Cell], file: Path, here: Any) -> list[Cell]:
    """These cells and those of other cases that the file holds of the same machine, in the order of the engines."""
    earlier = json.loads(file.read_text()) if file.exists() else {"environment": None}
    merged = {cell.case: cell for cell in cells}
    if earlier["environment"] == here:
        for cell in (from_json(Cell, each) for each in earlier["cells"]):
            merged.setdefault(cell.case, cell)
    order = list(engines())
    return sorted(merged.values(), key=lambda cell: order.index(cell.engine))


def main() -> int:
    """Run all of it."""
    from autoopt.testing.engine_networks import NETWORKS
    from autoopt.testing.workbench import Workbench

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="append", default=[], choices=list(engines()), help="only these")
    parser.add_argument("--network", action="append", default=[], choices=[network.name for network in NETWORKS])
    parser.add_argument("--out", type=Path, default=Path("results/reference"), help="default: results/reference")
    given = parser.parse_args()
    networks = given.network or [network.name for network in NETWORKS]
    with tempfile.TemporaryDirectory(prefix="autoopt-conformance-") as folder:
        bench = Workbench(Path(folder, "bench"))
        for name in networks:
            out = Path(folder, name)
            out.mkdir()
            engine("pytorch").build(bench.source(_network(name), ("module",), REFERENCE), REFERENCE, out)
        cells = []
        for deployment, name in cases(given.engine, networks):
            cells.append(run(deployment, name, Path(folder)))
            print(f"{deployment.engine} {deployment.precision} {name}: {cells[-1].text} {cells[-1].why}", flush=True)
    process.shutdown()
    here = to_json(current())
    if given.engine or given.network:
        cells = with_others(cells, given.out / FILE, here)
    given.out.mkdir(parents=True, exist_ok=True)
    data = {"environment": here, "cells": [asdict(cell) for cell in cells]}
    (given.out / FILE).write_text(json.dumps(data, indent=1) + "\n")
    all_networks = [network.name for network in NETWORKS if network.name in {cell.network for cell in cells}]
    (given.out / FILE).with_suffix(".md").write_text(f"{head(cells)}\n\n{table(cells, all_networks)}\n")
    counts = {name: sum(cell.outcome == name for cell in cells) for name in ("pass", "refused", "error")}
    print(json.dumps({**counts, "target": {"error": 0}}))
    return 1 if counts["error"] else 0


if __name__ == "__main__":
    sys.exit(main())
