"""PyTorch to StableHLO, its weights in it as constants.

litert-torch lowers what ``torch.export`` gives. The weights become the program's arguments there and constants here: its own way of
writing them knows no bfloat16, and makes the lowest float of a mask's minus infinity. XLA folds what depends on constants alone and
lays kernels out as its convolutions want them, which it would do in every call with arguments: a ResNet-18 of 224 × 224 took
67 ms instead of 125.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.workers.quiet import quiet

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_PRODUCTS = frozenset({"stablehlo.convolution", "stablehlo.dot_general"})


def export_stablehlo(module: nn.Module, inputs: tuple[Tensor, ...], *, highest: bool = False) -> bytes:
    """Lower a network that takes and returns tensors by position.

    Args:
        module: in eval mode.
        inputs: examples of its inputs, (batch, ...); their shapes become static.
        highest: whether products are asked for in the full precision of their type (a GPU's default is TF32).

    Returns:
        StableHLO as a portable artifact, which versions of XLA some months older and some years newer can read. It takes the
        inputs in order.

    Raises:
        Exception: whatever the exporter raises for what it does not know; it has no type of its own.
    """
    # Read when the libraries are imported: lines on stderr that say which kernels of TensorFlow's would be used.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with quiet("torch"), quiet("torchao"):
        lowered = _lower(module, inputs)
        _write_constants(lowered)
        if highest:
            _ask_for_highest(lowered)
        return _portable(lowered)


def Cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:  # noqa: N802 (makes a module, and reads like one)
    """The network computing in ``dtype``, between floating-point inputs and outputs that are float32."""
    import torch
    from torch import nn

    class _Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module.to(dtype)

        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            outputs = self.network(*[_cast(tensor, dtype) for tensor in inputs])
            return tuple(
                _cast(tensor, torch.float32) for tensor in (outputs if isinstance(outputs, tuple) else [outputs])
            )

    return _Cast().eval()


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _lower(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """litert-torch's ``MlirLowered``: the program, and which of its arguments are weights."""
    import torch
    from litert_torch.backend.export import exported_program_to_mlir

    with torch.no_grad():
        exported = torch.export.export(module, inputs, strict=False)
        return exported_program_to_mlir(exported, inline_constants=False)


def _write_constants(lowered: Any) -> None:
    """Replace the program's arguments that are weights, which come first, by constants."""
    from litert_converter.mlir import ir
    from litert_converter.mlir.dialects import stablehlo

    main = next(function for function in lowered.module.body.operations if function.name.value == "main")
    (block,) = main.regions[0].blocks
    names = [argument.input_spec.name for argument in lowered.input_signature if argument.input_spec.is_parameter]
    with lowered.ctx, ir.Location.unknown():
        for name, argument in zip(names, list(block.arguments), strict=False):
            values = _elements(lowered.state_dict[name], ir.RankedTensorType(argument.type))
            with ir.InsertionPoint.at_block_begin(block):
                constant = stablehlo.ConstantOp(values)
            argument.replace_all_uses_with(constant.result)
        for index in reversed(range(len(names))):
            block.erase_argument(index)
        types = [argument.type for argument in block.arguments]
        main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, main.type.results))
        lowered.module.operation.verify()


def _elements(weight: Tensor, kind: Any) -> Any:
    """The values of a weight as an attribute of that tensor type."""
    import torch
    from litert_converter.mlir import ir

    values = weight.detach().contiguous()
    if values.dtype == torch.bool:
        return ir.DenseElementsAttr.get(values.numpy())
    # By their bytes: numpy has no bfloat16, and no integers without a sign or without the lack of one.
    return ir.DenseElementsAttr.get(np.atleast_1d(values.reshape(-1).view(torch.uint8).numpy()), type=kind)


def _ask_for_highest(lowered: Any) -> None:
    from litert_converter.mlir import ir

    def visit(operation: Any) -> Any:
        if operation.name in _PRODUCTS:
            operation.attributes["precision_config"] = both
        return ir.WalkResult.ADVANCE

    with lowered.ctx:
        both = ir.ArrayAttr.get([ir.Attribute.parse("#stablehlo<precision HIGHEST>")] * 2)
        lowered.module.operation.walk(visit)


def _portable(lowered: Any) -> bytes:
    from jaxlib.mlir.dialects import stablehlo
    from litert_converter.mlir import passmanager

    with lowered.ctx:  # where the network's lines stand in its author's files
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(lowered.module.operation)
    requirement = stablehlo.StablehloCompatibilityRequirement.WEEK_12
    version = stablehlo.get_version_from_compatibility_requirement(requirement)
    artifact = stablehlo.serialize_portable_artifact_str(lowered.module_bytecode, version)
    assert isinstance(artifact, bytes)
    return artifact
