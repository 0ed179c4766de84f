from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoopt.errors import FailureKind, StageError
from autoopt.testing.networks import ResidualCNN
from autoopt.workers import formats
from autoopt.workers.stages.teaching import teach
from autoopt.workers.techniques import _features, technique
from autoopt.workers.techniques._losses import distillation_loss
from autoopt.workers.techniques._samples import Stream, Teacher, training_batch
from autoopt.workers.techniques._training import Recipe
from autoopt.workers.techniques._validation import validate
from autoopt.workers.techniques.base import Context, Taught

RECOVERY = technique("recovery")
BRIEF = {"epochs": 0.1, "batch": 32, "rate": 0.05}


def taught(context: Context, samples: int, folder: Path) -> Taught:
    teach(formats.load(context.task.source), context, np.arange(samples), folder)
    return Taught(np.load(folder / "outputs.npy"), np.load(folder / "features.npy"))


def test_a_pruned_network_regains_its_accuracy(network: ResidualCNN, context: Context) -> None:
    before = validate(network, context)
    pruned, _ = technique("structured_pruning").apply(network, {"ratio": 0.5, "round_to": 4}, context)
    damaged = validate(pruned, context)
    recovered, facts = RECOVERY.apply(pruned, {"epochs": 4, "batch": 32, "rate": 0.1}, context)
    assert before > 0.95
    assert damaged < before - 0.2
    assert facts["score"] > before - 0.03
    assert facts["score"] == validate(recovered, context)


def test_the_structure_stays_and_the_network_is_left_in_eval_mode(network: ResidualCNN, context: Context) -> None:
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    result, _ = RECOVERY.apply(network, BRIEF, context)
    assert {name: tensor.shape for name, tensor in result.state_dict().items()} == shapes
    assert not any(module.training for module in result.modules())
    assert all(weights.is_contiguous() for weights in result.parameters())


def test_a_gradient_is_no_longer_than_its_limit(network: ResidualCNN, context: Context) -> None:
    moved = []
    for clip in (0.0, 1e-6):
        before = {name: weights.detach().clone() for name, weights in network.named_parameters()}
        model, _ = RECOVERY.apply(copy.deepcopy(network), {**BRIEF, "clip": clip, "weight_decay": 0.0}, context)
        moved.append(
            max(float((weights.detach() - before[name]).abs().max()) for name, weights in model.named_parameters())
        )
    assert moved[0] > 1e-4
    assert moved[1] < 1e-4 * moved[0]


def test_a_loss_that_is_not_finite_ends_as_diverged(network: ResidualCNN, context: Context) -> None:
    with pytest.raises(StageError, match="lower the learning rate") as raised:
        RECOVERY.apply(network, {**BRIEF, "epochs": 1.0, "rate": 10.0, "optimizer": "sgd"}, context_with_nan(context))
    assert raised.value.kind is FailureKind.DIVERGED


def context_with_nan(context: Context) -> Context:
    task: Any = context.task
    return replace(
        context, task=replace(task, loss=lambda outputs, targets: F.cross_entropy(outputs, targets) * math.nan)
    )


@pytest.mark.parametrize(("target", "kept"), [("features", 4096), ("features", 100), ("outputs", 4096)])
def test_a_teacher_s_answers_given_or_computed_train_the_same(
    target: str, kept: int, network: ResidualCNN, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_features, "KEPT_FEATURES", kept)
    given = replace(context, taught=taught(context, 110, tmp_path))
    weights = [
        RECOVERY.apply(formats.load(context.task.source), {**BRIEF, "target": target}, each)[0].classifier.weight
        for each in (given, context)
    ]
    assert given.taught is not None
    assert given.taught.features is not None
    assert given.taught.features[:1].shape == (1, min(kept, 256))
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


