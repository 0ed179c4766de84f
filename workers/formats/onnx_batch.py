"""ONNX files with the batch fixed to a number.

A task's own file often has a symbolic batch ("N") or the 1 of the example that it was exported with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import onnx

    from autoopt.records import Signature


def with_batch(model: onnx.ModelProto, signature: Signature, batch: int) -> onnx.ModelProto:
    """The same network whose inputs have the shapes ``(batch, *shape)`` of the signature; the argument may be changed.

    Raises:
        StageError: UNSUPPORTED where the file has another batch baked into its graph, or other inputs.
    """
    import onnx

    inputs = {value.name: value for value in graph_inputs(model)}
    for spec in signature.tensors:
        if spec.name not in inputs:
            message = f"the ONNX file has no input {spec.name!r}; its inputs are {', '.join(inputs)}"
            raise unsupported(message)
        _set_shape(inputs[spec.name], (batch, *spec.shape))
    del model.graph.value_info[:]  # shapes inferred for another batch would contradict the new ones
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    with refusing(f"the ONNX file cannot take batch {batch}"):
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    _require_batch(inferred, batch)
    return inferred


def graph_inputs(model: onnx.ModelProto) -> list[Any]:
    """The inputs proper: old files list their weights among the inputs too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def has_batch(model: onnx.ModelProto, signature: Signature, batch: int) -> bool:
    """Whether every input already has exactly the static shape that is wanted."""
    wanted = {spec.name: [batch, *spec.shape] for spec in signature.tensors}
    return wanted == {value.name: _shape(value) for value in graph_inputs(model)}


def _shape(value: Any) -> list[int | None]:
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]


def _set_shape(value: Any, shape: tuple[int, ...]) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) not in (0, len(shape)):
        message = f"the ONNX file's input {value.name!r} has {len(dims)} dimensions; the data has {len(shape)}"
        raise unsupported(message)
    del dims[:]
    for size in shape:
        dims.add().dim_value = size


def _require_batch(model: onnx.ModelProto, batch: int) -> None:
    first = model.graph.output[0]
    leading = _shape(first)[:1]
    if leading and leading[0] not in (None, batch):
        reason = f"its output {first.name!r} keeps {leading[0]} samples"
        message = f"the ONNX file cannot take batch {batch}: {reason}; export it with a dynamic batch"
        raise unsupported(message)
