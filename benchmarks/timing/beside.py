"""Does what else a search does shift its speed-ups?

A network is timed against one of twenty blocks that runs in eager PyTorch: calls of 0.1 ms against calls of several, so whatever takes time
slices from the lane hits the reference harder and flatters the artifact. In turn: alone, beside a build (a background call that may use
every core), and beside a training (a call that has the other core, and is lent the lane's while nothing is timed). The ratio of the
speed-ups must be 1 within 3 %.

    python benchmarks/timing/beside.py --rounds 20

Needs two cores that nothing else uses. The last line is a JSON object of the figures and their targets.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from aa import BLOCKS, PRELOAD, Bench, bench, network

from autoopt.errors import StageError
from autoopt.records import Deployment, from_json, to_json
from autoopt.workers import formats
from autoopt.workers.engines import engine
from autoopt.workers.measure import MeasureRequest, ServedArtifact, Timing, TimingSettings
from autoopt.workers.process import Limits, call, share, shutdown

FEW = 2
WITHIN = 0.03


def burn(_: object) -> None:
    """Multiply until the call is ended."""
    matrix = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    while True:
        matrix = matrix @ matrix
        matrix /= np.abs(matrix).max()


@contextmanager
def beside(made: Bench, limits: Limits) -> Iterator[None]:
    """A call that works until its time limit, within the context."""

    def work() -> None:
        with suppress(StageError):  # it is the limit that ends it
            call("beside:burn", None, limits, PRELOAD, made.folder / "logs" / "burn.log")

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def eager(made: Bench) -> ServedArtifact:
    """The network of twenty blocks in eager PyTorch."""
    deployment = Deployment("pytorch")
    out, module = made.folder / "eager", made.folder / "eager-module"
    if not out.exists():
        out.mkdir()
        module.mkdir()
        engine("pytorch").build(formats.save(network(BLOCKS), "module", module, made.task.signature), deployment, out)
    return ServedArtifact("pytorch", str(out), deployment)


def speedup(made: Bench) -> float:
    """One measurement, as a search makes it."""
    request = MeasureRequest(
        candidate_id="beside",
        artifact=made.artifact(FEW),
        reference=eager(made),
        task=str(made.task.folder),
        split=None,
        scenario="single_stream",
        reference_latency_ms=1.0,
        settings=made.settings,
    )
    limits = Limits(timeout_s=120, cores=(made.core,), exclusive=True)
    answer = call(
        "autoopt.workers.measure.run:measure", to_json(request), limits, PRELOAD, made.folder / "logs" / "measure.log"
    )
    return float(from_json(Timing, answer).speedup.value)


def run(made: Bench, rounds: int) -> dict[str, Any]:
    """All figures."""
    every = (made.other_core, made.core)
    # Each works for a little longer than a measurement takes, and ends by its limit.
    building = Limits(timeout_s=6.0, cores=every, background=True)
    training = replace(building, cores=(made.other_core,), spare=(made.core,), background=False)
    ways: Mapping[str, Callable[[], Any]] = {
        "alone": nullcontext,
        "beside a build": partial(beside, made, building),
        "beside a training": partial(beside, made, training),
    }
    speedup(made)  # starts the warmed parent
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            with way():
                found[name].append(speedup(made))
            print(f"{number + 1}/{rounds} {name}: {found[name][-1]:.2f}×", file=sys.stderr)
    alone = np.log(found["alone"])
    report: dict[str, Any] = {"rounds": rounds, "speedup_alone": float(np.exp(np.median(alone)))}
    for name in list(ways)[1:]:
        differences = np.log(found[name]) - alone
        error = 2 * float(differences.std(ddof=1)) / rounds**0.5
        ratio = float(np.exp(differences.mean()))
        report[name] = {"ratio": ratio, "low": ratio * np.exp(-error), "high": ratio * np.exp(error)}
        report[name] |= {"target": WITHIN, "met": abs(ratio - 1) <= WITHIN}
    return report


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="measurements of each kind (default 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="autoopt-beside-") as folder:
        share(Path(folder, "meeting"))
        made = bench(Path(folder), TimingSettings(max_s=2.0))
        report = run(made, options.rounds)
        shutdown()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
