"""A short training run: warm-up, cosine to zero, best checkpoint kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from autoopt.errors import FailureKind, StageError
from autoopt.records.environment import cpu_flags
from autoopt.workers.techniques._features import comparable, tapped, unexplained
from autoopt.workers.techniques._layout import channels_last, laid_out
from autoopt.workers.techniques._losses import distillation_loss
from autoopt.workers.techniques._network import Tensors, call
from autoopt.workers.techniques._normalization import estimate_statistics
from autoopt.workers.techniques._samples import Stream, Teacher, original_network, training_batch
from autoopt.workers.techniques._validation import VALIDATION_SAMPLES, validate

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context, Facts, Rows

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Without such instructions BF16 is emulated: 13 times slower than FP32 on an AVX2 machine."""
WARM_UP = 0.1
"""The share of the steps in which the learning rate rises."""
WARM_UP_STEPS = 200
"""At most."""
FEATURES_WEIGHT, OUTPUTS_WEIGHT = 3.0, 0.03
"""Where features are learnt, the outputs only keep what follows the features in step,"""
OUTPUTS_COUNT_FROM = 0.7
"""until this share of the steps; then their weight grows to one."""
CHECKED_COST = 20
"""Training samples for each validation sample from which a validation at each quarter costs under 5 %."""


@dataclass(frozen=True)
class Recipe:
    """The parameters of `Recovery`, under the same names."""

    epochs: float
    offset: float
    target: str
    rate: float
    distillation: float
    temperature: float
    batch: int
    clip: float
    optimizer: str
    weight_decay: float

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step: linear up, then a cosine down to zero (Loshchilov and Hutter 2017)."""
        warm = min(WARM_UP_STEPS, max(1, round(steps * WARM_UP)))
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / max(1, steps + 1 - warm)))


def recover(model: nn.Module, context: Context, recipe: Recipe) -> tuple[nn.Module, Facts]:
    """Train in place; returns the network in eval mode with the weights that validated best.

    Raises:
        StageError: DIVERGED where the loss is no longer finite.
    """
    torch.manual_seed(context.seed)
    torch.set_num_threads(context.threads)
    stream = Stream.of(len(context.task.training_order), recipe.offset, recipe.epochs, context.seed)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with channels_last(model, context.signature) as images:
        estimate_statistics(model, context, stream, recipe.batch, images=images)
        objective = Objective.of(model, context, recipe)
        started = time.monotonic()
        losses, best, validated_s = _train(model, recipe, stream, objective, images=images)
        seconds = time.monotonic() - started - validated_s
    return model, {
        "score": best,
        "loss": _mean_of_last(losses),
        "target": objective.target,
        "samples": stream.length,
        "steps": len(losses),
        "seconds_per_epoch": seconds * stream.size / stream.length,
        "threads": torch.get_num_threads(),
    }


@dataclass(frozen=True)
class Objective:
    """What a recovery makes small: the distance to the original's features and outputs, and the task's own loss."""

    context: Context
    recipe: Recipe
    teacher: Teacher | None
    features: str | None
    """The module whose output is compared with the original's features; None where outputs alone are."""

    @classmethod
    def of(cls, model: nn.Module, context: Context, recipe: Recipe) -> Objective:
        """For this network; by outputs alone where its features have another shape than the original's."""
        if recipe.distillation == 0:
            return cls(context, recipe, None, None)
        features = recipe.target == "features"
        return cls(
            context,
            recipe,
            Teacher(context),
            comparable(model, original_network(context), context) if features else None,
        )

    @property
    def target(self) -> str:
        """What is learnt, in a word."""
        return "features" if self.features else "outputs" if self.teacher else "labels"

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[Sequence[torch.Tensor]]:
        """The features that the network last computed, in a list; always empty where they are not compared."""
        if self.features is None:
            yield ()
        else:
            with tapped(model, self.features) as last:
                yield last

    def loss(self, answer: Answer, inputs: Tensors, places: Rows, targets: torch.Tensor, done: float) -> torch.Tensor:
        """Of a batch, a scalar. ``done``: the share of the steps that have been made."""
        weight = self.recipe.distillation
        loss = torch.zeros(())
        if weight < 1:
            loss = loss + (1 - weight) * self.context.task.loss(answer.outputs, targets)
        if self.teacher is None:
            return loss
        outputs, features = self.teacher.lesson(places, inputs, features=self.features is not None)
        loss = loss + weight * distillation_loss(answer.outputs, outputs, targets, self.recipe.temperature)
        if features is None:
            return loss
        late = max(0.0, (done - OUTPUTS_COUNT_FROM) / (1 - OUTPUTS_COUNT_FROM))
        share = float(OUTPUTS_WEIGHT ** (1 - late))
        return FEATURES_WEIGHT * unexplained(answer.features[0], features, places) + share * loss


@dataclass(frozen=True)
class Answer:
    """What a network makes of a batch."""

    outputs: torch.Tensor
    features: Sequence[torch.Tensor]
    """One tensor, or none where they are not compared."""


def _train(
    model: nn.Module, recipe: Recipe, stream: Stream, objective: Objective, *, images: bool
) -> tuple[list[float], float, float]:
    """The losses, the best score, and the seconds that validating took."""
    context = objective.context
    optimizer = _optimizer(model, recipe)
    steps = stream.steps(recipe.batch)
    checks = _check_points(steps, stream.length, context)
    losses: list[float] = []
    best, kept, validated_s = -math.inf, None, 0.0
    for step, places in enumerate(stream.batches(recipe.batch)):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step, steps)
        inputs, targets = training_batch(context, places)
        inputs = laid_out(inputs, images=images)
        with objective.watching(model) as features:
            answer = Answer(_outputs(model, inputs, context), features)
            loss = objective.loss(answer, inputs, places, targets, step / steps)
        losses.append(_step(loss, optimizer, recipe))
        if step + 1 in checks:
            began = time.monotonic()
            score = validate(model, context, images=images)
            validated_s += time.monotonic() - began
            context.progress(f"step {step + 1}/{steps}  loss {losses[-1]:.4f}  score {score:.4f}")
            if score >= best:
                best, kept = score, copy.deepcopy(model.state_dict()) if step + 1 < steps else None
    if kept is not None:
        model.load_state_dict(kept)
    model.eval()
    return losses, best, validated_s


def _outputs(model: nn.Module, inputs: Tensors, context: Context) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(BF16_FLAGS & cpu_flags())):
        return call(model, inputs, context)[0].float()


def _step(loss: torch.Tensor, optimizer: torch.optim.Optimizer, recipe: Recipe) -> float:
    value = loss.item()
    if not math.isfinite(value):
        message = f"the loss became {value}: lower the learning rate ({recipe.rate:g})"
        raise StageError(FailureKind.DIVERGED, message)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves this method without hints
    if recipe.clip > 0:
        # How long gradients are differs between tasks by much more than how far a step should go (Pascanu et al. 2013).
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], recipe.clip)
    optimizer.step()
    return value


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.rate, fused=True)
    return torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, nesterov=True, fused=True)


def _check_points(steps: int, samples: int, context: Context) -> set[int]:
    """The steps after which to validate: the last, and each quarter where that is cheap beside the training."""
    validated = min(VALIDATION_SAMPLES, context.task.splits["validation"])
    if samples < CHECKED_COST * validated:
        return {steps}
    return {round(steps * quarter / 4) for quarter in range(1, 5)}


def _mean_of_last(losses: list[float]) -> float:
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)
