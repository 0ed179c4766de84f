"""An engine that computes something else than the network is caught by its outputs, whatever the engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from torch import nn

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment
from autoopt.testing.engine_networks import NETWORKS, Network
from autoopt.testing.engines import Workbench
from autoopt.workers.engines import engine, engines
from autoopt.workers.measure.fidelity import compare, require_faithful

RESIDUAL = NETWORKS[0]
SAMPLES, BATCH = 64, 8
SLOW = ("inductor", "tvm")


def wrong_transposition(network: nn.Module) -> nn.Module:
    """Kernels whose two spatial axes are swapped: what a layout conversion gets wrong."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.transpose(2, 3).contiguous()
    return network


def dropped_bias(network: nn.Module) -> nn.Module:
    """One layer's bias is lost: what a fusion gets wrong."""
    normalization = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert normalization.running_mean is not None
    normalization.running_mean.zero_()
    return network


def other_weights(network: nn.Module) -> nn.Module:
    """The same structure, with the weights of another network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    return network


FAULTS: tuple[Callable[[nn.Module], nn.Module], ...] = (wrong_transposition, dropped_bias, other_weights)


def _cases() -> Iterator[ParameterSet]:
    for name, each in engines().items():
        for precision in each.offer().precisions.get("cpu", ()):
            if precision in ("fp32", "bf16", "int8"):
                marks = [pytest.mark.slow] if name in SLOW else []
                yield pytest.param(name, precision, id=f"{name}-{precision}", marks=marks)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Workbench]:
    made: dict[str, Workbench] = {}

    def place(name: str) -> Workbench:
        return made.setdefault(name, Workbench(tmp_path_factory.mktemp(name)))

    return place


def outputs(bench: Workbench, network: Network, deployment: Deployment, out: Path) -> np.ndarray:
    each = engine(deployment.engine)
    out.mkdir()
    each.build(bench.source(network, each.formats, deployment), deployment, out)
    session = each.load(out, deployment, network.signature)
    parts = [np.array(session(network.inputs(BATCH, seed))[0]) for seed in range(SAMPLES // BATCH)]
    session.close()
    return np.concatenate(parts)


@pytest.mark.parametrize(("name", "precision"), list(_cases()))
def test_three_planted_faults_are_caught_and_the_network_itself_is_not(
    name: str, precision: str, places: Callable[[str], Workbench], tmp_path: Path
) -> None:
    deployment = Deployment(name, precision, batch=BATCH)
    expected = np.concatenate(
        [_reference(RESIDUAL, seed) for seed in range(SAMPLES // BATCH)],
    )
    good = outputs(places("good"), RESIDUAL, deployment, tmp_path / "good")
    require_faithful(compare(good, expected, class_scores=True), precision)
    for fault in FAULTS:
        faulty = replace(RESIDUAL, make=lambda fault=fault: fault(copy.deepcopy(RESIDUAL.module())))
        found = outputs(places(fault.__name__), faulty, deployment, tmp_path / fault.__name__)
        with pytest.raises(StageError, match="does not compute what the network computes") as caught:
            require_faithful(compare(found, expected, class_scores=True), precision)
        assert caught.value.kind is FailureKind.DISAGREEMENT


def _reference(network: Network, seed: int) -> np.ndarray:
    with torch.inference_mode():
        answer: np.ndarray = network.module()(torch.from_numpy(network.inputs(BATCH, seed)[0])).numpy()
    return answer
