"""ONNX Runtime's own static quantizer, which works on files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from autoopt.workers.quiet import silent
from autoopt.workers.refusal import refusing, unsupported
from autoopt.workers.techniques._graphs import Graph

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Facts

Batch = dict[str, np.ndarray[Any, Any]]


def quantized(model: onnx.ModelProto, batches: list[Batch]) -> tuple[onnx.ModelProto, Facts]:
    """The network with QuantizeLinear/DequantizeLinear pairs around what ONNX Runtime has INT8 kernels for.

    Ranges are the calibration's minima and maxima. Activations are unsigned: next to signed ones ONNX Runtime falls back to convolutions in FP32.

    Args:
        model: the network.
        batches: inputs by name, (batch, *shape) each.

    Raises:
        StageError: UNSUPPORTED where it cannot take the graph, or finds nothing to quantize.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # untyped
        def __init__(self) -> None:
            self._left: Iterator[Batch] = iter(batches)

        def get_next(self) -> Batch | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder, silent(), refusing("ONNX Runtime cannot quantize this network"):
        given, prepared, after = (Path(folder, name) for name in ("given.onnx", "prepared.onnx", "after.onnx"))
        onnx.save(model, given)
        # Fuses what kernels take in one, so that no quantizer stands in between.
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            after,
            _Reader(),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        result = onnx.load(after)
    quantizers = Graph.of(result).operations()["QuantizeLinear"]
    if not quantizers:
        message = "ONNX Runtime found no operation to quantize in this network"
        raise unsupported(message)
    return result, {"quantizers": quantizers}
