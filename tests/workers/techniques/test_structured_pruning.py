from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoopt.errors import FailureKind, StageError
from autoopt.testing.networks import NETWORKS, Recurrent, ResidualCNN, TextEncoder
from autoopt.testing.tasks import memory_context, random_arrays
from autoopt.workers.techniques import technique
from autoopt.workers.techniques._channels import Choice, Group, removals
from autoopt.workers.techniques._network import example
from autoopt.workers.techniques.base import Context

PRUNING = technique("structured_pruning")


def context_for(model: nn.Module, network: int, folder: Path) -> Context:
    signature = NETWORKS[network].signature
    data = {
        name: random_arrays(signature, 32, seed) for seed, name in enumerate(("train", "calibration", "validation"))
    }
    return memory_context(model, signature, data, folder)


def widths(model: nn.Module) -> list[int]:
    return [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("scope", ["global", "uniform"])
def test_channels_that_do_nothing_go_first_and_nothing_is_lost(
    importance: str, scope: str, network: ResidualCNN, context: Context
) -> None:
    with torch.no_grad():
        for block in (*network.stage1, *network.stage2):
            half = block.conv1.out_channels // 2
            for tensor in (block.conv1.weight, block.bn1.weight, block.bn1.bias, block.conv2.weight.transpose(0, 1)):
                tensor[:half] = 0
    inputs = example(context, 16)
    before = network(*inputs)
    # Only what lies inside the blocks is dead: half of it is a quarter of all channels in the global ranking.
    ratio = 0.25 if scope == "global" else 0.5
    params = {"ratio": ratio, "importance": importance, "scope": scope, "round_to": 1}
    smaller, _ = PRUNING.apply(network, params, context)
    assert [block.conv1.out_channels for block in (*smaller.stage1, *smaller.stage2)] == [4, 4, 8, 8]
    if scope == "global":
        torch.testing.assert_close(smaller(*inputs), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("round_to", [1, 4, 8])
def test_the_channels_kept_are_a_multiple(round_to: int, tmp_path: Path) -> None:
    model = ResidualCNN(width=24).eval()
    smaller, _ = PRUNING.apply(model, {"ratio": 0.4, "round_to": round_to}, context_for(model, 0, tmp_path))
    assert all(width % round_to == 0 for width in widths(smaller))
    assert max(widths(smaller)) < max(widths(model))


def test_the_output_layer_keeps_its_classes(network: ResidualCNN, context: Context) -> None:
    smaller, _ = PRUNING.apply(network, {"ratio": 0.9, "round_to": 1}, context)
    assert smaller.classifier.out_features == 10
    assert smaller(*example(context)).shape == (2, 10)


def test_hidden_units_of_a_recurrent_layer_that_nobody_reads_go_without_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Recurrent(hidden=16).eval()
    with torch.no_grad():
        model.classifier.weight[:, ::2] = 0
        model.lstm.weight_hh_l0[:, ::2] = 0
    context = context_for(model, 3, tmp_path)
    inputs = example(context, 8)
    smaller, _ = PRUNING.apply(model, {"ratio": 0.5, "round_to": 4}, context)
    assert smaller.lstm.hidden_size == 8
    torch.testing.assert_close(smaller(*inputs), model(*inputs))


def test_every_head_of_an_attention_loses_the_same_channels(tmp_path: Path) -> None:
    model = TextEncoder(width=32, heads=4).eval()
    smaller, _ = PRUNING.apply(model, {"ratio": 0.5, "round_to": 8}, context_for(model, 2, tmp_path))
    attention = smaller.encoder.layers[0].self_attn
    assert (attention.embed_dim, attention.num_heads, attention.head_dim) == (16, 4, 4)


class WrittenSizes(nn.Module):
    """Its heads' size stands in its code, as in much of the attention that people write."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(8, 16)
        self.hidden = nn.Linear(8, 64)
        self.back = nn.Linear(64, 8)
        self.classifier = nn.Linear(16, 10)

    def forward(self, rows: Tensor) -> Tensor:
        heads = self.rows(self.back(torch.relu(self.hidden(rows)))).view(-1, 8, 4, 4)
        scores: Tensor = self.classifier(heads.flatten(2).mean(1))
        return scores


def test_layers_whose_size_stands_in_the_code_are_left_alone(tmp_path: Path) -> None:
    model = WrittenSizes().eval()
    smaller, _ = PRUNING.apply(model, {"ratio": 0.5, "round_to": 8}, context_for(model, 3, tmp_path))
    assert smaller.rows.out_features == 16
    assert smaller.hidden.out_features == 32


def test_a_network_with_nothing_to_remove_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    with pytest.raises(StageError, match="no channel can go") as raised:
        PRUNING.apply(model, {"ratio": 0.5}, context_for(model, 0, tmp_path))
    assert raised.value.kind is FailureKind.UNSUPPORTED


def test_a_ratio_of_zero_leaves_the_network_as_it_is(network: ResidualCNN, context: Context) -> None:
    same, facts = PRUNING.apply(network, {"ratio": 0.0}, context)
    assert facts["parameters_before"] == facts["parameters_after"]
    torch.testing.assert_close(same(*example(context)), network(*example(context)))


def test_no_gradients_are_left_behind(network: ResidualCNN, context: Context) -> None:
    smaller, _ = PRUNING.apply(network, {"ratio": 0.5, "importance": "taylor", "round_to": 1}, context)
    assert all(weights.grad is None for weights in smaller.parameters())


def test_one_ranking_takes_from_the_weaker_group() -> None:
    groups = [Group("strong", torch.tensor([5.0, 6, 7, 8])), Group("weak", torch.tensor([4.0, 1, 3, 2]))]
    assert removals(groups, Choice(0.375, ranked_together=True, round_to=1)) == {"weak": [1, 2, 3]}


def test_uniform_takes_the_same_share_of_each_group() -> None:
    groups = [Group("strong", torch.tensor([5.0, 6, 7, 8])), Group("weak", torch.tensor([4.0, 1, 3, 2]))]
    assert removals(groups, Choice(0.5, ranked_together=False, round_to=1)) == {"strong": [0, 1], "weak": [1, 3]}


def test_parts_of_a_group_lose_the_same_channels() -> None:
    group = Group("heads", torch.tensor([2.0, 9, 1, 9, 5, 1, 5, 1]), repeats=2)
    assert removals([group], Choice(0.25, ranked_together=False, round_to=1)) == {"heads": [2, 6]}


def test_no_group_is_left_without_channels() -> None:
    groups = [Group("weak", torch.full((8,), 0.1)), Group("strong", torch.full((8,), 5.0))]
    assert len(removals(groups, Choice(0.5, ranked_together=True, round_to=4))["weak"]) == 4
