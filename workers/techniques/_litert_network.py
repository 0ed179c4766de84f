"""What LiteRT's quantizer is given: the operations of a flatbuffer, and which of them it must leave alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from autoopt.workers.engines.litert_graph import Operation, Tensor, operations
from autoopt.workers.refusal import refusing

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

Ranges: TypeAlias = dict[str, Any]
"""What the quantizer knows of each tensor, by name: its least and greatest value."""

SIGNATURE = "serving_default"
PRODUCTS = ("FULLY_CONNECTED", "BATCH_MATMUL", "EMBEDDING_LOOKUP")
# What is further from zero masks something out (-1e9, minus infinity). In 256 steps of such a range nothing else could be told apart.
_MASK = 1e3


@dataclass(frozen=True)
class Network:
    """A flatbuffer, and what is in it. Operations go by their scopes."""

    content: bytes
    operations: tuple[Operation, ...]
    outputs: frozenset[int]
    """The numbers of the tensors that it returns."""
    masks: frozenset[int]
    """The numbers of the constants that mask something out."""

    @classmethod
    def of(cls, content: bytes) -> Network:
        """Read it.

        Raises:
            StageError: UNSUPPORTED where LiteRT cannot.
        """
        interpreter = opened(content)
        with refusing("LiteRT cannot run this network"):
            interpreter.allocate_tensors()
        found = operations(interpreter)
        constants = {t.number for each in found for t in each.operands if t.constant and t.type == "float32"}
        masks = {number for number in constants if np.abs(interpreter.get_tensor(number)).max(initial=0.0) > _MASK}
        outputs = {each["index"] for each in interpreter.get_output_details()}
        return cls(content, found, frozenset(outputs), frozenset(masks))

    def unfit(self, ranges: Ranges) -> set[str]:
        """What must not be quantized statically."""
        used = {operand.number for each in self.operations for operand in each.operands}
        returned = self.outputs & used
        return {
            scope(each)
            for each in self.operations
            if _has_computed_weights(each)
            # Of a tensor that is returned and used as well, caller and users would be given the same conversion.
            or any(tensor.number in returned for tensor in (*each.operands, *each.results))
            or not all(self._has_range(tensor, ranges) for tensor in (*each.operands, *each.results))
        }

    def _has_range(self, tensor: Tensor, ranges: Ranges) -> bool:
        """Whether INT8 can tell its values apart."""
        if tensor.constant or tensor.type != "float32":
            return tensor.number not in self.masks
        known = ranges.get(tensor.name)
        return known is not None and bool(max(-known["min"].min(), known["max"].max()) <= _MASK)

    def has_attention(self) -> bool:
        """Whether softmaxes lie between products of activations, by count."""
        softmax = sum(each.name == "SOFTMAX" for each in self.operations)
        products = sum(each.name in PRODUCTS and len(each.variables) > 1 for each in self.operations)
        return softmax > 0 and products >= 2 * softmax


def _has_computed_weights(operation: Operation) -> bool:
    """Of a fully connected layer whose weights are computed, the quantizer makes one that no kernel takes."""
    return operation.name == "FULLY_CONNECTED" and len(operation.variables) > 1


def scope(operation: Operation) -> str:
    """What the quantizer calls an operation by."""
    return "".join(f"{result.name};" for result in operation.results)


def inputs(interpreter: Interpreter) -> list[dict[str, Any]]:
    """What is known of each input, in the network's order."""
    numbers = interpreter._get_full_signature_list()[SIGNATURE]["inputs"]  # noqa: SLF001 (the public one has no numbers)
    details = {each["index"]: each for each in interpreter.get_input_details()}
    return [details[numbers[f"args_{index}"]] for index in range(len(numbers))]


def opened(content: bytes) -> Interpreter:
    """An interpreter of it, without memory for its tensors yet."""
    from ai_edge_litert.interpreter import Interpreter

    with refusing("LiteRT cannot read this network"):
        return Interpreter(model_content=content)
