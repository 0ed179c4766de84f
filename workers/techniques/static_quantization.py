"""INT8 weights and activations, their ranges taken from calibration data after training.

NNCF places the quantizers as the engines' kernels want them and writes QDQ nodes (ONNX) or FakeQuantize (OpenVINO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class StaticQuantization(Technique):
    """Post-training static INT8 with NNCF."""

    name = "static_quantization"
    formats = ("openvino", "onnx")
    needs = ("calibration",)
    precision = "int8"
    packages = ("nncf", "onnx", "onnxruntime", "openvino")
    parameters = (
        Parameter(
            "calibration", 256, low=1, high=100_000, about="Calibration samples; all there are where that is fewer."
        ),
        Parameter(
            "preset",
            "performance",
            choices=("performance", "mixed"),
            about="Symmetric ranges throughout, or asymmetric ones for activations that are not.",
        ),
        Parameter("fast_bias_correction", True, choices=(True, False), about="The quick estimate of the bias shift."),  # noqa: FBT003 (a value)
        Parameter(
            "transformer",
            "auto",
            choices=("auto", "yes", "no"),
            about="NNCF's scheme for attention (SmoothQuant, wider patterns); auto: where the graph has attention.",
        ),
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        """See `Technique.apply`. Facts: transformer, quantizers (nodes inserted)."""
        values = checked_params(self, params)
        from autoopt.workers.techniques._static import Settings, quantized

        return quantized(model, context, Settings(**values))  # type: ignore[arg-type]  # checked against the declarations
