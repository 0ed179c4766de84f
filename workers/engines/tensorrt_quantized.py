"""Quantized ONNX networks as TensorRT takes them: INT8 with zero points of zero, biases in floating point.

TensorRT's quantization is explicit (QuantizeLinear and DequantizeLinear stand in the graph) and symmetric (NVIDIA: "Working with Quantized
Types"). Quantizers for processors prefer unsigned activations with a zero point, and biases in INT32. A range with a zero point becomes the
symmetric one around it, which keeps what was calibrated and loses up to one bit; biases go back to the numbers that they stand for. Where a
range begins at zero, ONNX Runtime's quantizer has taken the ReLU before it away, for unsigned numbers cannot be negative: it is put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.workers.formats.onnx_types import constants_as_weights
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import onnx

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax"})
_LARGEST = 127


def symmetric(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with symmetric INT8; the argument may be changed.

    Raises:
        StageError: UNSUPPORTED for operators that quantize as they go, and for weights with a zero point.
    """
    import onnx

    with refusing("the quantized ONNX file cannot be made symmetric"):
        constants_as_weights(model.graph)
        made = _Symmetric(model).made()
        return onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)


class _Symmetric:
    """One walk through the quantizers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made: dict[str, Any] = {}

    def made(self) -> onnx.ModelProto:
        """The changed network."""
        graph, kept = self._model.graph, []
        makers = {name: node.op_type for node in graph.node for name in node.output}
        for node in graph.node:
            if node.op_type not in _QUANTIZERS:
                _require_explicit(node)
            elif self._is_bias(node):
                self._fold(node)
                continue
            else:
                cut = self._begins_at_zero(node) and makers.get(node.input[0]) not in _NEVER_NEGATIVE
                if cut:
                    kept.append(_relu_before(node))
                self._center(node)
            kept.append(node)
        used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
        weights = [tensor for name, tensor in (self._weights | self._made).items() if name in used]
        for field, values in (("node", kept), ("initializer", weights), ("value_info", [])):
            graph.ClearField(field)
            getattr(graph, field).extend(values)
        return self._model

    def _array(self, name: str) -> np.ndarray:
        import onnx

        if name not in self._weights:
            message = f"the scale or zero point {name!r} is computed, not a constant"
            raise unsupported(message)
        return np.asarray(onnx.numpy_helper.to_array(self._weights[name]))

    def _is_bias(self, node: Any) -> bool:
        return node.input[0] in self._weights and self._array(node.input[0]).dtype == np.int32

    def _zero_point(self, node: Any) -> np.ndarray:
        """By ONNX, one that is not given is an unsigned zero."""
        return self._array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros((), np.uint8)  # noqa: PLR2004 (its place)

    def _begins_at_zero(self, node: Any) -> bool:
        zero = self._zero_point(node)
        return node.op_type == "QuantizeLinear" and bool((zero == np.iinfo(zero.dtype).min).all())

    def _fold(self, node: Any) -> None:
        import onnx

        numbers = self._array(node.input[0]).astype(np.float32) * self._array(node.input[1])
        self._made[node.output[0]] = onnx.numpy_helper.from_array(numbers.astype(np.float32), node.output[0])

    def _center(self, node: Any) -> None:
        zero, scale = self._zero_point(node), self._array(node.input[1])
        if zero.dtype == np.int8 and not zero.any():
            return
        if node.input[0] in self._weights:
            message = f"the weights {node.input[0]!r} are quantized with a zero point, which TensorRT does not take"
            raise unsupported(message)
        limits = np.iinfo(zero.dtype)
        reach = np.maximum(int(limits.max) - zero.astype(np.int64), zero.astype(np.int64) - int(limits.min))
        del node.input[1:]
        node.input.extend(self._constants((reach * scale / _LARGEST).astype(np.float32)))

    def _constants(self, scale: np.ndarray) -> tuple[str, str]:
        """Names of a scale and of its zero point, the same for equal ones."""
        import onnx

        place = f"symmetric_{scale.tobytes().hex()}"
        zero = np.zeros(scale.shape, np.int8)
        for name, array in ((f"{place}_scale", scale), (f"{place}_zero", zero)):
            self._made.setdefault(name, onnx.numpy_helper.from_array(array, name))
        return f"{place}_scale", f"{place}_zero"


def _relu_before(node: Any) -> Any:
    import onnx

    name = f"{node.output[0]}_cut"
    relu = onnx.helper.make_node("Relu", [node.input[0]], [name], name=name)
    node.input[0] = name
    return relu


def _require_explicit(node: Any) -> None:
    if node.op_type.endswith("Integer") or node.op_type.startswith(("Dynamic", "QLinear")):
        message = f"TensorRT takes QuantizeLinear and DequantizeLinear, not {node.op_type}"
        raise unsupported(message)
