"""PyTorch to ONNX, with a static batch.

Two exporters know different networks: the TorchScript one is quick and needs nothing else, the newer one (``torch.export``)
understands control flow that tracing does not. The second is tried where the first fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoopt.errors import StageError
from autoopt.workers.formats.files import ONNX_FILE, ONNX_SINGLE_FILE_BYTES
from autoopt.workers.formats.modules import Positional, call_module, example_inputs
from autoopt.workers.quiet import quiet
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from autoopt.records import Signature

OPSET = 18
"""Has LayerNormalization (17) and is understood by every engine and quantizer here."""


def export_onnx(module: nn.Module, signature: Signature, batch: int, folder: Path) -> None:
    """Write ``model.onnx`` whose inputs are named as in the signature and whose outputs are ``output_0``, ….

    Raises:
        StageError: UNSUPPORTED with the reasons of both exporters.
    """
    inputs = example_inputs(signature, batch)
    with refusing("the network does not run on its example input"):
        outputs = _count_outputs(module, inputs, signature)
    wrapped = Positional(module, signature)
    reasons = []
    for name, export in (("TorchScript exporter", _trace), ("torch.export exporter", _graph)):
        try:
            with refusing(name), quiet("torch.onnx"):
                export(wrapped, inputs, signature, outputs, folder)
        except StageError as error:
            reasons.append(error.message)
        else:
            return
    message = f"the network cannot be exported to ONNX ({'; '.join(reasons)})"
    raise unsupported(message)


def _count_outputs(module: nn.Module, inputs: tuple[Tensor, ...], signature: Signature) -> int:
    import torch

    with torch.inference_mode():
        return len(call_module(module, inputs, signature))


def _trace(module: nn.Module, inputs: tuple[Tensor, ...], signature: Signature, outputs: int, folder: Path) -> None:
    import torch

    torch.onnx.export(
        module,
        inputs,
        str(folder / ONNX_FILE),
        dynamo=False,
        opset_version=OPSET,
        input_names=[spec.name for spec in signature.tensors],
        output_names=_output_names(outputs),
    )


def _graph(module: nn.Module, inputs: tuple[Tensor, ...], signature: Signature, outputs: int, folder: Path) -> None:
    import torch

    weights_bytes = sum(weight.nbytes for weight in module.state_dict().values())
    torch.onnx.export(
        module,
        inputs,
        folder / ONNX_FILE,
        dynamo=True,
        opset_version=OPSET,
        input_names=[spec.name for spec in signature.tensors],
        output_names=_output_names(outputs),
        external_data=weights_bytes >= ONNX_SINGLE_FILE_BYTES,
        verbose=False,
    )


def _output_names(count: int) -> list[str]:
    return [f"output_{index}" for index in range(count)]
