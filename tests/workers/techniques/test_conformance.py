"""Every technique of ours on every sample network: it works, or refuses with a reason, and which of the two is written here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from autoopt.testing.networks import NETWORKS, ResidualCNN, SampleNetwork
from autoopt.testing.techniques import Applied, check_reload, check_technique
from autoopt.workers.techniques import technique, techniques

ALL = frozenset(network.name for network in NETWORKS)


@dataclass(frozen=True)
class Case:
    technique: str
    params: tuple[tuple[str, Any], ...] = ()
    takes: frozenset[str] = ALL
    smaller: bool = False
    format: str = "module"
    student: bool = False

    def __str__(self) -> str:
        return "-".join([self.technique, *(str(value) for _, value in self.params), self.format])


CASES = (
    Case("null"),
    Case("student", (("depth", 0.4),), frozenset({"residual", "transformer", "dict_input"}), smaller=True),
    Case("student", (("source", "factory"), ("width", 0.5)), frozenset({"residual"}), smaller=True, student=True),
    Case("structured_pruning", (("ratio", 0.5), ("round_to", 4)), smaller=True),
    Case(
        "structured_pruning",
        (("ratio", 0.5), ("importance", "taylor"), ("scope", "global"), ("round_to", 1)),
        smaller=True,
    ),
    Case("low_rank", (("rank", 0.25),), smaller=True),
    Case("recovery", (("epochs", 1.0), ("batch", 16), ("rate", 0.01))),
    Case("static_quantization", (("calibration", 16),), format="onnx"),
    Case("static_quantization", (("calibration", 16),), format="openvino"),
    Case("static_quantization", (("calibration", 16),), format="litert"),
    Case("dynamic_quantization", format="onnx"),
    Case("dynamic_quantization", (("convolutions", True),), format="onnx"),
    Case("dynamic_quantization", (("convolutions", True),), format="litert"),
)
# NNCF and LiteRT take seconds for each; the others show the same in less, and ONNX has the narrower path for attention.
SLOW = {
    *(("static_quantization", "litert", name) for name in ALL - {"residual"}),
    *(("dynamic_quantization", "litert", name) for name in ALL - {"residual"}),
    ("static_quantization", "onnx", "transformer"),
    ("static_quantization", "onnx", "residual"),
    ("static_quantization", "onnx", "lstm"),
    ("static_quantization", "openvino", "transformer"),
    ("static_quantization", "openvino", "residual"),
    ("static_quantization", "openvino", "lstm"),
    ("static_quantization", "openvino", "dict_input"),
}


def pairs() -> list[Any]:
    return [
        pytest.param(case, network, id=f"{case}-{network.name}", marks=_marks(case, network))
        for case in CASES
        for network in NETWORKS
    ]


def _marks(case: Case, network: SampleNetwork) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if (case.technique, case.format, network.name) in SLOW else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("techniques")


@cache
def applied(case: Case, network: SampleNetwork, folder: Path) -> Applied | None:
    place = folder / f"{case}-{network.name}"
    place.mkdir()
    context = {"student": thinner} if case.student and network.name == "residual" else {}
    return check_technique(
        technique(case.technique),
        dict(case.params),
        network,
        place,
        format=case.format,
        smaller=case.smaller,
        **context,
    )


def thinner(width: float, depth: float) -> torch.nn.Module:
    return ResidualCNN(round(16 * width), round(3 * depth))


@pytest.mark.parametrize(("case", "network"), pairs())
def test_a_technique_gives_a_sound_network_or_refuses(case: Case, network: SampleNetwork, folder: Path) -> None:
    result = applied(case, network, folder)
    assert (result is not None) is (network.name in case.takes)


def test_results_answer_the_same_in_a_fresh_process(folder: Path) -> None:
    results = [
        applied(case, network, folder)
        for case in CASES
        for network in NETWORKS
        if network.name in case.takes and not _marks(case, network)
    ]
    check_reload([result for result in results if result is not None])


def test_every_technique_is_covered() -> None:
    assert {case.technique for case in CASES} == set(techniques())
