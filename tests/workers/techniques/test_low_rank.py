from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoopt.errors import FailureKind, StageError
from autoopt.testing.networks import NETWORKS
from autoopt.testing.tasks import memory_context, random_arrays
from autoopt.workers.techniques import technique
from autoopt.workers.techniques._factors import split_layer
from autoopt.workers.techniques.base import Context

LOW_RANK = technique("low_rank")


def low_rank_linear(rank: int, inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, rank) @ torch.randn(rank, inputs))
    return layer


def test_a_linear_layer_of_low_rank_is_split_without_loss() -> None:
    torch.manual_seed(0)
    layer, x = low_rank_linear(4, 32, 24), torch.randn(5, 32)
    split = split_layer(layer, 4 / 24)
    assert split is not None
    assert split.energy == pytest.approx(1.0)
    torch.testing.assert_close(split.pair(x), layer(x), rtol=1e-4, atol=1e-4)


def test_a_convolution_of_low_rank_is_split_without_loss() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(8, 16, 3, stride=2, padding=1), torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        layer.weight.copy_((torch.randn(16, 3) @ torch.randn(3, 72)).view_as(layer.weight))
    split = split_layer(layer, 3 / 16)
    assert split is not None
    torch.testing.assert_close(split.pair(x), layer(x), rtol=1e-4, atol=1e-4)


def test_the_best_approximation_of_its_rank_is_kept() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 16, bias=False)
    split = split_layer(layer, 0.25)
    assert split is not None
    values = torch.linalg.svdvals(layer.weight.detach())
    product = split.pair[1].weight @ split.pair[0].weight
    error = torch.linalg.matrix_norm(product - layer.weight)
    torch.testing.assert_close(error, values[4:].square().sum().sqrt(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1), nn.Linear(8, 8), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 8, 3)],
)
def test_a_layer_that_would_not_get_cheaper_stays(layer: nn.Module) -> None:
    assert split_layer(layer, 0.6) is None


def context_for(model: nn.Module, folder: Path) -> Context:
    signature = NETWORKS[0].signature
    return memory_context(
        model, signature, {name: random_arrays(signature, 8, 0) for name in ("train", "calibration")}, folder
    )


def test_a_network_without_such_layers_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    with pytest.raises(StageError, match="gets cheaper") as raised:
        LOW_RANK.apply(model, {"rank": 0.9}, context_for(model, tmp_path))
    assert raised.value.kind is FailureKind.UNSUPPORTED


def test_the_original_is_left_as_it_is(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 10)).eval()
    smaller, facts = LOW_RANK.apply(model, {"rank": 0.25}, context_for(model, tmp_path))
    assert isinstance(model[1], nn.Linear)
    assert isinstance(smaller[1], nn.Sequential)
    assert facts["layers"] == 2
