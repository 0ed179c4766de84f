"""The stream of training samples, and the teacher's outputs for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques._network import Tensors, outputs, split_inputs, take

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context

Rows = np.ndarray[Any, Any]


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
    """The original network's outputs by place in the training order; what was not computed before is computed when asked."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._given = context.teacher
        self._computed: dict[int, torch.Tensor] = {}
        self._network: nn.Module | None = None

    def __call__(self, places: Rows, inputs: Tensors) -> torch.Tensor:
        """Outputs for the samples at these places, whose inputs are given."""
        if self._given is not None and int(places.max()) < len(self._given):
            return take(self._given, places)
        missing = [index for index, place in enumerate(places.tolist()) if not self._knows(place)]
        if missing:
            rows = torch.tensor(missing)
            found = outputs(self._original(), tuple(tensor[rows] for tensor in inputs), self._context)[0]
            self._computed.update(zip(places[missing].tolist(), found, strict=True))
        return torch.stack([self._known(place) for place in places.tolist()])

    def _knows(self, place: int) -> bool:
        return place in self._computed or (self._given is not None and place < len(self._given))

    def _known(self, place: int) -> torch.Tensor:
        if self._given is not None and place < len(self._given):
            return torch.from_numpy(np.array(self._given[place]))
        return self._computed[place]

    def _original(self) -> nn.Module:
        if self._network is None:
            from autoopt.workers import formats
            from autoopt.workers.engines.base import Source

            source = self._context.task.source
            network = formats.load(Source(source.format, source.path, source.signature))
            if not isinstance(network, nn.Module):
                message = "the original network is no torch module, so it cannot teach: set distillation to 0"
                raise unsupported(message)
            self._network = network.eval()
        return self._network


def training_batch(context: Context, places: Rows) -> tuple[Tensors, torch.Tensor]:
    """Inputs and targets of the training samples at these places of the training order."""
    # Sorted reading is kinder to a memory-mapped file; the order within a batch does not matter to the teacher's alignment,
    # because places and samples stay paired.
    rows = np.asarray(context.task.training_order)[places]
    return split_inputs(context, "train", rows), take(context.task.arrays("train").targets, rows)
