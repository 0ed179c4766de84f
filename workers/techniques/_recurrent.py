"""Pruning the hidden units of recurrent layers.

A hidden unit stands behind one row of every gate, so with a unit its rows go from the input and hidden weights of all gates,
and its column from the hidden weights. (Torch-Pruning's own rule for LSTM takes the gates for one.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch_pruning.pruner.function import BasePruningFunc


class RecurrentPruner(BasePruningFunc):  # type: ignore[misc]  # Torch-Pruning has no type hints
    """For `nn.LSTM` and `nn.GRU` of one layer and one direction."""

    def prune_out_channels(self, layer: nn.RNNBase, idxs: Sequence[int]) -> nn.Module:
        """Take hidden units out, in place.

        Raises:
            ValueError: the layer is stacked, bidirectional or projects its state: its outputs are no plain hidden units.
        """
        if layer.num_layers != 1 or layer.bidirectional or layer.proj_size:
            message = "only recurrent layers of one layer, one direction and no projection can be pruned"
            raise ValueError(message)
        kept = _without(layer.hidden_size, idxs)
        weights = dict(layer.named_parameters())
        gates = len(weights["weight_hh_l0"]) // layer.hidden_size
        rows = torch.cat([kept + gate * layer.hidden_size for gate in range(gates)])
        for name, weight in weights.items():
            setattr(layer, name, _taken(weight, rows, kept if name == "weight_hh_l0" else None))
        layer.hidden_size = len(kept)
        return layer

    def prune_in_channels(self, layer: nn.RNNBase, idxs: Sequence[int]) -> nn.Module:
        """Take input features out, in place; every direction reads them."""
        kept = _without(layer.input_size, idxs)
        for name, weight in dict(layer.named_parameters()).items():
            if name.startswith("weight_ih_l0"):
                setattr(layer, name, _taken(weight, torch.arange(len(weight)), kept))
        layer.input_size = len(kept)
        return layer

    def get_out_channels(self, layer: nn.RNNBase) -> int:
        """The number of hidden units."""
        return layer.hidden_size

    def get_in_channels(self, layer: nn.RNNBase) -> int:
        """The number of input features."""
        return layer.input_size


def _without(size: int, gone: Sequence[int]) -> torch.Tensor:
    return torch.tensor(sorted(set(range(size)) - set(gone)))


def _taken(weight: nn.Parameter, rows: torch.Tensor, columns: torch.Tensor | None = None) -> nn.Parameter:
    kept = weight.detach()[rows]
    return nn.Parameter(kept if columns is None else kept[:, columns])
