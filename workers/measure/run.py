"""A measurement from end to end: serve both artifacts, check, time in turn, judge.

Called in a process of its own by `autoopt.workers.process`; the artifacts are in two more, so an engine's crash is told as what it is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.errors import FailureKind, StageError
from autoopt.records import Effective, Estimate, Fidelity, Measurement, Served, from_json, to_json
from autoopt.records.environment import current
from autoopt.records.measurement import SCENARIOS, SERVER, SINGLE_STREAM
from autoopt.task.prepared import PreparedTask
from autoopt.workers.measure import gpu, resources, statistics
from autoopt.workers.measure.energy import energy_of, meters
from autoopt.workers.measure.fidelity import are_class_scores, compare, require_faithful
from autoopt.workers.measure.handle import Server, served
from autoopt.workers.measure.judge import Judgement, judge
from autoopt.workers.measure.paired import Pairs, time_pair
from autoopt.workers.measure.records import MeasureRequest, ServedArtifact, Timing
from autoopt.workers.measure.requests import RequestQueue
from autoopt.workers.measure.server import Inputs, Loaded, Serving
from autoopt.workers.measure.service import require_some, serve, share_of_capacity

_TIMING_BATCHES = 16
_TIMING_BYTES = 64_000_000


@dataclass(frozen=True)
class _Timed:
    """A served artifact's side of the timing."""

    loaded: Loaded
    pairs: Pairs
    added_bytes: int
    effective: Effective


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measure one artifact, or probe it.

    Args:
        request: a `MeasureRequest` as JSON.

    Returns:
        A `Measurement` as JSON, or a `Timing` where no split is asked for.

    Raises:
        StageError: DISAGREEMENT, NOT_AS_ASKED or DIVERGED by the checks; CRASHED where an engine dies; UNSUPPORTED and
            others by the engine.
    """
    asked = from_json(MeasureRequest, request)
    if asked.scenario not in SCENARIOS:
        message = f"unknown scenario {asked.scenario!r}; allowed are {', '.join(SCENARIOS)}"
        raise StageError(FailureKind.ERROR, message)
    task = PreparedTask.open(Path(asked.task))
    cores = resources.lane(asked.settings.cores)
    with (
        _queue(asked) as queue,
        served(serving(asked.artifact, task, cores, asked.scenario, queue)) as artifact,
        served(serving(asked.reference, task, cores, asked.scenario), is_reference=True) as reference,
    ):
        loaded = artifact.load()
        fidelity = _fidelity(asked, task, artifact)
        timed = _time(asked, loaded, artifact, reference)
        if asked.split is None:
            return dict(to_json(_timing(timed)))
        under_load = _serve(asked, timed, artifact, queue) if queue is not None else None
        energy = _energy(asked, timed, artifact)
        judgement = _judge(asked, asked.split, task, artifact)
    measurement = _measurement(asked, asked.split, timed, fidelity, judgement)
    return dict(to_json(replace(_under_load(asked, measurement, timed.pairs, under_load), energy_mj=energy)))


def _energy(asked: MeasureRequest, timed: _Timed, artifact: Server) -> Estimate | None:
    """What is confirmed, only: it takes a second, and the search does not go by it."""
    if asked.split != "test":
        return None
    deployment = asked.artifact.deployment
    call_ns = timed.pairs.sample_ms * 1e6 * deployment.batch * deployment.instances
    return energy_of(artifact, meters(deployment.hardware), call_ns)


def _under_load(asked: MeasureRequest, found: Measurement, pairs: Pairs, under_load: Served | None) -> Measurement:
    """A server's figures: its speed-up in time per sample, times the share of its time that requests at the highest rate fill.

    Rate and capacity were found in the same minute, and capacity in turn with the reference: drift cancels here too.
    """
    if under_load is None:
        return found
    found = replace(found, served=under_load, remarks=(*found.remarks, *under_load.remarks))
    if asked.reference_latency_ms is None:
        return found
    speedup = statistics.product(pairs.speedup, share_of_capacity(under_load.rate, 1e3 / pairs.sample_ms))
    return replace(found, speedup=speedup, latency_ms=statistics.inverse(speedup, asked.reference_latency_ms))


@contextmanager
def _queue(asked: MeasureRequest) -> Iterator[RequestQueue | None]:
    """What a server's requests arrive in; None where nothing is served under load."""
    # The search knows the reference by its time per sample; what it does under load is found when it is confirmed.
    searching = asked.reference_latency_ms is None and asked.split == "validation"
    if asked.scenario != SERVER or asked.split is None or searching:
        yield None
        return
    queue = RequestQueue.create()
    try:
        yield queue
    finally:
        queue.discard()