def test_the_teacher_s_rows_are_those_of_the_samples_in_every_pass(context: Context, tmp_path: Path) -> None:
    everything = taught(context, 1100, tmp_path)
    assert everything.features is not None
    teacher = Teacher(replace(context, taught=Taught(everything.outputs[:300], everything.features[:300])))
    for places in list(Stream.of(1100, 0.9, 0.3, seed=3).batches(64)):
        inputs, _ = training_batch(context, places)
        answers, features = teacher.lesson(places, inputs, features=True)
        torch.testing.assert_close(answers, torch.from_numpy(everything.outputs[places]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            features, torch.from_numpy(everything.features[places]).float(), rtol=1e-2, atol=1e-2
        )


def test_the_first_pass_goes_by_the_training_order_and_an_offset_goes_on_where_it_ended() -> None:
    first, rest = Stream.of(100, 0.0, 0.25, seed=1), Stream.of(100, 0.25, 0.75, seed=1)
    places = np.concatenate([*first.batches(10), *rest.batches(10)])
    assert places.tolist() == list(range(100))


def test_a_later_pass_is_shuffled_and_complete() -> None:
    places = np.concatenate(list(Stream.of(100, 1.0, 1.0, seed=1).batches(10)))
    assert places.tolist() != list(range(100))
    assert sorted(places.tolist()) == list(range(100))


@pytest.mark.parametrize(("samples", "sizes"), [(100, [32, 32, 36]), (120, [32, 32, 32, 24]), (5, [5])])
def test_no_batch_is_tiny(samples: int, sizes: list[int]) -> None:
    stream = Stream.of(1000, 0.0, samples / 1000, seed=0)
    assert [len(places) for places in stream.batches(32)] == sizes
    assert stream.steps(32) == len(sizes)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    recipe = Recipe(1.0, 0.0, "outputs", 0.5, 0.5, 2.0, 32, 1.0, "sgd", 0.0)
    rates = [recipe.rate_at(step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.5)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.1
    assert rates[-1] < 0.001


def test_class_scores_are_distilled_by_divergence() -> None:
    torch.manual_seed(0)
    outputs, taught, targets = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    teacher = torch.softmax(taught / 2, 1)
    expected = 4 * (teacher * (teacher.log() - torch.log_softmax(outputs / 2, 1))).sum(1).mean()
    torch.testing.assert_close(distillation_loss(outputs, taught, targets, 2.0), expected)


def test_real_outputs_are_distilled_by_squared_error() -> None:
    outputs, taught = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    assert float(distillation_loss(outputs, taught, torch.zeros(2, 1), 2.0)) == 2.5


def test_without_distillation_no_teacher_is_asked(network: ResidualCNN, with_task: Callable[..., Context]) -> None:
    context = with_task(source=None)
    _, facts = RECOVERY.apply(network, {**BRIEF, "distillation": 0.0}, context)
    assert facts["samples"] == 110


def test_distillation_alone_needs_no_loss(network: ResidualCNN, with_task: Callable[..., Context]) -> None:
    context = with_task(loss=None)
    _, facts = RECOVERY.apply(network, {**BRIEF, "distillation": 1.0, "optimizer": "adamw", "rate": 0.001}, context)
    assert facts["score"] > 0.9


def test_wrong_statistics_are_mended_before_the_first_step(network: ResidualCNN, context: Context) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(100.0)
    assert validate(network, context) < 0.6
    # Three samples and a rate near zero teach nothing: what is regained comes from the statistics.
    _, facts = RECOVERY.apply(network, {"epochs": 0.1, "rate": 1e-6, "batch": 110}, context)
    assert facts["score"] > 0.9


def test_the_best_of_the_quarters_is_kept(
    network: ResidualCNN, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoopt.workers.techniques import _training

    scores = iter([0.1, 0.9, 0.2, 0.3])
    kept: list[torch.Tensor] = []

    def fake(model: Any, *_: Any, **__: Any) -> float:
        kept.append(model.classifier.weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(_training, "validate", fake)
    monkeypatch.setattr(_training, "CHECKED_COST", 0)
    result, facts = RECOVERY.apply(network, {**BRIEF, "epochs": 0.5}, context)
    assert facts["score"] == 0.9
    torch.testing.assert_close(result.classifier.weight, kept[1])


def test_it_tells_how_far_it_is(network: ResidualCNN, context: Context) -> None:
    lines: list[str] = []
    RECOVERY.apply(network, BRIEF, replace(context, progress=lines.append))
    assert "step 3/3" in lines[-1]
