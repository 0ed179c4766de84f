"""What a network makes of a sample before it decides, and how a smaller one learns to make the same of it.

Ten class scores say little about a sample; the features from which they are computed say thousands of numbers. A network whose
features come close to the original's answers like it, since what follows (pooling and a linear layer, mostly) was inherited from
it. It learns up to four times as fast as from the outputs (Romero et al. 2015, FitNets; Chen et al. 2022, SimKD).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from autoopt.workers.formats import flat_tensors
from autoopt.workers.techniques._network import Tensors, call, example
from autoopt.workers.techniques.base import KEPT_FEATURES

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context, Rows

_SEED = 0
_EXAMPLES = 7
"""No dimension is likely to be as long by chance."""


def feature_module(model: nn.Module, context: Context) -> str | None:
    """The name of the module whose output is the network's features: the last that leaves more than a vector a sample.

    Where none does, the last that leaves a vector. The network's first output has to depend on it, and look different from it.
    None where there is none.
    """
    left: dict[str, torch.Tensor] = {}

    def note(name: str, _: nn.Module, __: Any, result: Any) -> None:
        left.pop(name, None)  # of several calls the last counts
        left.update((name, tensor) for tensor in flat_tensors(result)[:1])

    handles = [module.register_forward_hook(partial(note, name)) for name, module in model.named_modules() if name]
    try:
        answer = _with_gradients(model, context)
    finally:
        for handle in handles:
            handle.remove()
    vectors = [name for name, tensor in left.items() if _may_be(tensor, answer)]
    maps = [name for name in vectors if max(left[name].shape[2:], default=1) > 1]
    return next((name for name in reversed(maps or vectors) if _leads_to(left[name], answer)), None)


def _with_gradients(model: nn.Module, context: Context) -> torch.Tensor:
    """The first output for some examples, in eval mode."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with torch.enable_grad():
        return call(model.eval(), example(context, _EXAMPLES), context)[0]


def _may_be(tensor: torch.Tensor, answer: torch.Tensor) -> bool:
    return tensor.requires_grad and tensor.dim() > 1 and tensor.shape[0] == _EXAMPLES and tensor.shape != answer.shape


def _leads_to(tensor: torch.Tensor, answer: torch.Tensor) -> bool:
    return torch.autograd.grad(answer.sum(), tensor, retain_graph=True, allow_unused=True)[0] is not None


@contextmanager
def tapped(model: nn.Module, name: str) -> Iterator[list[torch.Tensor]]:
    """A list that holds what the named module last gave, ``(N, ...)``, while the context is open."""
    last: list[torch.Tensor] = []

    def keep(_: nn.Module, __: Any, result: Any) -> None:
        last[:] = flat_tensors(result)[:1]

    handle = model.get_submodule(name).register_forward_hook(keep)
    try:
        yield last
    finally:
        handle.remove()


class WithFeatures(nn.Module):
    """A network that also returns its features: ``(first output, features)``."""

    def __init__(self, network: nn.Module, name: str) -> None:
        """``name``: of the module that leaves the features."""
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, *inputs: Any, **named: Any) -> Tensors:
        """As the network's own."""
        with tapped(self.network, self.name) as last:
            answer = flat_tensors(self.network(*inputs, **named))[0]
            return answer, last[0]


def kept_features(features: torch.Tensor, places: Rows) -> torch.Tensor:
    """``(N, ...)`` to ``(N, KEPT_FEATURES)`` or fewer: those that are kept of the samples at these places of the training order.

    Of a larger network's so many are drawn, for each sample others.
    """
    flat = features.flatten(1)
    size = flat.shape[1]
    if size <= KEPT_FEATURES:
        return flat
    drawn = [np.random.default_rng((_SEED, place)).integers(0, size, KEPT_FEATURES) for place in places.tolist()]
    return flat.gather(1, torch.from_numpy(np.stack(drawn)))


def stored_features(features: torch.Tensor) -> np.ndarray[Any, Any]:
    """As they are stored: half as long."""
    limit = float(np.finfo(np.float16).max)
    return features.float().clamp(-limit, limit).numpy().astype(np.float16)


def comparable(model: nn.Module, original: nn.Module, context: Context) -> str | None:
    """The name of the module that leaves the network's features, where it can learn by them alone.

    That is, where they have the shape of the original's, and all that they do not depend on is as it is in the original. Else None.
    """
    ours, theirs = feature_module(model, context), feature_module(original, context)
    if ours is None or theirs is None:
        return None
    return ours if _anatomy(model, ours, context) == _anatomy(original, theirs, context) else None


def _anatomy(model: nn.Module, name: str, context: Context) -> tuple[torch.Size, dict[str, torch.Size]]:
    """The shape of the features, and of each parameter that they do not depend on."""
    with tapped(model, name) as last:
        _with_gradients(model, context)
    named = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
        last[0].sum(), [parameter for _, parameter in named], allow_unused=True
    )
    beside = {key: weights.shape for (key, weights), found in zip(named, gradients, strict=True) if found is None}
    return last[0].shape, beside


def unexplained(features: torch.Tensor, taught: torch.Tensor, places: Rows) -> torch.Tensor:
    """The share of the original's variance that the network's features leave unexplained, a scalar.

    Args:
        features: the network's, ``(N, ...)``.
        taught: what is kept of the original's, ``(N, KEPT_FEATURES)`` or fewer.
        places: of the samples in the training order.
    """
    distance = (kept_features(features.float(), places) - taught).square().mean()
    return distance / taught.var().clamp(min=1e-8)