def _serve(asked: MeasureRequest, timed: _Timed, artifact: Server, queue: RequestQueue) -> Served:
    if asked.p99_ms is None:
        message = "the scenario server needs a bound, p99_ms"
        raise StageError(FailureKind.ERROR, message)
    cores = asked.settings.beside or resources.lane(asked.settings.cores)
    # What the reference does under load is told, and nothing is judged by it.
    settings = asked.settings if asked.reference_latency_ms is not None else replace(asked.settings, searches=1)
    under_load = serve(artifact, queue, 1e3 / timed.pairs.sample_ms, asked.p99_ms, cores, settings)
    if asked.reference_latency_ms is not None:
        require_some(under_load)
    return under_load


def predict(
    artifact: ServedArtifact, task: PreparedTask, split: str, samples: int | None, cores: tuple[int, ...]
) -> np.ndarray:
    """An artifact's first output, (N, ...), on a split or so many samples drawn of it, without timing it.

    Raises:
        StageError: the engine's; CRASHED where it dies.
    """
    alone = replace(artifact, deployment=replace(artifact.deployment, instances=1))
    with served(serving(alone, task, cores)) as server:
        server.load()
        return server.predict(task.drawn(split, samples).inputs, freely=True)


def serving(
    artifact: ServedArtifact,
    task: PreparedTask,
    cores: tuple[int, ...],
    scenario: str = SINGLE_STREAM,
    queue: RequestQueue | None = None,
) -> Serving:
    """How an artifact is served for timing: on real validation samples, several batches of them.

    Raises:
        StageError: NOT_AS_ASKED where the lane has too few cores.
    """
    inputs = task.arrays("validation").inputs
    batches = timing_batches(inputs, artifact.deployment.batch)
    pinned = resources.cores_for(artifact.deployment, cores)
    descriptors = None if queue is None else queue.descriptors
    return Serving(artifact, task.signature, pinned, batches, scenario != SINGLE_STREAM, descriptors)


