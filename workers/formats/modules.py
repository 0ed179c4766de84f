"""A PyTorch network seen as a function of tensors in order, whatever its ``forward`` looks like.

Networks take one tensor, several, or keywords, and return a tensor, nested tuples (recurrent cells) or a mapping (Hugging Face).
Exporters, tracers and engines want positional tensors in and a flat tuple of tensors out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoopt.records import Signature


def call_module(module: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> tuple[Tensor, ...]:
    """Call the network the way its signature says.

    Args:
        module: the network.
        inputs: a tensor for each of the signature's, in its order, ``(batch, *shape)``.
        signature: "dict" passes the tensors by keyword, anything else by position.

    Returns:
        The outputs as a flat tuple; see `flat_tensors`.
    """
    if signature.structure == "dict":
        names = (spec.name for spec in signature.tensors)
        return flat_tensors(module(**dict(zip(names, inputs, strict=True))))
    return flat_tensors(module(*inputs))


def flat_tensors(outputs: Any) -> tuple[Tensor, ...]:
    """Every tensor in a network's outputs, depth first; what is no tensor (None, a loss of 0.0) is left out."""
    from torch import Tensor

    if isinstance(outputs, Tensor):
        return (outputs,)
    if isinstance(outputs, Mapping):
        outputs = tuple(outputs.values())
    if not isinstance(outputs, tuple | list):
        return ()
    return tuple(tensor for output in outputs for tensor in flat_tensors(output))


def example_inputs(signature: Signature, batch: int) -> tuple[Tensor, ...]:
    """Inputs to trace with: normal floats (the same in every process), and ones elsewhere.

    One is a token, a mask, a segment and a length that nearly every network takes; zero would be none of the last.
    """
    import torch

    generator = torch.Generator().manual_seed(0)

    def tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(dtype)
        return torch.ones(shape, dtype=dtype)

    return tuple(tensor((batch, *spec.shape), getattr(torch, spec.dtype)) for spec in signature.tensors)


def Positional(module: nn.Module, signature: Signature) -> nn.Module:  # noqa: N802 (makes a module, and reads like one)
    """The network with ``forward(*tensors) -> tensor or flat tuple``: what tracers and exporters take."""
    from torch import nn

    class _Positional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
            outputs = call_module(self.network, inputs, signature)
            return outputs[0] if len(outputs) == 1 else outputs

    return _Positional().eval()
