"""A measurement from end to end: what it records, what it refuses, and that a bad engine is told as what it is."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment, Measurement, from_json
from autoopt.workers.engines import engine
from autoopt.workers.engines.base import Source
from autoopt.workers.measure import ServedArtifact, Timing
from autoopt.workers.measure.run import predict

Measured = Callable[..., Any]


def planted(digits: Any, fault: str = "good", **deployment: Any) -> ServedArtifact:
    name = f"planted_{fault}"
    return ServedArtifact(name, str(digits.planted()), replace(Deployment(name), **deployment))


def built(digits: Any, name: str, batch: int = 1) -> ServedArtifact:
    """The task's network in one of our engines."""
    deployment = Deployment(name, batch=batch)
    out = digits.folder / f"{name}-{batch}"
    if not out.exists():
        out.mkdir()
        source = digits.task.source
        engine(name).build(Source(source.format, source.path, source.signature), deployment, out)
    return ServedArtifact(name, str(out), deployment)


def refused(measured: Measured, request: Any, timeout_s: float = 60.0) -> StageError:
    with pytest.raises(StageError) as caught:
        measured(request, timeout_s)
    return caught.value


def outputs_file(digits: Any, outputs: np.ndarray) -> str:
    path: Path = digits.folder / "source_outputs.npy"
    np.save(path, outputs)
    return str(path)


def test_a_probe_is_timed_and_not_judged(digits: Any, measured: Measured) -> None:
    timing = from_json(Timing, measured(digits.request(planted(digits))))
    assert 0.8 < timing.speedup.value < 1.25
    assert timing.speedup.low <= timing.speedup.value <= timing.speedup.high
    assert timing.latency.median_ms > 0.2  # it sleeps so long
    assert timing.latency.calls > 10


@pytest.mark.parametrize("name", ["onnxruntime", "pytorch"])
def test_a_real_engine_is_judged_on_its_own_outputs(name: str, digits: Any, measured: Measured) -> None:
    reference = digits.task.reference_outputs
    request = digits.request(
        built(digits, name), split="validation", source_outputs=outputs_file(digits, reference[:100])
    )
    found = from_json(Measurement, measured(request))
    arrays = digits.task.arrays("validation")
    expected = float((reference.argmax(1) == arrays.targets).mean())
    assert found.score.value == pytest.approx(expected)
    assert found.score.low < expected < found.score.high
    assert found.score_drop.value == 0
    assert found.score_drop.low < 0 < found.score_drop.high
    assert found.agreement == 1
    assert found.fidelity.samples == 100
    assert found.fidelity.max_difference < 1e-4
    assert found.latency_ms.value == pytest.approx(2.0 / found.speedup.value)
    assert found.size_bytes > 2560
    assert found.first_ms > 0
    assert found.effective.threads == 1


def test_the_test_split_is_judged_against_the_original_network_there(digits: Any, measured: Measured) -> None:
    found = from_json(Measurement, measured(digits.request(planted(digits), split="test")))
    arrays = digits.task.arrays("test")
    outputs = arrays.inputs[0].reshape(len(arrays.targets), -1) @ digits.weights
    assert found.score.value == pytest.approx(float((outputs.argmax(1) == arrays.targets).mean()))
    assert found.agreement == 1


def test_the_reference_itself_has_its_own_latency(digits: Any, measured: Measured) -> None:
    request = digits.request(planted(digits), split="validation", reference_latency_ms=None)
    found = from_json(Measurement, measured(request))
    assert found.latency_ms.value == pytest.approx(found.latency.median_ms)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_reference_repeats_some_of_the_original_networks_outputs(
    split: str, digits: Any, measured: Measured
) -> None:
    request = digits.request(planted(digits), split=split, reference_latency_ms=None)
    found = from_json(Measurement, measured(request))
    assert found.samples == digits.task.splits[split]
    assert found.score_drop.value == 0
    (remark,) = (remark for remark in found.remarks if "the original network's outputs" in remark)
    assert "256 samples" in remark


def test_an_artifact_whose_outputs_are_known_is_judged_by_them(digits: Any, measured: Measured) -> None:
    artifact = planted(digits)
    outputs = predict(artifact, digits.task, "test", 100, (min(os.sched_getaffinity(0)),))
    assert outputs.shape == (100, 10)
    asked = digits.request(artifact, split="test", samples=100)
    itself = from_json(Measurement, measured(asked))
    known = from_json(Measurement, measured({**asked, "own_outputs": outputs_file(digits, outputs)}))
    assert known.samples == 100
    assert known.score == itself.score
    worse = from_json(Measurement, measured({**asked, "own_outputs": outputs_file(digits, -outputs)}))
    assert worse.score.value < 0.5 < itself.score.value


def test_a_reference_that_answers_otherwise_is_judged_by_its_own_outputs(digits: Any, measured: Measured) -> None:
    other = digits.planted(digits.weights[:, ::-1], "reversed")
    artifact = ServedArtifact("planted_good", str(other), Deployment("planted_good"))
    found = from_json(Measurement, measured(digits.request(artifact, split="validation", reference_latency_ms=None)))
    assert found.score_drop.value > 0.5
    assert not [remark for remark in found.remarks if "the original network's outputs" in remark]


def test_time_is_compared_per_sample_whatever_the_batches(digits: Any, measured: Measured) -> None:
    # A call takes 0.2 ms and a bit for one sample as for eight.
    request = digits.request(planted(digits, batch=8), scenario="offline", split="validation")
    found = from_json(Measurement, measured(request))
    assert 5 < found.speedup.value < 10
    assert found.score_drop.value == 0  # 400 samples, none lost or counted twice by padding