def timing_batches(inputs: Inputs, batch: int) -> tuple[Inputs, ...]:
    """Up to 16 batches of (batch, ...) in memory, of different samples as far as there are any, 64 MB at most."""
    count = len(inputs[0])
    batch_bytes = batch * sum(array[:1].nbytes for array in inputs)
    number = max(1, min(_TIMING_BATCHES, _TIMING_BYTES // max(1, batch_bytes)))
    chosen = np.arange(number * batch).reshape(number, batch) % count
    return tuple(tuple(np.ascontiguousarray(array[rows]) for array in inputs) for rows in chosen)


def _fidelity(asked: MeasureRequest, task: PreparedTask, artifact: Server) -> Fidelity | None:
    if asked.source_outputs is None:
        return None
    source = np.load(asked.source_outputs, mmap_mode="r")[:_FIDELITY_SAMPLES]
    arrays = task.arrays("validation")
    outputs = artifact.predict(tuple(array[: len(source)] for array in arrays.inputs))
    scores_classes = are_class_scores(source, arrays.targets[: len(source)])
    fidelity = compare(outputs, np.asarray(source), class_scores=scores_classes)
    require_faithful(fidelity, asked.artifact.deployment.precision)
    for size in map(int, asked.artifact.smaller):
        some = source[:_SMALLER_SAMPLES]
        outputs = artifact.predict(tuple(array[: len(some)] for array in arrays.inputs), smaller=size)
        by_size = compare(outputs, np.asarray(some), class_scores=scores_classes)
        require_faithful(by_size, asked.artifact.deployment.precision)
    return fidelity


_FIDELITY_SAMPLES, _SMALLER_SAMPLES = 256, 64
_SAME_RELATIVE, _SAME_ABSOLUTE = 1e-4, 1e-5
"""Outputs of one network in one engine, for batches of another size."""


def _time(asked: MeasureRequest, loaded: Loaded, artifact: Server, reference: Server) -> _Timed:
    reference.load()
    on_gpu = asked.artifact.deployment.hardware == "cuda"
    if on_gpu:
        gpu.warm_up(artifact, gpu.state)
    pairs = time_pair(artifact, reference, asked.settings)
    told = gpu.told(gpu.state()) if on_gpu else gpu.Told()
    added_bytes = artifact.added_bytes()
    for server, side in ((artifact, asked.artifact), (reference, asked.reference)):
        for thread_ns in server.thread_ns():
            resources.require_threads(thread_ns, side.deployment)
    effective = artifact.effective()
    resources.require_as_asked(effective, asked.artifact.deployment, asked.executed)
    effective = replace(effective, details={**effective.details, **told.details})
    return _Timed(loaded, replace(pairs, remarks=(*pairs.remarks, *told.remarks)), added_bytes, effective)


def _timing(timed: _Timed) -> Timing:
    return Timing(
        speedup=timed.pairs.speedup,
        latency=timed.pairs.latency,
        effective=timed.effective,
        load_s=timed.loaded.load_s,
        first_ms=timed.loaded.first_ms,
        peak_rss_bytes=timed.added_bytes,
        timed_s=timed.pairs.timed_s,
        remarks=timed.pairs.remarks,
    )


def _judge(asked: MeasureRequest, split: str, task: PreparedTask, artifact: Server) -> Judgement:
    arrays = task.drawn(split, asked.samples)
    given = asked.reference_outputs
    reference = task.outputs_of_original(split, asked.samples) if given is None else np.load(given, mmap_mode="r")
    targets = np.asarray(arrays.targets)
    if asked.own_outputs is not None:
        return judge(task, np.load(asked.own_outputs, mmap_mode="r"), reference, targets)
    if asked.reference_latency_ms is None:
        # The same network has been run in the same engine, and the reference is the slowest of all: every other measurement of a
        # search waits for it.
        some = artifact.predict(tuple(array[:_FIDELITY_SAMPLES] for array in arrays.inputs), freely=True)
        if np.allclose(some, reference[: len(some)], _SAME_RELATIVE, _SAME_ABSOLUTE):
            remark = f"judged by the original network's outputs, which it repeated on {len(some)} samples"
            return replace(judge(task, np.asarray(reference), reference, targets), remarks=(remark,))
    return judge(task, artifact.predict(arrays.inputs, freely=True), reference, targets)


def _measurement(
    asked: MeasureRequest,
    split: str,
    timed: _Timed,
    fidelity: Fidelity | None,
    judgement: Judgement,
) -> Measurement:
    pairs = timed.pairs
    return Measurement(
        candidate_id=asked.candidate_id,
        split=split,
        samples=judgement.samples,
        scenario=asked.scenario,
        speedup=pairs.speedup,
        latency_ms=_latency_ms(asked, pairs),
        score=judgement.score,
        score_drop=judgement.score_drop,
        agreement=judgement.agreement,
        latency=pairs.latency,
        # Without the source network's outputs nothing can be said but that the original is the source.
        fidelity=fidelity or Fidelity(judgement.agreement, 0.0, 0.0, 0),
        size_bytes=_size(asked.artifact.folder),
        peak_rss_bytes=timed.added_bytes,
        load_s=timed.loaded.load_s,
        first_ms=timed.loaded.first_ms,
        effective=timed.effective,
        environment=current(),
        taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        remarks=(*pairs.remarks, *judgement.remarks),
    )


def _latency_ms(asked: MeasureRequest, pairs: Pairs) -> Estimate:
    """Milliseconds per sample: the job's constant divided by the speed-up; the reference's own is the constant."""
    if asked.reference_latency_ms is not None:
        return statistics.inverse(pairs.speedup, asked.reference_latency_ms)
    own = pairs.latency.median_ms / asked.artifact.deployment.batch
    relative = statistics.inverse(pairs.speedup, pairs.speedup.value)
    return Estimate(own, own * relative.low, own * relative.high)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
