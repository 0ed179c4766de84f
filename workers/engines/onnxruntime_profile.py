"""What ONNX Runtime really executed, from its profiler's events: kernels, types and providers."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INT8 = frozenset({"QLinearConv", "QLinearMatMul", "QGemm", "QLinearConvTranspose", "NhwcQLinearConv"})
_INT8_DYNAMIC = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QEmbedLayerNormalization",
    }
)
_FLOAT = frozenset(
    {
        "Attention",
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GRU",
        "Gemm",
        "LSTM",
        "MatMul",
        "MultiHeadAttention",
        "NhwcFusedConv",
        "RNN",
    }
)
_PRODUCTS = frozenset({"FusedMatMul", "MatMul"})
_FLOAT_TYPES = {"float16": "fp16", "bfloat16": "bf16"}
_FLOATS = frozenset({"float", "double", *_FLOAT_TYPES})
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Profile:
    """What a run of a session does."""

    precisions: dict[str, int]
    """Compute nodes (convolutions, matrix products, recurrent cells) by the precision they executed in."""
    time: dict[str, float]
    """The share of the compute nodes' time that each precision has."""
    nodes: int
    """Kernels that ran."""
    providers: Mapping[str, int]
    """How many each execution provider ran."""
    on_processor: int
    """Those of floating-point tensors that the processor ran. Shapes, indices and single numbers it computes for a GPU too, on purpose."""


def read_profile(path: Path, runs: int) -> Profile:
    """Read the JSON file that `InferenceSession.end_profiling` names.

    Args:
        path: the file.
        runs: how often the session ran; the first time does not count where there are more, for its caches were cold.
    """
    events = json.loads(path.read_text())
    kernels = sorted((event for event in events if _is_kernel(event)), key=lambda event: event["ts"])
    each = len(kernels) // runs
    last = [event["args"] for event in kernels[-each:]] if each else []
    precisions = Counter(name for name in map(_precision, last) if name is not None)
    spent: Counter[str] = Counter()
    for event in kernels[each if runs > 1 else 0 :]:
        name = _precision(event["args"])
        if name is not None:
            spent[name] += event["dur"]
    total = spent.total()
    time = {name: duration / total for name, duration in spent.items()} if total else {}
    providers = Counter(str(kernel["provider"]) for kernel in last)
    on_processor = sum(kernel["provider"] == CPU and _is_of_floats(kernel) for kernel in last)
    return Profile(dict(precisions), time, len(last), dict(sorted(providers.items())), on_processor)


def _is_of_floats(kernel: Mapping[str, Any]) -> bool:
    values = (*kernel.get("input_type_shape", ()), *kernel.get("output_type_shape", ()))
    return any(name in _FLOATS and math.prod(shape) > 1 for value in values for name, shape in value.items())


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time")


def _precision(kernel: Mapping[str, Any]) -> str | None:
    operator = kernel["op_name"]
    if operator in _INT8:
        return "int8"
    if operator in _INT8_DYNAMIC:
        return "int8_dynamic"
    if operator not in _FLOAT:
        return None
    if operator in _PRODUCTS and _is_of_activations(kernel):
        return None
    types = [name for value in kernel.get("input_type_shape", ()) for name in value]
    # An integer MatMul computes positions and shapes, not the network.
    if types and types[0].startswith(("int", "uint")):
        return None
    return _FLOAT_TYPES.get(types[0], "fp32") if types else "fp32"


def _is_of_activations(kernel: Mapping[str, Any]) -> bool:
    """Whether a product has no weights (attention's scores): nothing that a quantizer of weights could change.

    Constant weights are listed with their size, or, where they were packed beforehand, not among the inputs at all.
    """
    return len(kernel.get("input_type_shape", ())) > 1 and int(kernel.get("parameter_size", 0)) == 0
