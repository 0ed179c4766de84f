from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import FailureKind, StageError
from autoopt.testing.networks import NETWORKS, DepthwiseCNN, ResidualBlock, ResidualCNN, TextEncoder
from autoopt.testing.tasks import memory_context, random_arrays
from autoopt.workers.techniques import technique
from autoopt.workers.techniques._blocks import block_influence, removable
from autoopt.workers.techniques._inherit import inherit
from autoopt.workers.techniques._network import example
from autoopt.workers.techniques.base import Context

STUDENT = technique("student")


def context_for(model: nn.Module, network: int, folder: Path) -> Context:
    signature = NETWORKS[network].signature
    data = {
        name: random_arrays(signature, 32, seed) for seed, name in enumerate(("train", "calibration", "validation"))
    }
    return memory_context(model, signature, data, folder)


def test_blocks_that_change_the_shape_cannot_go(network: ResidualCNN, context: Context) -> None:
    assert list(removable(network, example(context), context)) == ["stage1.0", "stage1.1", "stage2.1"]


def test_a_repeated_module_without_a_shortcut_is_no_block(tmp_path: Path) -> None:
    layers = [nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(3)]
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), *layers, nn.Flatten(), nn.Linear(256, 10)).eval()
    context = context_for(model, 0, tmp_path)
    assert not removable(model, example(context), context)


def test_the_removed_blocks_are_really_gone(network: ResidualCNN, context: Context) -> None:
    smaller, facts = STUDENT.apply(network, {"depth": 0.34, "order": "late"}, context)
    assert facts["removed"] == "stage1.1, stage2.1"
    assert sum(isinstance(module, ResidualBlock) for module in smaller.modules()) == 2
    assert facts["parameters_after"] == sum(weights.numel() for weights in smaller.parameters())


@pytest.mark.parametrize(("order", "gone"), [("late", "stage2.1"), ("early", "stage1.0")])
def test_the_order_says_which_blocks_go(order: str, gone: str, network: ResidualCNN, context: Context) -> None:
    assert STUDENT.apply(network, {"depth": 0.7, "order": order}, context)[1]["removed"] == gone


def test_the_least_influential_block_goes_first(network: ResidualCNN, context: Context) -> None:
    idle = network.stage1[1]
    nn.init.zeros_(idle.bn2.weight)
    nn.init.zeros_(idle.bn2.bias)
    before = network(example(context)[0])
    smaller, facts = STUDENT.apply(network, {"depth": 0.7}, context)
    assert facts["removed"] == "stage1.1"
    # That block only let its input pass, so nothing is lost with it.
    torch.testing.assert_close(smaller(example(context)[0]), before)


def test_influence_is_zero_for_a_block_that_does_nothing(network: ResidualCNN, context: Context) -> None:
    nn.init.zeros_(network.stage1[1].bn2.weight)
    nn.init.zeros_(network.stage1[1].bn2.bias)
    influence = block_influence(network, ["stage1.0", "stage1.1"], context)
    assert influence["stage1.1"] < 1e-5 < influence["stage1.0"]


def test_all_blocks_stay_at_depth_one(network: ResidualCNN, context: Context) -> None:
    same, facts = STUDENT.apply(network, {"depth": 1.0}, context)
    assert facts["removed"] == ""
    assert (
        facts["parameters_before"] == facts["parameters_after"] == sum(weights.numel() for weights in same.parameters())
    )


class Layers(nn.Module):
    """Blocks that are attributes, take a mask by keyword, and return a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Attended(), Attended(), Attended()
        self.out = nn.Linear(8, 10)

    def forward(self, rows: Tensor) -> Tensor:
        mask = torch.ones_like(rows)
        for layer in (self.first, self.second, self.third):
            rows, _ = layer(rows, mask=mask)
        scores: Tensor = self.out(rows.mean(1))
        return scores


class Attended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 8)

    def forward(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        return rows + torch.tanh(self.dense(rows * mask)), mask


def test_blocks_outside_a_list_give_way_to_a_pass_through_of_their_form(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Layers().eval()
    context = context_for(model, 3, tmp_path)
    smaller, facts = STUDENT.apply(model, {"depth": 0.67, "order": "early"}, context)
    rows = example(context)[0]
    expected = model.out(
        model.third(model.second(rows, mask=torch.ones_like(rows))[0], mask=torch.ones_like(rows))[0].mean(1)
    )
    assert facts["removed"] == "first"
    torch.testing.assert_close(smaller(rows), expected)


def test_a_network_that_needs_its_first_layer_loses_others(tmp_path: Path) -> None:
    # nn.TransformerEncoder looks into its first layer, so a pass-through there would break it; a deletion does not.
    model = TextEncoder().eval()
    context = context_for(model, 2, tmp_path)
    smaller, _ = STUDENT.apply(model, {"depth": 0.34, "order": "early"}, context)
    assert len(smaller.encoder.layers) == 1


def test_a_network_that_breaks_without_its_blocks_is_refused(tmp_path: Path) -> None:
    model = TextEncoder().eval()
    with pytest.raises(StageError, match="no longer runs") as raised:
        STUDENT.apply(model, {"depth": 0.01}, context_for(model, 2, tmp_path))
    assert raised.value.kind is FailureKind.UNSUPPORTED


def test_a_width_needs_a_factory(network: ResidualCNN, context: Context) -> None:
    with pytest.raises(StageError, match=r"width 0\.5 needs source") as raised:
        STUDENT.apply(network, {"width": 0.5}, context)
    assert raised.value.kind is FailureKind.UNSUPPORTED


def test_without_a_factory_the_task_says_how_to_give_one(network: ResidualCNN, context: Context) -> None:
    with pytest.raises(StageError, match=r"Task\(student=\.\.\.\)"):
        STUDENT.apply(network, {"source": "factory"}, context)


def test_a_factory_s_network_inherits_leading_slices(network: ResidualCNN, with_task: Callable[..., Context]) -> None:
    context = with_task(student=lambda width, depth: ResidualCNN(round(8 * width), round(2 * depth)))
    student, facts = STUDENT.apply(network, {"source": "factory", "width": 0.5, "depth": 1.0}, context)
    torch.testing.assert_close(student.stage2[0].conv1.weight, network.stage2[0].conv1.weight[:8, :4])
    torch.testing.assert_close(student.stem[1].running_var, network.stem[1].running_var[:4])
    assert facts["inherited"] == 1.0
    assert facts["parameters_after"] < facts["parameters_before"]


def test_what_is_larger_than_the_original_is_not_inherited() -> None:
    wide, narrow = DepthwiseCNN(16), DepthwiseCNN(8)
    before = wide.stem.weight.clone()
    assert inherit(wide, narrow) < 0.1
    torch.testing.assert_close(wide.stem.weight, before)


def test_a_factory_with_other_outputs_is_refused(network: ResidualCNN, with_task: Callable[..., Context]) -> None:
    context = with_task(student=lambda width, depth: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    with pytest.raises(StageError, match="does not stand in for the network"):
        STUDENT.apply(network, {"source": "factory"}, context)
