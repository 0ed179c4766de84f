"""Which module leaves the features, and how two networks' features are compared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoopt.records import Signature, TensorSpec
from autoopt.testing.networks import ResidualCNN
from autoopt.testing.tasks import memory_context, random_arrays
from autoopt.workers.techniques import technique
from autoopt.workers.techniques._features import (
    WithFeatures,
    comparable,
    feature_module,
    kept_features,
    stored_features,
    tapped,
    unexplained,
)
from autoopt.workers.techniques._network import example, outputs
from autoopt.workers.techniques.base import KEPT_FEATURES, Context


class Pooled(nn.Module):
    """Maps, pooled to a vector by a module, then a hidden layer: the maps say most."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(4, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.hidden(self.pool(self.body(x)).flatten(1)).relu()
        return self.head(hidden)  # type: ignore[no-any-return]


class Perceptron(nn.Sequential):
    """Vectors only."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))


class Encoder(nn.Module):
    """Its last block returns a tuple, and a mapping holds the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.LSTM(8, 8, batch_first=True), nn.LSTM(8, 8, batch_first=True)])
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.squeeze(1)
        for block in self.blocks:
            x, _ = block(x)
        return {"scores": self.head(x[:, -1])}


class Linear(nn.Sequential):
    """Nothing before the answer but another shape of the input."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 3))


class SharedActivation(nn.Module):
    """One module leaves the map first, the answer last."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 3)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.activation(self.convolution(x)).mean((2, 3))
        return self.activation(self.head(pooled))  # type: ignore[no-any-return]


class TwoHeads(nn.Module):
    """The second output has a map of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 3)
        self.decoder = nn.Conv2d(4, 5, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.body(x)
        return self.head(maps.mean((2, 3))), self.decoder(maps)


class Tabular(nn.Module):
    """The blocks that may go stand behind the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(1, 4, 3)
        self.blocks = nn.ModuleList([Residual() for _ in range(4)])
        self.head = nn.Linear(144, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(x).flatten(1)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A block of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(144, 144)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.inner(x))


def context_of(model: nn.Module, folder: Path) -> Context:
    signature = Signature("array", (TensorSpec("x", (1, 8, 8), "float32"),))
    data = {split: random_arrays(signature, 16, seed=1) for split in ("train", "calibration", "validation")}
    return memory_context(model, signature, data, folder)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Pooled, "body"),
        (Perceptron, "2"),
        (Encoder, "blocks.1"),
        (Linear, None),
        (SharedActivation, "convolution"),
        (TwoHeads, "body"),
        (Tabular, "embedding"),
    ],
)
def test_the_features_are_what_the_last_module_before_the_answer_leaves(
    network: Callable[[], nn.Module], expected: str | None, tmp_path: Path
) -> None:
    model = network().eval()
    assert feature_module(model, context_of(model, tmp_path)) == expected


def test_what_the_features_do_not_depend_on_has_to_be_the_original_s(tmp_path: Path) -> None:
    model = Tabular().eval()
    context = context_of(model, tmp_path)
    smaller, _ = technique("student").apply(copy.deepcopy(model), {"depth": 0.5}, context)
    assert comparable(model, model, context) == "embedding"
    assert comparable(smaller, model, context) is None, "the blocks that went are not in the features"


def test_a_network_without_some_blocks_has_its_features_in_the_same_place(
    network: ResidualCNN, context: Context
) -> None:
    smaller, _ = technique("student").apply(copy.deepcopy(network), {"depth": 0.5}, context)
    assert comparable(smaller, network, context) == feature_module(network, context) == "stage2"


def test_features_of_another_shape_are_not_compared(network: ResidualCNN, context: Context) -> None:
    pruned, _ = technique("structured_pruning").apply(copy.deepcopy(network), {"ratio": 0.25, "round_to": 4}, context)
    assert comparable(pruned, network, context) is None
    assert comparable(network, Perceptron().eval(), context) is None


def test_equal_features_leave_nothing_unexplained(network: ResidualCNN, context: Context) -> None:
    inputs, places = example(context, 8), np.arange(8)
    with tapped(network, "stage2") as last:
        answer = outputs(network, inputs, context)[0]
    again, features = outputs(WithFeatures(network, "stage2"), inputs, context)
    torch.testing.assert_close(answer, again)
    torch.testing.assert_close(last[0], features)
    taught = torch.from_numpy(stored_features(kept_features(features, places))).float()
    assert float(unexplained(features, taught, places)) == pytest.approx(0.0, abs=1e-5)
    assert float(unexplained(features + features.std(), taught, places)) == pytest.approx(1.0, rel=0.01)


def test_of_many_features_some_are_kept_of_each_sample_always_the_same() -> None:
    features = torch.arange(2 * 3 * 4000.0).reshape(2, 3, 4000)
    kept = kept_features(features, np.array([7, 8]))
    assert kept.shape == (2, KEPT_FEATURES)
    torch.testing.assert_close(kept_features(features[1:], np.array([8])), kept[1:])
    assert not torch.equal(kept[0] + 12_000, kept[1])
    assert float(kept[0].max()) < 12_000 <= float(kept[1].min())


def test_stored_features_stay_finite() -> None:
    assert np.isfinite(stored_features(torch.tensor([1e9, -1e9, 1.0]))).all()


def test_a_recovery_by_features_comes_further_than_by_outputs(network: ResidualCNN, context: Context) -> None:
    smaller, _ = technique("student").apply(network, {"depth": 0.5}, context)
    brief: dict[str, Any] = {"epochs": 0.5, "rate": 0.1}
    scores = {}
    for target in ("features", "outputs"):
        _, facts = technique("recovery").apply(copy.deepcopy(smaller), {**brief, "target": target}, context)
        assert facts["target"] == target
        scores[target] = facts["score"]
    assert scores["features"] > scores["outputs"]


def test_without_distillation_labels_alone_teach(network: ResidualCNN, with_task: Callable[..., Context]) -> None:
    _, facts = technique("recovery").apply(network, {"epochs": 0.1, "distillation": 0.0}, with_task(source=None))
    assert facts["target"] == "labels"
