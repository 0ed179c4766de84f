"""Fusion levels and options may differ from device to device."""

from __future__ import annotations

import re
from random import Random

import pytest

from autoopt.errors import SpaceError, StageError
from autoopt.records import Deployment
from autoopt.space import Space, TaskFacts, choices_of, domains_of, draw, every, parse_space, recompose, resolve
from autoopt.space.deployments import Declared
from autoopt.workers.engines.base import Engine, Offer
from autoopt.workers.engines.common import require_offered
from autoopt.workers.parameters import Parameter

LACKING = "there is no NVIDIA GPU here; to mend it: buy one"
OPTIONS = (
    Parameter("tf32", False, choices=(True, False), devices=("cuda",)),  # noqa: FBT003 (a value)
    Parameter("spinning", True, choices=(True, False), devices=("cpu",)),  # noqa: FBT003 (a value)
    Parameter("depth", 1, low=1, high=4),
)
OFFER = Offer(
    "fast",
    "1",
    {"cpu": ("fp32",), "cuda": ("fp32", "fp16")},
    ("default", "folded"),
    fusions_by_device={"cuda": ("default", "cuda_graphs")},
)
TEXT = """
deployment:
  hardware: any
  engine:
    fast: {precision: any, fusion: any, tf32: [false, true], spinning: [true, false], depth: [1, 2]}
"""


def space_of(text: str = TEXT, offer: Offer = OFFER) -> Space:
    file = parse_space(text, "test")
    declared = {"fast": Declared(("module",), OPTIONS)}
    return resolve(file, {}, {"fast": offer}, TaskFacts(), declared=declared, leads=lambda start, end: start == end)


def test_each_device_has_its_own_fusion_levels_and_options() -> None:
    on = {target.hardware: target for target in space_of().targets}
    assert on["cpu"].fusions == ("default", "folded")
    assert on["cuda"].fusions == ("default", "cuda_graphs")
    assert [option.name for option in on["cpu"].options] == ["spinning", "depth"]
    assert [option.name for option in on["cuda"].options] == ["tf32", "depth"]


def test_every_candidate_can_be_read_back_and_names_nothing_of_another_device() -> None:
    space, random = space_of(), Random(0)
    drawn = [draw(space, random) for _ in range(300)]
    for candidate in (*every(space), *drawn):
        served = candidate.deployment
        assert served.fusion in OFFER.fusions_on(served.hardware)
        assert served.options.keys() <= {"depth", "tf32" if served.hardware == "cuda" else "spinning"}
        assert recompose(space, choices_of(space, candidate) or {}) == candidate


def test_a_choice_has_the_same_values_wherever_it_is_met() -> None:
    # A sampler's parameter of one name cannot have other values from trial to trial.
    met: dict[str, object] = {}
    space = space_of()
    for candidate in every(space):
        for name, domain in domains_of(space, candidate).items():
            assert met.setdefault(name, domain) == domain


def test_a_level_of_the_file_that_a_device_does_not_have_is_left_out_there() -> None:
    space = space_of(TEXT.replace("fusion: any", "fusion: cuda_graphs"))
    assert {target.hardware for target in space.targets} == {"cuda"}
    assert any(item.what == "engine fast on cpu" and "fusion" in item.why for item in space.excluded)


def test_a_device_that_is_lacking_is_excluded_with_its_reason() -> None:
    without = Offer("fast", "1", {"cpu": ("fp32",)}, ("default",), lacking={"cuda": LACKING})
    space = space_of(TEXT.replace("hardware: any", "hardware: [cpu, cuda]"), without)
    assert [item.why for item in space.excluded if item.what == "engine fast on cuda"] == [LACKING]
    with pytest.raises(StageError, match=re.escape(LACKING)):
        require_offered(without, Deployment("fast", hardware="cuda"))


def test_levels_are_those_of_the_device_of_a_kind_of_node() -> None:
    assert OFFER.fusions_on("edge:cuda") == ("default", "cuda_graphs")
    assert OFFER.fusions_on("edge") == ("default", "folded")


def test_an_option_of_another_device_is_refused_in_a_deployment() -> None:
    class _Fast(Engine):
        name, options = "fast", OPTIONS

    assert _Fast.option(Deployment("fast", hardware="cuda", options={"tf32": True}), "tf32") is True
    with pytest.raises(SpaceError, match="tf32 is for cuda, not for cpu"):
        _Fast.option(Deployment("fast", options={"tf32": True}), "depth")
