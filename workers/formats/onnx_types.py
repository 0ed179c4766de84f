"""The types of an ONNX network's values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from autoopt.workers.refusal import unsupported

if TYPE_CHECKING:
    import onnx

_COMPUTE = frozenset({"Attention", "Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})


def types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value.

    Raises:
        StageError: UNSUPPORTED for a value that has none, or is no tensor.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        found[value.name] = value.type.tensor_type.elem_type
    for name in _outputs(inferred):
        if not found.get(name):
            message = f"the ONNX file does not say of which type {name!r} is"
            raise unsupported(message)
    return found


def _outputs(graph: Any) -> Iterator[str]:
    return (name for node in graph.node for name in node.output if name)


def constants_as_weights(graph: Any) -> None:
    """Constant nodes become initializers, which have one form only."""
    import onnx

    kept = []
    for node in graph.node:
        value = next((each.t for each in node.attribute if node.op_type == "Constant" and each.name == "value"), None)
        if value is None:
            kept.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    graph.ClearField("node")
    graph.node.extend(kept)


def compute_types(model: onnx.ModelProto) -> dict[str, int]:
    """The nodes that compute the network (convolutions, matrix products, recurrent cells), by the precision of their first input."""
    import onnx

    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.BFLOAT16: "bf16"}
    known = types(model)
    found = (known.get(node.input[0]) for node in model.graph.node if node.op_type in _COMPUTE)
    return dict(Counter(names[each] for each in found if each in names))
