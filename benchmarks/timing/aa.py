"""Does the timing tell what is different, and only that?

The same artifact is measured against itself: its 95 % interval must hold 1.0, with the other core idle (and, with ``--busy``, while it
multiplies matrices). And a network with 21 residual blocks is measured against one with 20: it must be told slower. Each pair is a
measurement as a search makes it: its own process, two servers, the checks.

    python benchmarks/timing/aa.py --pairs 100 --busy

Needs two cores that nothing else uses. The last line is a JSON object of the figures and their targets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from autoopt.records import Deployment, Estimate, from_json, to_json
from autoopt.task import PreparedTask, Task, load_task, prepare
from autoopt.workers import formats
from autoopt.workers.engines import engine
from autoopt.workers.engines.base import Source
from autoopt.workers.measure import MeasureRequest, ServedArtifact, Timing, TimingSettings
from autoopt.workers.measure.statistics import words
from autoopt.workers.process import Limits, Preload, call, shutdown
from autoopt.workers.store.local import LocalStore

PRELOAD = Preload(("numpy", "torch", "onnxruntime", "openvino"))
BLOCKS = 20
BURNER = """
import numpy, os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
matrix = numpy.random.default_rng(0).normal(size=(512, 512)).astype("float32")
while os.getppid() == int(sys.argv[2]):
    matrix = matrix @ matrix
    matrix /= abs(matrix).max()
"""


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, C, H, W)."""
        return torch.relu(x + 0.1 * self.second(torch.relu(self.first(x))))


def network(blocks: int) -> nn.Module:
    """A residual network on 1×28×28, at 16×14×14 inside, so that nearly all its time is in the blocks."""
    torch.manual_seed(0)
    body = [Residual(16) for _ in range(blocks)]
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    ).eval()


@dataclass(frozen=True)
class Bench:
    """What the pairs are made of."""

    folder: Path
    task: PreparedTask
    core: int
    other_core: int
    settings: TimingSettings

    def artifact(self, blocks: int) -> ServedArtifact:
        """The network of so many blocks in ONNX Runtime; built once."""
        deployment = Deployment("onnxruntime")
        out = self.folder / f"artifact-{blocks}"
        if not out.exists():
            out.mkdir()
            module = self.folder / f"module-{blocks}"
            module.mkdir()
            source: Source = formats.save(network(blocks), "module", module, self.task.signature)
            engine("onnxruntime").build(source, deployment, out)
        return ServedArtifact("onnxruntime", str(out), deployment)


@dataclass(frozen=True)
class Result:
    """One measurement."""

    timing: Timing
    seconds: float

    @property
    def beyond_s(self) -> float:
        """What it cost beyond the timing itself."""
        return self.seconds - self.timing.timed_s


def bench(folder: Path, settings: TimingSettings) -> Bench:
    """The task, prepared, and two of the cores."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("this benchmark needs two cores: one to time on, one to keep idle or busy")
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(1024, 1, 28, 28)).astype(np.float32)
    with torch.inference_mode():
        targets = network(BLOCKS)(torch.from_numpy(inputs)).argmax(1).numpy()
    given = Task(
        network=network(BLOCKS), validation=(inputs[:512], targets[:512]), test=(inputs[512:], targets[512:]), name="aa"
    )
    task = prepare(load_task(given), LocalStore(folder / "store"))
    return Bench(folder, task, cores[-1], cores[0], settings)


def pair(made: Bench, blocks: int) -> Result:
    """One measurement of the network with so many blocks against the one with 20."""
    request = MeasureRequest(
        candidate_id="aa",
        artifact=made.artifact(blocks),
        reference=made.artifact(BLOCKS),
        task=str(made.task.folder),
        split=None,
        scenario="single_stream",
        reference_latency_ms=1.0,
        source_outputs=str(made.task.folder / "outputs" / "validation.npy") if blocks == BLOCKS else None,
        settings=made.settings,
    )
    limits = Limits(timeout_s=120, cores=(made.core,), threads=1)
    start = time.perf_counter()
    answer = call(
        "autoopt.workers.measure.run:measure", to_json(request), limits, PRELOAD, made.folder / "logs" / "measure.log"
    )
    return Result(from_json(Timing, answer), time.perf_counter() - start)


@contextmanager
def burning(core: int) -> Iterator[None]:
    """Matrix products on one core."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BURNER, str(core), str(os.getpid())]
    burner = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


def repeat(made: Bench, blocks: int, pairs: int, label: str) -> list[Result]:
    """So many measurements, each told in a line on stderr."""
    results = []
    for number in range(pairs):
        results.append(pair(made, blocks))
        timing, result = results[-1].timing, results[-1]
        print(
            f"{label} {number + 1}/{pairs}: {words(timing.speedup)}; {timing.latency.rounds} rounds, "
            f"{timing.timed_s:.1f} s + {result.beyond_s:.2f} s; {'; '.join(timing.remarks)}",
            file=sys.stderr,
        )
    return results


def holds_one(results: list[Result]) -> int:
    """How many intervals hold 1.0."""
    return sum(result.timing.speedup.low <= 1 <= result.timing.speedup.high for result in results)


def told_slower(results: list[Result]) -> int:
    """How many are wholly below 1.0."""
    return sum(result.timing.speedup.high < 1 for result in results)


def spread(results: list[Result]) -> dict[str, float]:
    """The estimates' median and scatter, the intervals' half-width, the seconds."""
    estimates: list[Estimate] = [result.timing.speedup for result in results]
    values = np.log([estimate.value for estimate in estimates])
    return {
        "median_speedup": float(np.exp(np.median(values))),
        "scatter_percent": float(100 * values.std()),
        "median_half_width_percent": float(np.median([50 * (each.high - each.low) for each in estimates])),
        "median_timed_s": float(np.median([result.timing.timed_s for result in results])),
        "median_call_ms": float(np.median([result.timing.latency.median_ms for result in results])),
    }


def figure(value: float, target: float, *, at_least: bool = True) -> dict[str, float | bool]:
    """A figure beside its target."""
    return {"value": value, "target": target, "met": value >= target if at_least else value <= target}


def run(made: Bench, pairs: int, *, busy: bool) -> dict[str, object]:
    """All figures."""
    pair(made, BLOCKS)  # starts the warmed parent
    idle = repeat(made, BLOCKS, pairs, "itself")
    slower = repeat(made, BLOCKS + 1, pairs, "a block more")
    beyond_s = float(np.median([result.beyond_s for result in idle]))
    report: dict[str, object] = {
        "pairs": pairs,
        "itself_idle_holds_1": figure(holds_one(idle), 0.93 * pairs),
        "slower_told": figure(told_slower(slower), 0.9 * pairs),
        "beyond_timing_s": figure(round(beyond_s, 3), 1.5, at_least=False),
        "idle": spread(idle),
        "slower": spread(slower),
    }
    if busy:
        with burning(made.other_core):
            results = repeat(made, BLOCKS, pairs, "itself, other core busy")
        report["itself_busy_holds_1"] = figure(holds_one(results), 0.93 * pairs)
        report["busy"] = spread(results)
    return report


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=100, help="measurements of each kind (default 100)")
    parser.add_argument("--busy", action="store_true", help="also with the other core busy")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line, the JSON object")
    parser.add_argument("--max-s", type=float, default=2.0, help="longest timing of a pair, in seconds (default 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="autoopt-aa-") as folder:
        made = bench(Path(folder), TimingSettings(max_s=options.max_s))
        report = run(made, options.pairs, busy=options.busy)
        shutdown()
    if not options.json:
        for name, value in report.items():
            print(f"{name}: {value}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
