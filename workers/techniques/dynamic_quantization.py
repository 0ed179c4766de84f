"""INT8 weights, activations quantized as they come: no calibration data, and no loss of range on odd inputs.

It pays for matrix products (recurrent and attention networks); convolutions gain seldom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class DynamicQuantization(Technique):
    """ONNX Runtime's dynamic quantization."""

    name = "dynamic_quantization"
    formats = ("onnx",)
    precision = "int8_dynamic"
    packages = ("onnx", "onnxruntime")
    parameters = (
        Parameter("convolutions", False, choices=(True, False), about="Whether convolutions are quantized too."),  # noqa: FBT003 (a value)
        Parameter("per_channel", True, choices=(True, False), about="A scale for each output channel of a weight."),  # noqa: FBT003 (a value)
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:  # noqa: ARG002 (the seam's argument)
        """See `Technique.apply`. Facts: quantized (nodes)."""
        values = checked_params(self, params)
        from autoopt.workers.techniques._dynamic import quantized

        return quantized(model, convolutions=bool(values["convolutions"]), per_channel=bool(values["per_channel"]))
