"""A task in memory: what a technique sees of a prepared task, without a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoopt.records import Signature, TensorSpec
from autoopt.testing.networks import CLASSES, VOCABULARY
from autoopt.workers import formats
from autoopt.workers.engines.base import Source
from autoopt.workers.techniques.base import Context, Taught

if TYPE_CHECKING:
    from autoopt.task.prepared import PreparedTask


class Arrays(NamedTuple):
    """A split: an array ``(N, *shape)`` for each input, and the targets ``(N, ...)``."""

    inputs: tuple[np.ndarray[Any, Any], ...]
    targets: np.ndarray[Any, Any]


def accuracy(outputs: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> float:
    """The share of right answers: outputs ``(N, classes)``, targets ``(N,)``."""
    return float((outputs.argmax(1) == targets).mean())


@dataclass(frozen=True)
class MemoryTask:
    """The part of `autoopt.task.prepared.PreparedTask` that techniques use."""

    data: Mapping[str, Arrays]
    source: Source
    """The original network."""
    student: Callable[..., nn.Module] | None = None
    score: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], float] = accuracy
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    training_order: np.ndarray[Any, Any] = field(default_factory=lambda: np.arange(0))

    @property
    def splits(self) -> dict[str, int]:
        """The number of samples of each split."""
        return {name: len(arrays.targets) for name, arrays in self.data.items()}

    def arrays(self, split: str) -> Arrays:
        """The samples of a split.

        Raises:
            KeyError: the test split, which no technique may read, or one that there is not.
        """
        return self.data[split]


def random_arrays(signature: Signature, samples: int, seed: int) -> Arrays:
    """Random inputs that fit a signature, and random classes."""
    generator = np.random.default_rng(seed)
    inputs = tuple(_random(spec, samples, generator) for spec in signature.tensors)
    return Arrays(inputs, generator.integers(0, CLASSES, samples))


def _random(spec: TensorSpec, samples: int, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = (samples, *spec.shape)
    if spec.dtype == "bool":
        mask = generator.random(shape) < 0.8  # noqa: PLR2004 (most tokens count)
        mask[:, 0] = True
        return mask
    if spec.dtype.startswith(("int", "uint")):
        return generator.integers(0, VOCABULARY, shape).astype(spec.dtype)
    return generator.standard_normal(shape).astype(spec.dtype)


def memory_context(
    network: nn.Module,
    signature: Signature,
    data: Mapping[str, Arrays],
    folder: Path,
    *,
    student: Callable[..., nn.Module] | None = None,
    taught: Taught | None = None,
    seed: int = 0,
) -> Context:
    """A context for a technique: one thread, no progress shown. The network is saved into ``folder`` as the original."""
    source = formats.save(network, "module", folder, signature)
    order = np.random.default_rng(seed).permutation(len(data["train"].targets))
    task = MemoryTask(data, source, student, training_order=order)
    torch.set_num_threads(1)
    prepared = cast("PreparedTask", task)  # the part of it that techniques use
    return Context(prepared, signature, taught, seed, threads=1, progress=lambda _: None)
