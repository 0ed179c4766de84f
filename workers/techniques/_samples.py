"""The stream of training samples, and what the teacher makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques._features import WithFeatures, feature_module, kept_features
from autoopt.workers.techniques._network import Tensors, outputs, split_inputs, take

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context, Rows


@dataclass(frozen=True)
class Stream:
    """Places in the training order: the first pass in that order, each later one shuffled anew from the seed."""

    size: int
    start: int
    length: int
    seed: int

    @classmethod
    def of(cls, size: int, offset: float, epochs: float, seed: int) -> Stream:
        """``offset`` and ``epochs`` in passes over ``size`` samples; at least one sample long."""
        return cls(size, round(offset * size), max(1, round(epochs * size)), seed)

    def batches(self, batch: int) -> Iterator[Rows]:
        """Places in ``training_order``, ``(batch,)`` each. A last batch of under half the size joins the one before."""
        places = np.concatenate(list(self._passes()))
        count = max(1, round(len(places) / batch))
        for index in range(count):
            yield places[index * batch : (index + 1) * batch if index + 1 < count else None]

    def steps(self, batch: int) -> int:
        """How many batches there are."""
        return max(1, round(self.length / batch))

    def _passes(self) -> Iterator[Rows]:
        position, end = self.start, self.start + self.length
        while position < end:
            number, first = divmod(position, self.size)
            order = np.arange(self.size)
            if number:
                order = np.random.default_rng((self.seed, number)).permutation(self.size)
            last = min(self.size, first + end - position)
            yield order[first:last]
            position += last - first


class Teacher:
    """The original network's outputs and features by place in the training order, from what was computed before where it is enough."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._taught = context.taught

    def lesson(self, places: Rows, inputs: Tensors, *, features: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Outputs for the samples at these places, whose inputs are given; with what is kept of their features, if asked for."""
        taught = self._taught
        if taught is None or int(places.max()) >= len(taught.outputs) or (features and taught.features is None):
            return self._compute(places, inputs, features=features)
        kept = take(taught.features, places).float() if features and taught.features is not None else None
        return take(taught.outputs, places), kept

    @cached_property
    def _network(self) -> nn.Module:
        return original_network(self._context)

    @cached_property
    def _with_features(self) -> nn.Module:
        name = feature_module(self._network, self._context)
        assert name is not None, "whoever asks for features has seen that there are any"
        return WithFeatures(self._network, name)

    def _compute(self, places: Rows, inputs: Tensors, *, features: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not features:
            return outputs(self._network, inputs, self._context)[0], None
        answer, found = outputs(self._with_features, inputs, self._context)
        return answer, kept_features(found, places)


def original_network(context: Context) -> nn.Module:
    """The original network, in eval mode.

    Raises:
        StageError: UNSUPPORTED where it is no torch module.
    """
    from autoopt.workers import formats
    from autoopt.workers.engines.base import Source

    source = context.task.source
    network = formats.load(Source(source.format, source.path, source.signature))
    if not isinstance(network, nn.Module):
        message = "the original network is no torch module, so it cannot teach: set distillation to 0"
        raise unsupported(message)
    return network.eval()


def training_batch(context: Context, places: Rows) -> tuple[Tensors, torch.Tensor]:
    """Inputs and targets of the training samples at these places of the training order."""
    # Sorted reading is kinder to a memory-mapped file; the order within a batch does not matter to the teacher's alignment,
    # because places and samples stay paired.
    rows = np.asarray(context.task.training_order)[places]
    return split_inputs(context, "train", rows), take(context.task.arrays("train").targets, rows)
