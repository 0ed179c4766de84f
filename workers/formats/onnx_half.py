"""ONNX networks in FP16 or BF16, with the inputs and outputs that they had.

Runtimes for GPUs execute the types that stand in the graph, and no others (TensorRT since 11: "strongly typed" networks). Which operator takes
half precision is what ONNX's own schemas say; around one that does not, values are converted. Weights beyond FP16's range become its
largest number: masks are often filled with the smallest FP32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.workers.formats.onnx_types import constants_as_weights, types
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import onnx

BF16_OPSET = 22
"""The first in which convolutions and recurrent cells take BF16."""
_LARGEST_FP16 = 65504.0
_BY_ATTRIBUTE = ("Cast", "ConstantOfShape")
"""Operators whose output has the type that an attribute names, and which are told another."""


def in_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The same network computing in half precision; the argument may be changed.

    Args:
        model: in FP32, its shapes static.
        precision: "fp16" or "bf16".

    Raises:
        StageError: UNSUPPORTED for control flow, and for what ONNX cannot type.
    """
    import onnx

    _require_plain(model)
    with refusing(f"the ONNX file cannot be converted to {precision}"):
        if precision == "bf16" and _opsets(model)[""] < BF16_OPSET:
            model = onnx.version_converter.convert_version(model, BF16_OPSET)
        made = _Conversion(model, onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16).made()
        return onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)


def _require_plain(model: onnx.ModelProto) -> None:
    import onnx

    graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    inner = [node.op_type for node in model.graph.node if any(each.type in graphs for each in node.attribute)]
    if inner or model.functions:
        what = inner[0] if inner else model.functions[0].name
        message = f"the ONNX file has graphs within the graph ({what}), which are not converted to half precision"
        raise unsupported(message)


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {each.domain.removesuffix("ai.onnx"): each.version for each in model.opset_import}


class _Conversion:
    """One walk through the nodes, which are in the order in which they run."""

    def __init__(self, model: onnx.ModelProto, half: int) -> None:
        import onnx

        self._model, self._half, self._opsets = model, half, _opsets(model)
        constants_as_weights(model.graph)
        self._types = types(model)
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._results = {value.name for value in model.graph.output}
        self._float = onnx.TensorProto.FLOAT
        self._in: dict[tuple[str, int], str] = {}
        """What a value is called in a type that it did not have."""
        self._now: dict[str, int] = {}
        """The floats' types by now."""
        self._nodes: list[Any] = []
        self._made: list[Any] = []

    def made(self) -> onnx.ModelProto:
        """The converted network."""
        graph = self._model.graph
        self._now |= {value.name: self._float for value in graph.input if self._is_float(value.name)}
        for node in graph.node:
            self._convert(node)
        used = {name for node in self._nodes for name in node.input} | self._results
        weights = [tensor for tensor in (*graph.initializer, *self._made) if tensor.name in used]
        for field, values in (("node", self._nodes), ("initializer", weights), ("value_info", [])):
            graph.ClearField(field)
            getattr(graph, field).extend(values)
        return self._model

    def _is_float(self, name: str) -> bool:
        return bool(self._types.get(name) == self._float)

    def _convert(self, node: Any) -> None:
        takes, gives = self._halves(node)
        node.input[:] = [
            self._as(name, self._half if takes(index) else self._float) if self._is_float(name) else name
            for index, name in enumerate(node.input)
        ]
        self._nodes.append(node)
        if node.op_type in _BY_ATTRIBUTE:
            self._retype(node)
        for index, name in enumerate(node.output):
            if not self._is_float(name):
                continue
            self._now[name] = self._half if gives(index) else self._float
            if name in self._results and self._now[name] == self._half:
                # The result keeps its name and type; whoever else reads it reads what it is made from.
                node.output[index] = self._in[name, self._half] = f"{name}_half"
                self._in[name, self._float] = name
                self._nodes.append(self._cast(f"{name}_half", name, self._float))

    def _halves(self, node: Any) -> tuple[Any, Any]:
        """Which of its inputs, and of its outputs, may be half precision, by index."""
        import onnx

        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            return (lambda _: False), (lambda _: False)
        named = {each.name: each for each in node.attribute}
        if "dtype" in named:
            return (lambda _: False), (lambda _: False)
        allowed = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
        name = "tensor(float16)" if self._half == onnx.TensorProto.FLOAT16 else "tensor(bfloat16)"

        def by(formals: Any) -> Any:
            def may(index: int) -> bool:
                told = str(formals[min(index, len(formals) - 1)].type_str)  # the last one may stand for many
                return name in allowed.get(told, {told})

            return may

        return by(schema.inputs), by(schema.outputs)

    def _as(self, name: str, wanted: int) -> str:
        """The value's name in a type; made where there is none yet."""
        if name in self._weights:
            return name if wanted == self._float else self._weight(name)
        if self._now[name] == wanted and (name, wanted) not in self._in:
            return name
        if (name, wanted) not in self._in:
            self._in[name, wanted] = f"{name}_{'float' if wanted == self._float else 'half'}"
            self._nodes.append(self._cast(name, self._in[name, wanted], wanted))
        return self._in[name, wanted]

    def _weight(self, name: str) -> str:
        import onnx

        if (name, self._half) not in self._in:
            self._in[name, self._half] = f"{name}_half"
            array = onnx.numpy_helper.to_array(self._weights[name])
            self._made.append(_half_tensor(f"{name}_half", array, self._half))
        return self._in[name, self._half]

    def _cast(self, name: str, made: str, to: int) -> Any:
        import onnx

        return onnx.helper.make_node("Cast", [name], [made], name=f"{made}_cast", to=to)

    def _retype(self, node: Any) -> None:
        import onnx

        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == self._float:
                attribute.i = self._half
            if attribute.name == "value" and attribute.t.data_type == self._float:
                attribute.t.CopyFrom(_half_tensor("", onnx.numpy_helper.to_array(attribute.t), self._half))


def _half_tensor(name: str, array: np.ndarray, half: int) -> Any:
    import onnx

    if half == onnx.TensorProto.FLOAT16:
        finite = np.where(np.isfinite(array), np.clip(array, -_LARGEST_FP16, _LARGEST_FP16), array)
        return onnx.numpy_helper.from_array(finite.astype(np.float16), name)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
    return onnx.helper.make_tensor(name, half, array.shape, rounded.astype(np.uint16).tobytes(), raw=True)
