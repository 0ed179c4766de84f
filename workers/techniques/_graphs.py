"""ONNX and OpenVINO graphs seen alike: their inputs with static shapes, and which operations they hold."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import FailureKind, StageError
from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques.base import Context

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Graph:
    """A network in one of the two formats."""

    format: str
    model: Any

    @classmethod
    def of(cls, model: Any) -> Graph:
        """Tell the format by the object's own type, without importing the other library."""
        return cls("openvino" if type(model).__module__.startswith("openvino") else "onnx", model)

    def batch(self, context: Context) -> int:
        """The static batch.

        Raises:
            StageError: UNSUPPORTED where it is not static.
        """
        found = self._openvino_batch() if self.format == "openvino" else _onnx_batch(self.model, context)
        if found is None or found < 1:
            message = "the network has no static batch: convert it with formats.convert(..., batch=...) first"
            raise unsupported(message)
        return found

    def operations(self) -> Counter[str]:
        """How many nodes there are of each type, functions and branches not entered."""
        if self.format == "openvino":
            return Counter(node.get_type_name() for node in self.model.get_ops())
        return Counter(node.op_type for node in self.model.graph.node)

    def has_attention(self) -> bool:
        """Whether a softmax lies between two products of activations, by count: what a head's attention consists of."""
        operations = self.operations()
        fused = operations["ScaledDotProductAttention"] + operations["Attention"] + operations["MultiHeadAttention"]
        softmax = operations["Softmax"]
        return fused > 0 or (softmax > 0 and operations["MatMul"] >= 2 * softmax)

    def _openvino_batch(self) -> int | None:
        shape = self.model.inputs[0].partial_shape
        return int(shape[0].get_length()) if shape.rank.get_length() and shape[0].is_static else None


def rebatched(graph: Graph, batch: int, context: Context) -> Graph | None:
    """A copy of the network with another static batch; None where its batch is baked in."""
    from autoopt.workers import formats

    with tempfile.TemporaryDirectory(prefix="autoopt-batch-") as folder:
        source = formats.save(graph.model, graph.format, Path(folder) / "given", context.signature)
        try:
            changed = formats.convert(source, graph.format, batch, Path(folder) / "changed")
        except StageError as error:
            if error.kind is not FailureKind.UNSUPPORTED:
                raise
            return None
        # OpenVINO maps the weights' file: its pages outlive the folder.
        return Graph(graph.format, formats.load(changed))


def _onnx_batch(model: onnx.ModelProto, context: Context) -> int | None:
    name = context.signature.tensors[0].name
    for given in model.graph.input:
        if given.name == name and given.type.tensor_type.shape.dim:
            return int(given.type.tensor_type.shape.dim[0].dim_value)
    return None
