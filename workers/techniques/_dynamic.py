"""ONNX Runtime's dynamic quantizer, which works on files."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques._graphs import Graph

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Facts

PRODUCTS = ("MatMul", "Gemm", "LSTM", "Attention", "EmbedLayerNormalization")
INTEGER = (
    "MatMulInteger",
    "ConvInteger",
    "DynamicQuantizeLSTM",
    "QAttention",
    "QEmbedLayerNormalization",
    "MatMulIntegerToFloat",
)


def quantized(model: onnx.ModelProto, *, convolutions: bool, per_channel: bool) -> tuple[onnx.ModelProto, Facts]:
    """The network with integer products.

    Raises:
        StageError: UNSUPPORTED where none of its operations can be quantized.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        target = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=[*PRODUCTS, *(["Conv"] if convolutions else [])],
            per_channel=per_channel,
            # ConvInteger exists for unsigned weights only; for products signed ones are the quicker kernels.
            weight_type=QuantType.QUInt8 if convolutions else QuantType.QInt8,
        )
        result = onnx.load(target)
    operations = Graph.of(result).operations()
    count = sum(operations[name] for name in INTEGER)
    if not count:
        present = ", ".join(sorted(operations))
        message = f"nothing to quantize dynamically: the network's operations are {present}"
        raise unsupported(message)
    return result, {"quantized": count}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns on the root logger that no preprocessing was done
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
