from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest

from autoopt.errors import SpaceError
from autoopt.workers import techniques as registry
from autoopt.workers.techniques import technique, techniques
from autoopt.workers.techniques.checks import checked_params
from autoopt.workers.techniques.null import Null


def test_structure_comes_before_training_and_quantization_last() -> None:
    assert list(techniques()) == [
        "null",
        "student",
        "structured_pruning",
        "low_rank",
        "recovery",
        "static_quantization",
        "dynamic_quantization",
    ]


def test_declarations_are_read_without_torch() -> None:
    code = (
        "import sys; from autoopt.workers.techniques import techniques; techniques(); "
        "print([m for m in ('torch', 'nncf', 'onnx', 'torch_pruning', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_each_stands_under_its_own_name() -> None:
    assert all(item.name == name for name, item in techniques().items())


def test_every_default_is_allowed() -> None:
    for item in techniques().values():
        assert set(checked_params(item, {})) == {parameter.name for parameter in item.parameters}


def test_an_unknown_technique_lists_the_known_ones() -> None:
    with pytest.raises(SpaceError, match=r"'prune'.*student.*structured_pruning"):
        technique("prune")


def test_an_unknown_parameter_lists_the_known_ones() -> None:
    with pytest.raises(SpaceError, match=r"no parameter 'rat'.*ratio, importance, scope, round_to"):
        checked_params(technique("structured_pruning"), {"rat": 0.5})


@pytest.mark.parametrize(
    ("name", "params", "allowed"),
    [
        ("structured_pruning", {"ratio": 0.99}, "0.0 to 0.95"),
        ("structured_pruning", {"round_to": 3}, "1, 4, 8, 16"),
        ("recovery", {"epochs": "many"}, "0.001 to 1000.0"),
        ("recovery", {"batch": 12.5}, "1 to 65536"),
        ("static_quantization", {"fast_bias_correction": 1}, "True, False"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name: str, params: dict[str, Any], allowed: str) -> None:
    with pytest.raises(SpaceError, match=allowed):
        checked_params(technique(name), params)


def test_a_whole_number_stands_for_a_float() -> None:
    epochs = checked_params(technique("recovery"), {"epochs": 2})["epochs"]
    assert (epochs, type(epochs)) == (2.0, float)


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(name: str) -> None:
        point = metadata.EntryPoint(name, f"{Foreign.__module__}:Foreign", registry.ENTRY_POINTS)
        monkeypatch.setattr(metadata.EntryPoint, "load", lambda _: Foreign)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])
        techniques.cache_clear()

    yield install
    techniques.cache_clear()


class Foreign(Null):
    name = "foreign"


def test_one_from_an_entry_point_joins_in_its_place(entry_point: Any) -> None:
    entry_point("foreign")
    names = list(techniques())
    assert isinstance(technique("foreign"), Foreign)
    assert names.index("low_rank") < names.index("foreign") < names.index("recovery")


def test_an_entry_point_cannot_take_a_name_that_is_taken(entry_point: Any) -> None:
    entry_point("student")
    with pytest.raises(SpaceError, match="two techniques are called 'student'"):
        techniques()