def test_a_static_batch_that_does_not_divide_the_split_loses_no_sample(digits: Any, measured: Measured) -> None:
    request = digits.request(built(digits, "onnxruntime", batch=7), scenario="offline", split="validation")
    assert from_json(Measurement, measured(request)).agreement == 1


@pytest.mark.parametrize(
    ("fault", "split", "kind", "says"),
    [
        ("segfault", None, FailureKind.CRASHED, "SIGSEGV"),
        ("raise", None, FailureKind.ERROR, "no kernel for this"),
        ("quitter", None, FailureKind.CRASHED, "ended with exit status 0"),
        ("nan", "validation", FailureKind.DIVERGED, "400 of 400 samples"),
        ("greedy", None, FailureKind.NOT_AS_ASKED, "threads"),
    ],
)
def test_a_misbehaving_engine_is_told_as_what_it_is(
    fault: str, split: str | None, kind: FailureKind, says: str, digits: Any, measured: Measured
) -> None:
    error = refused(measured, digits.request(planted(digits, fault), split=split))
    assert error.kind is kind
    assert says in error.message


@pytest.mark.parametrize(("fault", "says"), [("segfault", "SIGSEGV"), ("raise", "no kernel for this")])
def test_a_failing_reference_is_named_and_not_held_against_the_artifact(
    fault: str, says: str, digits: Any, measured: Measured
) -> None:
    error = refused(measured, digits.request(planted(digits), reference=planted(digits, fault)))
    assert error.kind is FailureKind.INTERRUPTED
    assert "the reference failed" in error.message
    assert says in error.message


def test_a_hanging_engine_is_timed_out(digits: Any, measured: Measured) -> None:
    assert refused(measured, digits.request(planted(digits, "hang")), timeout_s=2.0).kind is FailureKind.TIMED_OUT


def test_an_engine_that_takes_all_memory_is_stopped(digits: Any, measured: Measured) -> None:
    with pytest.raises(StageError) as caught:
        measured(digits.request(planted(digits, "eater")), memory_bytes=4_000_000_000)
    assert caught.value.kind is FailureKind.OUT_OF_MEMORY


def test_an_engine_that_prints_a_gigabyte_fills_no_disk(digits: Any, measured: Measured, tmp_path: Path) -> None:
    timing = from_json(Timing, measured(digits.request(planted(digits, "talker"))))
    assert timing.speedup.value > 0.5
    assert (tmp_path / "measure.log").stat().st_size < 20_000_000


def test_a_silent_fallback_to_another_precision_is_refused(digits: Any, measured: Measured) -> None:
    error = refused(measured, digits.request(planted(digits, "fallback", precision="int8")))
    assert error.kind is FailureKind.NOT_AS_ASKED
    assert "fp32 instead of int8" in error.message


def test_a_float_artifact_served_as_int8_is_refused_in_a_real_engine(digits: Any, measured: Measured) -> None:
    float_artifact = built(digits, "onnxruntime")
    asked = replace(float_artifact, deployment=replace(float_artifact.deployment, precision="int8"))
    assert refused(measured, digits.request(asked)).kind is FailureKind.NOT_AS_ASKED


def test_more_threads_than_cores_are_refused(digits: Any, measured: Measured) -> None:
    error = refused(measured, digits.request(planted(digits, threads=len(os.sched_getaffinity(0)) + 1)))
    assert error.kind is FailureKind.NOT_AS_ASKED


def test_an_artifact_of_other_weights_is_refused_before_it_is_timed(digits: Any, measured: Measured) -> None:
    other = digits.planted(np.ascontiguousarray(digits.weights[::-1]), "reversed")
    artifact = ServedArtifact("planted_good", str(other), Deployment("planted_good"))
    source = outputs_file(digits, digits.task.reference_outputs)
    error = refused(measured, digits.request(artifact, source_outputs=source))
    assert error.kind is FailureKind.DISAGREEMENT
    assert "agrees on" in error.message


def test_an_unknown_scenario_names_the_allowed_ones(digits: Any, measured: Measured) -> None:
    asked = digits.request(planted(digits), scenario="multi_stream")
    assert "single_stream, offline, server" in refused(measured, asked).message


def test_instances_work_at_the_same_time(digits: Any, measured: Measured) -> None:
    # A call of the planted engine mostly sleeps, so that two on two cores do twice as much.
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    request = digits.request(planted(digits, instances=2), scenario="offline", split="validation")
    found = from_json(Measurement, measured(request))
    assert 1.6 < found.speedup.value < 2.4
    assert found.score_drop.value == 0


def test_more_instances_than_cores_are_refused(digits: Any, measured: Measured) -> None:
    copies = len(os.sched_getaffinity(0)) + 1
    error = refused(measured, digits.request(planted(digits, instances=copies), scenario="offline"))
    assert error.kind is FailureKind.NOT_AS_ASKED
    assert f"{copies} instances" in error.message


def test_an_instance_that_dies_is_the_artifacts_failure(digits: Any, measured: Measured) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    error = refused(measured, digits.request(planted(digits, "segfault", instances=2), scenario="offline"))
    assert error.kind is FailureKind.CRASHED


def test_calls_in_streams_are_at_once_where_requests_are(digits: Any, measured: Measured) -> None:
    streamed = planted(digits, "streams")
    offline = from_json(Timing, measured(digits.request(streamed, scenario="offline")))
    alone = from_json(Timing, measured(digits.request(streamed, scenario="single_stream")))
    assert 1.5 < offline.speedup.value / alone.speedup.value < 2.5
