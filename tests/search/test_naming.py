from __future__ import annotations

from dataclasses import replace

import pytest

from autoopt.records import Candidate, Deployment, Step
from autoopt.records.job import MARK_LENGTH, mark
from autoopt.search.naming import LONGEST, stage_name, task_name
from autoopt.workers.node import Cores, Node
from autoopt.workers.stages import plan
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Stage

SERVED = Deployment("onnxruntime", "int8")
STUDENT = Step("student", {"depth": 0.5, "order": "influence"})
PRUNED = Step("structured_pruning", {"ratio": 0.3, "round_to": 8})
RECOVERY = Step("recovery", {"epochs": 1.2, "rate": 0.1, "batch": 32})
INT8 = Step("static_quantization", {"calibration": 64})
CANDIDATE = Candidate((STUDENT, PRUNED, RECOVERY, INT8), SERVED)
PLAIN = Candidate((), Deployment("openvino"))
SETUP = Setup(
    task_key="0" * 64,
    source_format="module",
    training_samples=10_000,
    reference=Candidate((), Deployment("pytorch")),
    hardware={"default": Node(Cores((0,), (1,))).hardware},
    rungs=(0.3, 1.2),
)


def stages(candidate: Candidate, split: str = "validation") -> list[Stage]:
    first, network = plan.structure(candidate, SETUP)
    rungs = plan.training(candidate, network, SETUP)
    network = rungs[-1].network if rungs else network
    serving = plan.measurement(candidate, network, SETUP, split)
    return [*first, *(stage for rung in rungs for stage in rung.stages), *serving.stages]


def names(candidate: Candidate, split: str = "validation") -> list[str]:
    return [stage_name(stage, candidate) for stage in stages(candidate, split)]


def test_a_candidates_stages_say_what_they_do_to_which_network() -> None:
    network = "student d=0.5, structured pruning r=0.3"
    assert names(CANDIDATE) == [
        "student d=0.5",
        "structured pruning r=0.3",
        "teach samples 0 to 8192",
        f"train {network} to 0.3 epochs",
        "teach samples 0 to 8192",
        "teach samples 8192 to 10000",
        f"train {network} to 1.2 epochs",
        f"export onnx {network}",
        f"quantize to int8, {network}",
        f"build onnxruntime int8, {network}",
        f"measure onnxruntime int8, 1 thread, {network}",
    ]


def test_the_unchanged_network_is_not_named() -> None:
    assert names(PLAIN) == ["export onnx", "export openvino", "build openvino fp32", "measure openvino fp32, 1 thread"]


def test_what_is_not_the_default_is_told() -> None:
    served = Deployment("onnxruntime", "fp32", fusion="extended", batch=8, threads=2)
    assert names(replace(PLAIN, deployment=served))[-2:] == [
        "build onnxruntime fp32 extended",
        "measure onnxruntime fp32 extended, batch 8, 2 threads",
    ]


def test_the_test_split_is_confirmed() -> None:
    assert names(PLAIN, "test")[-2:] == ["predict openvino fp32, 1 thread", "confirm openvino fp32, 1 thread"]


def test_a_probe_is_named_like_a_measurement() -> None:
    _, network = plan.structure(CANDIDATE, SETUP)
    probe = plan.probe(CANDIDATE, network, SETUP).stages[-1]
    assert stage_name(probe, CANDIDATE).startswith("probe onnxruntime int8, 1 thread, student d=0.5")


def test_what_all_candidates_share_needs_none() -> None:
    assert stage_name(plan.original_outputs("test", SETUP), None) == "original's outputs, test split"
    for stage in (*stages(CANDIDATE), *stages(CANDIDATE, "test")):
        assert stage_name(stage, None), "a stage without its candidate has a name all the same"


def test_fractions_that_begin_alike_are_named_in_full() -> None:
    stage = stages(Candidate((STUDENT,), SERVED))[0]
    odd = Step("student", {"depth": 0.5, "decay": 0.1})
    assert stage_name(stage, Candidate((odd,), SERVED)) == "student depth=0.5 decay=0.1"


@pytest.mark.parametrize("job", ["a", "fashion_mnist-quick-20260101-120000-123"])
def test_a_tasks_name_is_short_and_ends_in_its_job(job: str) -> None:
    for stage in stages(CANDIDATE):
        name = task_name(stage, CANDIDATE, job)
        assert len(name) <= LONGEST
        assert name.endswith(f" · job {mark(job)}")
    assert any("…" in task_name(stage, CANDIDATE, job) for stage in stages(CANDIDATE))
    assert task_name(stages(CANDIDATE)[0], CANDIDATE, "3f2a") == "student d=0.5 · job 3f2a"


def test_a_jobs_mark_is_its_own_name_or_four_digits() -> None:
    assert mark("first") == "first"
    assert mark("x" * MARK_LENGTH) == "x" * MARK_LENGTH
    generated = {mark(f"fashion_mnist-quick-20260101-1200{second:02}-123") for second in range(60)}
    assert all(len(each) == 4 and int(each, 16) >= 0 for each in generated)
    assert len(generated) > 50
