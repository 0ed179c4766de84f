"""What LiteRT executes: the operations of an open interpreter, their types, and which of them XNNPACK has taken over.

An interpreter lists the network's own operations and, behind them, one ``DELEGATE`` for each part that XNNPACK runs in their stead.
Which operations that are it does not say; but they are those from which the part's outputs are computed without its inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

_DELEGATE = "DELEGATE"
_COMPUTE = frozenset(
    {
        "BATCH_MATMUL",
        "CONV_2D",
        "CONV_3D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }
)
_PRECISIONS = {"float32": "fp32", "float16": "fp16"}


@dataclass(frozen=True)
class Tensor:
    """An operand or a result of an operation."""

    number: int
    name: str
    type: str
    """``float32``, …"""
    constant: bool
    """Whether it is the same for every input: weights, biases, shapes."""


@dataclass(frozen=True)
class Operation:
    """One operation of the network."""

    name: str
    """``CONV_2D``, …"""
    operands: tuple[Tensor, ...]
    results: tuple[Tensor, ...]
    delegated: bool
    """Whether XNNPACK runs it."""

    @property
    def precision(self) -> str | None:
        """What it computes in, if it has weights: "int8", "int8_dynamic" (INT8 weights alone), "fp32", …

        None for a product of activations (attention's scores), in which no quantizer of weights could change anything.
        """
        if self.name not in _COMPUTE or len(self.variables) != 1:
            return None
        (activations,) = self.variables
        if activations.type == "float32" and self.quantized:
            return "int8_dynamic"
        return _PRECISIONS.get(activations.type, activations.type)

    @property
    def variables(self) -> tuple[Tensor, ...]:
        """The operands that are computed."""
        return tuple(operand for operand in self.operands if not operand.constant)

    @property
    def quantized(self) -> bool:
        """Whether it has an operand in INT8."""
        return any(operand.type == "int8" for operand in self.operands)


def operations(interpreter: Interpreter) -> tuple[Operation, ...]:
    """The network's operations in the order in which they are computed; the interpreter has its tensors allocated."""
    nodes = [_Node.of(each) for each in interpreter._get_ops_details()]  # noqa: SLF001 (there is no other way to them)
    own = [node for node in nodes if node.name != _DELEGATE]
    delegated = _delegated(own, [node for node in nodes if node.name == _DELEGATE])
    variable = _variables(own, {each["index"] for each in interpreter.get_input_details()})
    tensors = {
        each["index"]: Tensor(
            each["index"], each["name"], np.dtype(each["dtype"]).name, constant=each["index"] not in variable
        )
        for each in interpreter.get_tensor_details()
    }
    return tuple(
        Operation(
            node.name,
            tuple(tensors[number] for number in node.operands),
            tuple(tensors[number] for number in node.results),
            delegated=index in delegated,
        )
        for index, node in enumerate(own)
    )


def precisions(found: tuple[Operation, ...]) -> dict[str, int]:
    """The operations with weights, counted by the precision that they compute in."""
    return dict(Counter(each.precision for each in found if each.precision is not None))


@dataclass(frozen=True)
class _Node:
    name: str
    operands: tuple[int, ...]
    results: tuple[int, ...]

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> _Node:
        """Without the operands that are left out, which have the number -1."""
        operands, results = (tuple(int(t) for t in details[side] if t >= 0) for side in ("inputs", "outputs"))
        return cls(details["op_name"], operands, results)


def _delegated(own: list[_Node], parts: list[_Node]) -> set[int]:
    producer = {tensor: index for index, node in enumerate(own) for tensor in node.results}
    found: set[int] = set()
    for part in parts:
        waiting = list(part.results)
        while waiting:
            index = producer.get(waiting.pop())
            if index is not None and index not in found:
                found.add(index)
                waiting += [tensor for tensor in own[index].operands if tensor not in part.operands]
    return found


def _variables(own: list[_Node], inputs: set[int]) -> set[int]:
    """The tensors that depend on the network's inputs. Weights that are unpacked when they are used do not."""
    found = set(inputs)
    for node in own:
        if found.intersection(node.operands):
            found.update(node.results)
    return found
