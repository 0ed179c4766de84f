"""From candidates to stages: what is shared, and what a key depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoopt.errors import StageError
from autoopt.records import Candidate, Deployment, Step
from autoopt.records.nvidia import Gpu
from autoopt.workers.node import Cores, Node
from autoopt.workers.stages import plan
from autoopt.workers.stages.setup import Setup
from autoopt.workers.stages.stage import Role

STUDENT = Step("student", {"source": "blocks", "depth": 0.5, "order": "late", "width": 1.0})
RECOVERY = Step("recovery", {"epochs": 1.0, "rate": 0.05})
INT8 = Step("static_quantization", {"calibration": 512, "preset": "mixed"})


def keys(candidate: Candidate, setup: Setup) -> list[str]:
    stages, network = plan.structure(candidate, setup)
    rungs = plan.training(candidate, network, setup)
    network = rungs[-1].network if rungs else network
    serving = plan.measurement(candidate, network, setup, "validation").stages
    return [stage.key for stage in (*stages, *(s for rung in rungs for s in rung.stages), *serving)]


def test_candidates_that_differ_in_the_engine_share_all_training(setup: Setup) -> None:
    model = (STUDENT, RECOVERY)
    one = keys(Candidate(model, Deployment("onnxruntime")), setup)
    other = keys(Candidate(model, Deployment("openvino")), setup)
    shared = set(one) & set(other)
    _, network = plan.structure(Candidate(model, Deployment("openvino")), setup)
    trained = plan.training(Candidate(model, Deployment("openvino")), network, setup)[-1].network.key
    assert trained in shared


def test_candidates_that_train_longer_share_the_shorter_rungs(setup: Setup) -> None:
    short = Candidate((STUDENT, RECOVERY), Deployment("onnxruntime"))
    long = Candidate((STUDENT, replace(RECOVERY, params={**RECOVERY.params, "epochs": 4.0})), Deployment("onnxruntime"))
    _, network = plan.structure(short, setup)
    ends = [[rung.network.key for rung in plan.training(candidate, network, setup)] for candidate in (short, long)]
    assert ends[1][: len(ends[0])] == ends[0]
    assert len(ends[1]) == len(ends[0]) + 1


def test_rungs_add_up_to_the_epochs_asked(setup: Setup) -> None:
    candidate = Candidate((STUDENT, RECOVERY), Deployment("onnxruntime"))
    _, network = plan.structure(candidate, setup)
    rungs = plan.training(candidate, network, setup)
    assert [rung.epochs for rung in rungs] == [0.25, 1.0]
    assert sum(rung.step_epochs for rung in rungs) == 1.0


def test_training_reads_only_the_teacher_outputs_that_it_needs(setup: Setup) -> None:
    candidate = Candidate((STUDENT, RECOVERY), Deployment("onnxruntime"))
    _, network = plan.structure(candidate, setup)
    first, second = plan.training(candidate, network, setup)
    assert [stage.params["stop"] for stage in first.stages if stage.kind == "teacher"] == [8192]
    assert [stage.params["stop"] for stage in second.stages if stage.kind == "teacher"] == [8192, 16384, 20_000]


def test_the_probe_calibrates_on_few_samples_and_the_measurement_on_all(setup: Setup) -> None:
    candidate = Candidate((STUDENT, INT8), Deployment("openvino", "int8"))
    _, network = plan.structure(candidate, setup)

    def calibration(serving: plan.Serving) -> int:
        (stage,) = [stage for stage in serving.stages if stage.name == "static_quantization"]
        return int(stage.params["values"]["calibration"])

    assert calibration(plan.probe(candidate, network, setup)) == plan.PROBE_CALIBRATION
    assert calibration(plan.measurement(candidate, network, setup, "validation")) == 512


@pytest.mark.parametrize(
    "other",
    [
        Deployment("onnxruntime", threads=2),
        Deployment("onnxruntime", fusion="basic"),
        Deployment("onnxruntime", batch=4),
        Deployment("openvino"),
    ],
)
def test_each_field_of_a_deployment_gives_another_measurement(setup: Setup, other: Deployment) -> None:
    base = Candidate((), Deployment("onnxruntime"))
    assert keys(base, setup)[-1] != keys(Candidate((), other), setup)[-1]


def test_threads_do_not_build_another_artifact(setup: Setup) -> None:
    one, two = (Candidate((), Deployment("onnxruntime", threads=n)) for n in (1, 2))
    artifacts = {plan.measurement(c, plan.original(setup), setup, "validation").artifact_key for c in (one, two)}
    assert len(artifacts) == 1


def test_another_task_seed_or_parameter_gives_another_key(setup: Setup) -> None:
    candidate = Candidate((STUDENT,), Deployment("onnxruntime"))
    found = {
        keys(candidate, changed)[0] for changed in (setup, replace(setup, task_key="u" * 64), replace(setup, seed=1))
    }
    deeper = replace(STUDENT, params={**STUDENT.params, "depth": 0.75})
    found.add(keys(Candidate((deeper,), Deployment("onnxruntime")), setup)[0])
    assert len(found) == 4


def test_measuring_needs_the_lane_and_training_a_trainer(setup: Setup) -> None:
    candidate = Candidate((STUDENT, RECOVERY), Deployment("onnxruntime"))
    stages, network = plan.structure(candidate, setup)
    rungs = plan.training(candidate, network, setup)
    serving = plan.measurement(candidate, rungs[-1].network, setup, "validation")
    assert {stage.role for stage in stages} == {Role.BUILDER}
    assert {stage.role for rung in rungs for stage in rung.stages} == {Role.TRAINER}
    assert serving.stages[-1].role is Role.LANE


def test_on_test_an_artifact_predicts_beside_the_lane(setup: Setup) -> None:
    candidate = Candidate((STUDENT, RECOVERY), Deployment("onnxruntime"))

    def kinds(setup: Setup, candidate: Candidate, split: str) -> list[str]:
        serving = plan.measurement(candidate, plan.original(setup), setup, split)
        assert serving.artifact_key == serving.building[-1].key
        return [stage.kind for stage in serving.measuring]

    assert kinds(setup, candidate, "test") == ["predict", "measure"]
    assert kinds(setup, candidate, "validation") == ["measure"], "somebody trains there"
    assert kinds(setup, setup.reference, "test") == ["measure"], "its outputs are the original's"
    wide = replace(candidate, deployment=replace(candidate.deployment, threads=2))
    assert kinds(setup, wide, "test") == ["measure"], "the core beside the lane is one"
    assert kinds(replace(setup, hardware={"default": Node(Cores((0,), (0,))).hardware}), candidate, "test") == [
        "measure"
    ], "there is no core beside it"
    ahead, measure = plan.measurement(candidate, plan.original(setup), setup, "test").measuring
    assert ahead.role is Role.FINISHER
    assert ahead.key in measure.parents


def test_a_technique_for_modules_is_refused_on_an_onnx_file(setup: Setup) -> None:
    with pytest.raises(StageError, match="student takes module; the task's network is onnx"):
        plan.structure(Candidate((STUDENT,), Deployment("onnxruntime")), replace(setup, source_format="onnx"))


def test_an_engine_of_modules_is_refused_for_an_onnx_file(setup: Setup) -> None:
    onnx = replace(setup, source_format="onnx")
    with pytest.raises(StageError, match="pytorch takes module"):
        plan.measurement(Candidate((), Deployment("pytorch")), plan.original(onnx), onnx, "validation")


def test_what_has_been_trained_is_built_at_once_and_a_probe_when_nobody_else_wants_the_core(setup: Setup) -> None:
    candidate = Candidate((STUDENT, RECOVERY, INT8), Deployment("openvino"))
    _, network = plan.structure(candidate, setup)
    finished = plan.measurement(candidate, plan.training(candidate, network, setup)[-1].network, setup, "validation")
    assert [stage.role for stage in finished.stages] == [Role.FINISHER] * (len(finished.stages) - 1) + [Role.LANE]
    probed = plan.probe(candidate, network, setup)
    assert {stage.role for stage in probed.stages[:-1]} == {Role.BUILDER}
    unchanged = plan.measurement(Candidate((), Deployment("openvino")), plan.original(setup), setup, "validation")
    assert {stage.role for stage in unchanged.stages[:-1]} == {Role.BUILDER}


def test_a_file_from_elsewhere_is_given_the_deployments_batch_before_it_is_quantized(setup: Setup) -> None:
    given = replace(setup, source_format="onnx", reference=Candidate((), Deployment("onnxruntime")))
    quantized = Candidate((INT8,), Deployment("onnxruntime", precision="int8"))
    stages = plan.measurement(quantized, plan.original(given), given, "validation").stages
    assert [stage.kind for stage in stages] == ["export", "technique", "build", "measure"]
    assert (stages[0].name, stages[0].params) == ("onnx", {"from": "onnx", "batch": 1})
    plain = plan.measurement(given.reference, plan.original(given), given, "validation").stages
    assert [stage.kind for stage in plain] == ["build", "measure"]


def test_litert_is_exported_quantized_and_built_from_the_module_with_the_versions_of_its_own_tools(
    setup: Setup,
) -> None:
    quantized = Candidate((INT8,), Deployment("litert", precision="int8", batch=4))
    export, technique, build, _ = plan.measurement(quantized, plan.original(setup), setup, "validation").stages
    assert (export.name, export.params) == ("litert", {"from": "module", "batch": 4})
    assert (technique.name, technique.params["format"], build.params["format"]) == (
        "static_quantization",
        "litert",
        "litert",
    )
    assert set(export.salt["packages"]) == {"torch", "litert-torch", "litert-converter"}
    assert set(technique.salt["packages"]) == {"ai-edge-quantizer", "ai-edge-litert"}
    elsewhere = replace(quantized, deployment=Deployment("openvino", precision="int8"))
    others = plan.measurement(elsewhere, plan.original(setup), setup, "validation").stages[:-1]
    assert not any("ai-edge-quantizer" in stage.salt["packages"] for stage in others)


def test_no_way_leads_from_an_onnx_file_to_litert(setup: Setup) -> None:
    onnx = replace(setup, source_format="onnx")
    with pytest.raises(StageError, match="litert takes litert; a network in onnx leads to none of them"):
        plan.measurement(Candidate((), Deployment("litert")), plan.original(onnx), onnx, "validation")


def test_each_hardware_measures_its_own_reference_and_shares_what_does_not_depend_on_it(setup: Setup) -> None:
    ours = setup.hardware["default"]
    edge = replace(ours, environment=replace(ours.environment, cpu="another"))
    setup = replace(setup, hardware={"default": ours, "edge": edge})
    here, there = (
        plan.measurement(
            Candidate((), Deployment("onnxruntime", hardware=name)), plan.original(setup), setup, "validation"
        )
        for name in ("cpu", "edge")
    )
    # The same instructions, the same artifact; but what is timed on one is told against the reference there.
    assert here.artifact_key == there.artifact_key
    assert here.stages[-1].key != there.stages[-1].key
    assert [stage.kind_of_node for stage in there.stages] == [None, "edge", "edge"]
    reference = plan.reference_on(Deployment("onnxruntime", hardware="edge"), setup)
    assert reference.stages[-1].key in there.stages[-1].parents
    assert reference.stages[-1].key not in here.stages[-1].parents
    assert there.stages[-1].params["deployment"]["hardware"] == "cpu"


def test_other_instructions_need_another_build(setup: Setup) -> None:
    ours = setup.hardware["default"]
    edge = replace(ours, environment=replace(ours.environment, flags=("sve",)))
    setup = replace(setup, hardware={"default": ours, "edge": edge})
    artifacts = {
        plan.measurement(
            Candidate((), Deployment("onnxruntime", hardware=name)), plan.original(setup), setup, "validation"
        ).artifact_key
        for name in ("cpu", "edge")
    }
    assert len(artifacts) == 2


def test_what_is_built_for_a_gpu_is_built_for_that_gpu_and_what_is_not_is_shared(setup: Setup) -> None:
    here = setup.hardware_of(Deployment("pytorch"))

    def built(gpu: str, hardware: str) -> str:
        environment = replace(here.environment, gpu=Gpu(gpu, "580.1", "13.0", "9.0", 1))
        on = replace(setup, hardware={"default": replace(here, environment=environment)})
        candidate = Candidate((), Deployment("pytorch", hardware=hardware))
        return plan.measurement(candidate, plan.original(on), on, "validation").artifact_key

    assert built("NVIDIA H200", "cuda") != built("NVIDIA L4", "cuda")
    assert built("NVIDIA H200", "cpu") == built("NVIDIA L4", "cpu")
