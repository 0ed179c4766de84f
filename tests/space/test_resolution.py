from __future__ import annotations

import re
from typing import Any, Protocol

import pytest

from autoopt.errors import SpaceError
from autoopt.space import Space, every


class Resolve(Protocol):
    def __call__(self, text: str, overrides: object = None, **facts: object) -> Space: ...


def test_steps_stand_in_the_order_of_application_whatever_the_file_says(space: Space) -> None:
    assert [step.technique for step in space.steps] == ["student", "pruning", "recovery", "static", "dynamic"]


def test_an_engine_that_is_not_installed_is_left_out_with_reason_and_remedy(space: Space) -> None:
    assert "absent" not in space.engines
    (exclusion,) = [item for item in space.excluded if item.what == "engine absent"]
    assert exclusion.why == "absent is not installed"
    assert exclusion.remedy == "pip install absent"


def test_without_training_data_nothing_that_would_have_to_be_trained_is_left(resolved: Resolve, text: str) -> None:
    space = resolved(text, splits=frozenset({"calibration", "validation", "test"}))
    assert [step.technique for step in space.steps] == ["static", "dynamic"]
    reasons = {item.what: item.why for item in space.excluded}
    assert "no training data" in reasons["technique recovery"]
    assert "recovery, which has to follow, is left out" in reasons["technique student"]
    assert "recovery, which has to follow, is left out" in reasons["technique pruning"]


@pytest.mark.parametrize("overrides", [{"model.recovery": None}, {"model.recovery.optional": True}])
def test_a_file_that_does_not_insist_on_training_keeps_changed_networks_without_it(
    resolved: Resolve, text: str, overrides: dict[str, object]
) -> None:
    space = resolved(text, overrides, splits=frozenset({"calibration", "validation", "test"}))
    assert {"student", "pruning"} <= {step.technique for step in space.steps}


def test_an_onnx_task_keeps_only_what_takes_onnx(resolved: Resolve, text: str) -> None:
    space = resolved(text, format="onnx", splits=frozenset({"calibration", "validation", "test"}))
    assert space.engines == ("runtime", "vino")
    assert [step.technique for step in space.steps] == ["static", "dynamic"]
    assert "engine eager" in [item.what for item in space.excluded]


def test_threads_above_the_lane_and_batches_in_single_stream_are_left_out(resolved: Resolve, text: str) -> None:
    space = resolved(text, {"deployment.batch": [1, 8], "deployment.threads": [1, 2, 4]}, cores=2)
    assert (space.threads, space.batches) == ((1, 2), (1,))
    assert {"threads 4", "batch 8"} <= {item.what for item in space.excluded}
    offline = resolved(text, {"deployment.batch": [1, 8], "scenario": "offline"}, cores=2)
    assert offline.batches == (1, 8)


def test_a_precision_that_is_not_executed_here_is_left_out(resolved: Resolve, text: str) -> None:
    space = resolved(text, {"deployment.engine.eager.precision": ["fp32", "fp16"]})
    assert "eager fp16 on cpu" in [item.what for item in space.excluded]
    assert not any(target.precision == "fp16" for target in space.targets)


def test_a_precision_whose_quantization_is_not_in_the_file_is_left_out(resolved: Resolve, text: str) -> None:
    space = resolved(text, {"model.static": None})
    assert not any(target.precision == "int8" for target in space.targets)
    assert any(item.what == "runtime int8 on cpu" and "static" in item.why for item in space.excluded)


def test_a_quantization_that_no_precision_needs_is_left_out(resolved: Resolve, text: str) -> None:
    space = resolved(text, {"deployment.engine.runtime.precision": ["fp32", "int8"]})
    assert "dynamic" not in [step.technique for step in space.steps]
    assert "technique dynamic" in [item.what for item in space.excluded]


