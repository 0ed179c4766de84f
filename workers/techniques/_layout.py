"""Images with their channels last in memory: training is a quarter faster that way.

Not for every network. In torch 2.13 the gradient of a strided 1×1 convolution in this layout writes beyond its buffers where the
input has fewer channels than a vector register has lanes (the process aborts, or goes on with a damaged heap; found with glibc's
malloc checks on an AVX2 machine at 4, 6 and 7 channels; 8, 9, 12, 16 and 20 are clean). Pruned shortcuts are exactly that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from autoopt.records import Signature
from autoopt.records.environment import cpu_flags
from autoopt.workers.techniques._network import Tensors

IMAGE_DIMENSIONS = 4
"""(N, C, H, W)"""
LANES, WIDE_LANES = 8, 16
"""float32 values in a register of AVX2 and of AVX-512."""


@contextmanager
def channels_last(model: nn.Module, signature: Signature) -> Iterator[bool]:
    """Lay the network's weights out with the channels last, where that is safe and its inputs are images.

    Yields whether it was done (then inputs go through `laid_out`). Afterwards the weights lie as they did.
    """
    images = any(len(tensor.shape) + 1 == IMAGE_DIMENSIONS for tensor in signature.tensors) and is_safe(model)
    if images:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's hints
    try:
        yield images
    finally:
        if images:
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # likewise


def laid_out(inputs: Tensors, *, images: bool) -> Tensors:
    """The same tensors; where ``images``, those of four dimensions with the channels last in memory."""
    if not images:
        return inputs
    return tuple(
        tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == IMAGE_DIMENSIONS else tensor
        for tensor in inputs
    )


def is_safe(model: nn.Module) -> bool:
    """Whether no strided 1×1 convolution has fewer input channels than a register has lanes."""
    lanes = WIDE_LANES if "avx512f" in cpu_flags() else LANES
    return not any(
        isinstance(layer, nn.Conv2d)
        and set(layer.kernel_size) == {1}
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < lanes
        for layer in model.modules()
    )
