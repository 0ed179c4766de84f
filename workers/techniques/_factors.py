"""Splitting layers by their singular values."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques._network import example, outputs, parameter_count, runs_alike, shapes

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context, Facts


@dataclass(frozen=True)
class Split:
    """A layer as two, and the share of its weights' squared norm that they keep, in [0, 1]."""

    pair: nn.Sequential
    energy: float


def factored(model: nn.Module, context: Context, rank: float) -> tuple[nn.Module, Facts]:
    """A copy of the network whose layers are split where that saves multiply-adds.

    Raises:
        StageError: UNSUPPORTED where no layer gets cheaper, or the network breaks.
    """
    inputs = example(context)
    expected = shapes(outputs(model, inputs, context))
    smaller = copy.deepcopy(model)
    splits = {name: split for name, module in model.named_modules() if name and (split := split_layer(module, rank))}
    # A layer whose weights are read from outside (attention reads out_proj.weight) cannot be replaced.
    splits = {name: split for name, split in splits.items() if not _is_read(model, name)}
    if not splits:
        message = f"at rank {rank:g} no linear layer or convolution of this network gets cheaper"
        raise unsupported(message)
    for name, split in splits.items():
        smaller.set_submodule(name, split.pair)
    problem = runs_alike(smaller, inputs, context, expected)
    if problem:
        message = f"with split layers {problem}"
        raise unsupported(message)
    return smaller.eval(), {
        "parameters_before": parameter_count(model),
        "parameters_after": parameter_count(smaller),
        "layers": len(splits),
        "energy": sum(split.energy for split in splits.values()) / len(splits),
    }


def split_layer(layer: nn.Module, rank: float) -> Split | None:
    """The layer as two of lower rank; None where it is of another kind or would not get cheaper."""
    if type(layer) is nn.Linear:
        return _split_linear(layer, rank)
    if type(layer) is nn.Conv2d and layer.groups == 1 and isinstance(layer.padding, tuple):
        return _split_convolution(layer, rank)
    return None


def _is_read(model: nn.Module, name: str) -> bool:
    parent = model.get_submodule(name.rpartition(".")[0])
    return isinstance(parent, nn.MultiheadAttention | nn.TransformerEncoderLayer)


def _kept(rank: float, full: int) -> int:
    return max(1, round(rank * full))


@torch.no_grad()
def _factors(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """``(out, r)`` and ``(r, in)`` whose product is nearest to the matrix, and the energy kept (Eckart and Young 1936)."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    root = values[:rank].sqrt()
    energy = float(values[:rank].square().sum() / values.square().sum().clamp_min(1e-30))
    return (left[:, :rank] * root).to(matrix), (root[:, None] * right[:rank]).to(matrix), energy


@torch.no_grad()
def _split_linear(layer: nn.Linear, rank: float) -> Split | None:
    kept = _kept(rank, min(layer.in_features, layer.out_features))
    if kept * (layer.in_features + layer.out_features) >= layer.in_features * layer.out_features:
        return None
    left, right, energy = _factors(layer.weight, kept)
    first = nn.Linear(layer.in_features, kept, bias=False)
    second = nn.Linear(kept, layer.out_features, bias=layer.bias is not None)
    first.weight.copy_(right)
    second.weight.copy_(left)
    if layer.bias is not None:
        second.bias.copy_(layer.bias)
    return Split(nn.Sequential(first, second).to(layer.weight.dtype), energy)


@torch.no_grad()
def _split_convolution(layer: nn.Conv2d, rank: float) -> Split | None:
    window = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
    kept = _kept(rank, min(window, layer.out_channels))
    # Both halves give as many positions as the whole, so multiply-adds compare like weights.
    if kept * (window + layer.out_channels) >= window * layer.out_channels:
        return None
    left, right, energy = _factors(layer.weight.flatten(1), kept)
    first = nn.Conv2d(
        layer.in_channels,
        kept,
        layer.kernel_size,  # type: ignore[arg-type]  # torch hints a pair as a tuple of any length
        layer.stride,  # type: ignore[arg-type]  # likewise
        layer.padding,  # type: ignore[arg-type]  # likewise
        layer.dilation,  # type: ignore[arg-type]  # likewise
        bias=False,
        padding_mode=layer.padding_mode,
    )
    second = nn.Conv2d(kept, layer.out_channels, 1, bias=layer.bias is not None)
    first.weight.copy_(right.view_as(first.weight))
    second.weight.copy_(left[:, :, None, None])
    if layer.bias is not None and second.bias is not None:
        second.bias.copy_(layer.bias)
    return Split(nn.Sequential(first, second).to(layer.weight.dtype), energy)