def test_any_stands_for_all_that_is_offered_and_default_for_the_engines_best(resolved: Resolve, text: str) -> None:
    space = resolved(text, {"deployment.engine.vino.precision": "any", "deployment.engine.runtime.fusion": "default"})
    assert [target.precision for target in space.targets_of("vino")] == ["fp32", "bf16", "int8"]
    assert {target.fusions for target in space.targets_of("runtime")} == {("all",)}


def test_choices_that_the_task_cannot_serve_are_left_out(resolved: Resolve, text: str) -> None:
    space = resolved(text, without={"student.order": ("early",)})
    assert "student order early" in [item.what for item in space.excluded]
    assert all(step.params.get("order") != "early" for c in every(space) if (step := c.step("student")))
    without_any = resolved(text, without={"student.order": ("early", "influence")})
    assert "student" not in [step.technique for step in without_any.steps]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"model.prunning": {}}, 'no technique "prunning"; did you mean "pruning"? Allowed: recovery, student'),
        ({"deployment.engine.runtme": {}}, 'no engine "runtme"; did you mean "runtime"?'),
        ({"deployment.engine.vino.precision": "int7"}, 'no precision "int7"'),
        ({"deployment.engine.vino.fusion": "al"}, 'no fusion level "al"'),
        ({"deployment.hardware": "cqu"}, 'no hardware "cqu"; did you mean "cpu"?'),
        ({"model.student.dept": [0.5]}, 'no parameter "dept"; did you mean "depth"?'),
        ({"model.student.depth": [1.5]}, "1.5 is not allowed. Allowed: 0.05 to 1.0"),
        ({"model.student.order": ["late", "last"]}, "'last' is not allowed. Allowed: influence, early, late"),
        ({"model.student.depth": {"low": 0.5, "high": 2.0}}, "2.0 is not allowed"),
        ({"model.student.when": {"presicion": "int8"}}, 'no fact "presicion"; did you mean "precision"?'),
    ],
)
def test_a_name_or_value_that_does_not_exist_is_an_error_that_says_what_is_allowed(
    resolved: Resolve, text: str, overrides: dict[str, object], said: str
) -> None:
    with pytest.raises(SpaceError) as error:
        resolved(text, overrides)
    assert said in str(error.value)


def test_an_empty_space_is_an_error_that_says_what_is_missing(resolved: Resolve, text: str) -> None:
    with pytest.raises(SpaceError) as error:
        resolved(text, {"deployment": None, "deployment.engine": {"absent": {}}})
    assert "absent is not installed (pip install absent)" in str(error.value)
    with pytest.raises(SpaceError, match="threads 2: the lane has 1 core"):
        resolved(text, {"deployment.threads": [2]}, cores=1)


def test_whole_numbers_become_fractions_where_the_parameter_takes_fractions(space: Space) -> None:
    assert space.rungs == (0.0625, 0.25, 1.0, 4.0)
    assert all(isinstance(rung, float) for rung in space.rungs)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("vino: {stream: [1]}", 'there is no key "stream"; did you mean "streams"?'),
        ("vino: {precison: int8}", 'there is no key "precison"; did you mean "precision"?'),
        ("vino: {streams: [0, 1]}", "0 is not allowed. Allowed: 1 to 64"),
        (
            "vino: {hint: {values: [throughput], when: {recovery: true}}}",
            'deployment.engine.vino.hint.when: there is no fact "recovery"',
        ),
        ("eager: {streams: [1]}", 'there is no key "streams". Allowed: precision, fusion.'),
    ],
)
def test_an_option_that_an_engine_does_not_have_is_refused(resolved: Any, section: str, said: str) -> None:
    with pytest.raises(SpaceError, match=re.escape(said)):
        resolved(f"deployment:\n  engine:\n    {section}\n")


def test_more_than_one_instance_is_left_out_where_there_is_one_request_at_a_time(resolved: Any) -> None:
    space = resolved("deployment:\n  engine: {eager: }\n  instances: [1, 2]\n", cores=2)
    assert space.instances == (1,)
    assert any("single_stream has one request at a time" in str(item) for item in space.excluded)
