"""LiteRT's own quantizer (ai-edge-quantizer), which works on flatbuffers.

It would quantize all that the built-in kernels can compute in INT8. XNNPACK is several times quicker than they are, but takes fewer
operations in INT8 than in FP32 (no GELU, softmax, hard swish, …, and not every scale): each of the others would cut the network in
two, and run between the parts. So what XNNPACK takes in FP32 alone is left in FP32: a MobileNet of half a dozen blocks needs 0.47 ms then,
instead of 3.1, and 0.86 in FP32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from autoopt.errors import StageError
from autoopt.workers.quiet import silent
from autoopt.workers.refusal import refusing, unsupported
from autoopt.workers.techniques._litert_network import PRODUCTS, SIGNATURE, Network, Ranges, inputs, opened, scope

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Facts

Sample: TypeAlias = Sequence[np.ndarray[Any, Any]]
"""The inputs, ``(batch, *shape)`` each, in the network's order."""
BITS = 8
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE")
WITH_WEIGHTS = ("FULLY_CONNECTED", *CONVOLUTIONS)
ALL = ("*",)
# Leaving operations in FP32 changes what their neighbours are given; networks seen so far were settled after one to three rounds.
_ROUNDS = 5


@dataclass(frozen=True)
class Recipe:
    """What the quantizer is asked for."""

    operations: tuple[str, ...]
    """By its names for them."""
    ranges: Ranges | None
    """Of the activations; None leaves these in FP32, to be quantized as they come."""
    per_channel: bool = True


def static(content: bytes, samples: Sequence[Sample], *, transformer: str, threads: int = 1) -> tuple[bytes, Facts]:
    """The network with weights and activations in INT8; its own inputs and outputs keep their types.

    Args:
        content: the flatbuffer.
        samples: to take the activations' ranges from.
        transformer: "yes" quantizes the operations with weights alone, "no" all others too, "auto" does the former where there is
            attention: a layer normalization is in INT8 no quicker than with the conversions around it, and less accurate.
        threads: for the calibration.

    Raises:
        StageError: UNSUPPORTED where there is nothing to quantize, or the quantizer cannot take the network.
    """
    network = Network.of(content)
    with refusing("LiteRT's quantizer cannot calibrate this network"), silent():
        ranges = _calibrated(content, samples, threads)
    unfit = network.unfit(ranges)
    if transformer == "no" or (transformer == "auto" and not network.has_attention()):
        try:
            result, facts = _quantized(network, Recipe(ALL, ranges), unfit)
        except StageError:
            # It knows how to quantize some operations, but not all of their parts.
            if transformer == "no":
                raise
        else:
            return result, {"transformer": False, **facts}
    result, facts = _quantized(network, Recipe(WITH_WEIGHTS, ranges), unfit)
    return result, {"transformer": True, **facts}


def dynamic(content: bytes, *, convolutions: bool, per_channel: bool) -> tuple[bytes, Facts]:
    """The network with weights in INT8, whose activations are quantized as they come.

    Raises:
        StageError: UNSUPPORTED where there is nothing to quantize, or the quantizer cannot take the network.
    """
    names = (*PRODUCTS, *CONVOLUTIONS) if convolutions else PRODUCTS
    return _quantized(Network.of(content), Recipe(names, ranges=None, per_channel=per_channel), set())


def batch_of(content: bytes) -> int:
    """The static batch."""
    return int(inputs(opened(content))[0]["shape"][0])


def _quantized(network: Network, recipe: Recipe, in_float: set[str]) -> tuple[bytes, Facts]:
    delegated = {scope(each) for each in network.operations if each.delegated}
    for _ in range(_ROUNDS):
        with refusing("LiteRT's quantizer cannot take this network"), silent():
            result = _quantize(network.content, recipe, in_float)
        found = Network.of(result).operations
        slower = {scope(each) for each in found if each.quantized and not each.delegated} & delegated
        if not slower - in_float:
            break
        in_float = in_float | slower
    count = sum((each.precision or "").startswith("int8") for each in found)
    if not count:
        present = ", ".join(sorted({each.name for each in network.operations}))
        message = f"nothing to quantize for LiteRT: the network's operations are {present}"
        raise unsupported(message)
    return result, {"quantized": count, "left_in_fp32": len(in_float)}


def _quantize(content: bytes, recipe: Recipe, in_float: set[str]) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer

    tool, names = quantizer.Quantizer(content), qtyping.TFLOperationName
    steps = qtyping.QuantGranularity.CHANNELWISE if recipe.per_channel else qtyping.QuantGranularity.TENSORWISE
    for name in map(names, recipe.operations):
        if recipe.ranges is None:
            tool.add_dynamic_config(".*", name, BITS, steps)
        else:
            tool.add_static_config(".*", name, BITS, BITS, steps)
    never = quantizer.AlgorithmName.NO_QUANTIZE
    if recipe.operations == ALL:
        for name in (names.INPUT, names.OUTPUT):
            tool.update_quantization_recipe(".*", name, algorithm_key=never)
    if in_float:
        these = "|".join(map(re.escape, sorted(in_float)))
        tool.update_quantization_recipe(f"^({these})$", names.ALL_SUPPORTED, algorithm_key=never)
    made = tool.quantize(recipe.ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(made.quantized_model)


def _calibrated(content: bytes, samples: Sequence[Sample], threads: int) -> Ranges:
    import tqdm
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    tqdm.tqdm.monitor_interval = 0  # its progress bar would start a thread, which stays
    types = [each["dtype"] for each in inputs(opened(content))]
    feeds = [
        {f"args_{index}": array.astype(type_) for index, (array, type_) in enumerate(zip(sample, types, strict=True))}
        for sample in samples
    ]
    # Counting in LiteRT itself takes a tenth of the time of handing every tensor to Python.
    mode = calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED
    tool = calibrator.Calibrator(content, num_threads=threads, mode=mode, qsv_update_func=min_max_update)
    tool.calibrate({SIGNATURE: feeds}, recipe_manager.RecipeManager())
    found: Ranges = tool.get_model_qsvs()
    return found
