from __future__ import annotations

import pytest

from autoopt.space import TaskFacts, load_space, resolve, shipped_spaces, size
from autoopt.workers.engines import engines
from autoopt.workers.engines.base import Offer
from autoopt.workers.techniques import techniques


def everything_offered() -> dict[str, Offer]:
    """As on a machine on which every engine runs in every precision that the spaces name: no runtime is imported."""
    precisions = ("fp32", "fp16", "bf16", "int8", "int8_dynamic")
    fusions = ("default", "extended", "channels_last", "fused", "frozen")
    return {name: Offer(name, "1", {"cpu": precisions}, fusions) for name in engines()}


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
@pytest.mark.parametrize("splits", [{"train", "calibration"}, {"calibration"}], ids=["trained", "not trained"])
@pytest.mark.parametrize("source", ["module", "onnx"])
def test_every_shipped_space_resolves_for_every_kind_of_task(name: str, splits: set[str], source: str) -> None:
    facts = TaskFacts(format=source, splits=frozenset({*splits, "validation", "test"}), cores=2)
    space = resolve(load_space(name), techniques(), everything_offered(), facts)
    assert size(space).count >= len(space.targets) > 1


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_every_shipped_space_resolves_against_what_is_installed_here(name: str) -> None:
    offers = {known: engine.offer() for known, engine in engines().items()}
    assert resolve(load_space(name), techniques(), offers, TaskFacts(cores=1)).targets


def test_full_holds_every_technique_every_parameter_and_every_engine() -> None:
    full = load_space("full")
    assert set(full.model) == set(techniques()) - {"null"}
    # Other tests, and other people, add engines of their own.
    ours = {name for name, engine in engines().items() if type(engine).__module__.startswith("autoopt.")}
    assert set(full.deployment.engine) == ours - {"null"}
    for name, section in full.model.items():
        # ``offset`` is the plan's own: where in the data a rung goes on.
        declared = {parameter.name for parameter in techniques()[name].parameters} - {"offset"}
        given = set(section.parameters) | ({"epochs"} if section.rungs else set())
        assert given == declared, name
    for name, serving in full.deployment.engine.items():
        assert set(serving.options) == {option.name for option in engines()[name].options}, name


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_every_shipped_space_says_for_whom_it_is_and_how_large(name: str) -> None:
    text = shipped_spaces()[name].read_text()
    assert text.startswith("# For ")
    assert "How large: " in text
    assert load_space(name).about
