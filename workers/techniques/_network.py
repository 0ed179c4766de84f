"""What the techniques that work on torch modules share: sample batches, running the network, comparing shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autoopt.workers.techniques.base import Context, Rows, Table

_SEED = 0
Tensors = tuple[torch.Tensor, ...]

# What a network's forward raises when its structure no longer fits: wrong shapes, a missing attribute, a failed view.
STRUCTURE_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, AssertionError)


def take(array: Table, rows: Rows) -> torch.Tensor:
    """A copy of some rows of a memory-mapped array, as a tensor of the same type."""
    return torch.from_numpy(np.asarray(array[rows]))


def split_inputs(context: Context, split: str, rows: Rows) -> Tensors:
    """The inputs of some samples of a split, ``(len(rows), *shape)`` each."""
    return tuple(take(array, rows) for array in context.task.arrays(split).inputs)


def example(context: Context, batch: int = 2) -> Tensors:
    """The first samples of the calibration split."""
    rows = np.arange(batch) % context.task.splits["calibration"]
    return split_inputs(context, "calibration", rows)


def batches(context: Context, split: str, samples: int, batch: int) -> Iterator[tuple[Tensors, torch.Tensor]]:
    """Inputs and targets of some samples of a split: always the same, drawn at random, since splits may be sorted."""
    arrays = context.task.arrays(split)
    drawn = np.sort(np.random.default_rng(_SEED).permutation(len(arrays.targets))[:samples])
    for start in range(0, len(drawn), batch):
        rows = drawn[start : start + batch]
        yield tuple(take(array, rows) for array in arrays.inputs), take(arrays.targets, rows)


def call(model: nn.Module, inputs: Tensors, context: Context) -> Tensors:
    """The network's outputs, flat; the inputs are passed as its signature says."""
    from autoopt.workers import formats

    return formats.call_module(model, inputs, context.signature)


@torch.no_grad()
def outputs(model: nn.Module, inputs: Tensors, context: Context) -> Tensors:
    """The same without gradients, in eval mode."""
    model.eval()
    return call(model, inputs, context)


def shapes(tensors: Tensors) -> tuple[tuple[int, ...], ...]:
    """The shape of each tensor."""
    return tuple(tuple(tensor.shape) for tensor in tensors)


def runs_alike(
    model: nn.Module, inputs: Tensors, context: Context, expected: tuple[tuple[int, ...], ...]
) -> str | None:
    """None where the network runs and its outputs have the expected shapes; else what is wrong, in words."""
    try:
        found = shapes(outputs(model, inputs, context))
    except STRUCTURE_ERRORS as error:
        return f"the network no longer runs ({type(error).__name__}: {error})"
    return None if found == expected else f"its outputs have the shapes {found} instead of {expected}"


def parameter_count(model: nn.Module) -> int:
    """The number of weights."""
    return sum(parameter.numel() for parameter in model.parameters())
