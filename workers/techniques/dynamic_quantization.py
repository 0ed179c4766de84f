"""INT8 weights, activations quantized as they come: no calibration data, and no loss of range on odd inputs.

It pays for matrix products (recurrent and attention networks); convolutions gain in LiteRT, which has kernels for them (ResNet-20: 0.26
instead of 0.83 ms), elsewhere seldom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class DynamicQuantization(Technique):
    """ONNX Runtime's dynamic quantization, or LiteRT's ("dynamic range")."""

    name = "dynamic_quantization"
    formats = ("onnx", "litert")
    precision = "int8_dynamic"
    packages = ("onnx", "onnxruntime")
    packages_by_format: ClassVar = {"litert": ("ai-edge-quantizer", "ai-edge-litert")}
    parameters = (
        Parameter("convolutions", False, choices=(True, False), about="Whether convolutions are quantized too."),  # noqa: FBT003 (a value)
        Parameter("per_channel", True, choices=(True, False), about="A scale for each output channel of a weight."),  # noqa: FBT003 (a value)
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:  # noqa: ARG002 (the seam's argument)
        """See `Technique.apply`. Facts: quantized (nodes); for LiteRT also left_in_fp32."""
        values = checked_params(self, params)
        asked = {name: bool(values[name]) for name in ("convolutions", "per_channel")}
        if isinstance(model, bytes):
            from autoopt.workers.techniques import _litert

            return _litert.dynamic(model, **asked)
        from autoopt.workers.techniques._dynamic import quantized

        return quantized(model, **asked)
