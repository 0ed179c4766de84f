"""PyTorch to LiteRT's flatbuffer, with a static batch: torch.export, then MLIR (litert-torch).

Its inputs are called ``args_0``, … and its outputs ``output_0``, …, in order, whatever the signature calls them. 64-bit inputs, outputs
and constants become 32-bit ones: LiteRT's kernels have few for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.formats.modules import Positional, call_module, example_inputs
from autoopt.workers.quiet import silent
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    from torch import nn

    from autoopt.records import Signature
    from autoopt.workers.engines.base import Source


def export_litert(module: nn.Module, signature: Signature, batch: int) -> bytes:
    """The flatbuffer of the network with inputs ``(batch, *shape)``.

    Raises:
        StageError: UNSUPPORTED with the converter's reason.
    """
    import torch

    inputs = example_inputs(signature, batch)
    with refusing("the network does not run on its example input"), torch.inference_mode():
        call_module(module, inputs, signature)
    with refusing("the network cannot be converted to LiteRT"), silent():  # it tells of every step
        content: bytes = _converter().convert(Positional(module, signature), inputs).model_content()
    return content


def _converter() -> Any:
    try:
        import litert_torch
    except ImportError as error:
        message = f"networks are converted to LiteRT by litert-torch ({error}): pip install 'autoopt[litert]'"
        raise unsupported(message) from error
    return litert_torch


def require_batch(source: Source, batch: int) -> None:
    """See that the flatbuffer's inputs are ``(batch, *shape)``; its batch cannot be changed any more.

    Raises:
        StageError: UNSUPPORTED where they are not.
    """
    from ai_edge_litert.interpreter import Interpreter

    from autoopt.workers.formats.files import load

    with refusing("LiteRT cannot read the network"):
        given = [tuple(map(int, each["shape"])) for each in Interpreter(model_content=load(source)).get_input_details()]
    wanted = [(batch, *spec.shape) for spec in source.signature.tensors]
    if sorted(given) != sorted(wanted):
        message = f"the LiteRT network takes inputs of {given}, not {wanted}; convert the original with this batch"
        raise unsupported(message)
