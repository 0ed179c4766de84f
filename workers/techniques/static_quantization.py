"""INT8 weights and activations, their ranges taken from calibration data after training.

NNCF places the quantizers as the engines' kernels want them and writes QDQ nodes (ONNX) or FakeQuantize (OpenVINO). LiteRT has a quantizer
of its own, which knows ranges of one kind only and corrects no biases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class StaticQuantization(Technique):
    """Post-training static INT8 with NNCF or ONNX Runtime's own quantizer; of LiteRT's networks with LiteRT's."""

    name = "static_quantization"
    formats = ("openvino", "onnx", "litert")
    needs = ("calibration",)
    precision = "int8"
    packages = ("nncf", "onnx", "onnxruntime", "openvino")
    packages_by_format: ClassVar = {"litert": ("ai-edge-quantizer", "ai-edge-litert")}
    parameters = (
        Parameter(
            "tool",
            "nncf",
            choices=("nncf", "onnxruntime"),
            about="Who quantizes an ONNX network; the others have one quantizer each.",
        ),
        Parameter(
            "calibration", 256, low=1, high=100_000, about="Calibration samples; all there are where that is fewer."
        ),
        Parameter(
            "preset",
            "performance",
            choices=("performance", "mixed"),
            about="NNCF's: symmetric ranges throughout, or asymmetric ones for activations that are not.",
        ),
        Parameter("fast_bias_correction", True, choices=(True, False), about="NNCF's quick estimate of bias shifts."),  # noqa: FBT003 (a value)
        Parameter(
            "transformer",
            "auto",
            choices=("auto", "yes", "no"),
            about="The scheme for attention (NNCF: SmoothQuant, wider patterns; LiteRT: operations with weights alone); "
            "auto: where the graph has attention.",
        ),
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        """See `Technique.apply`. Facts: transformer; quantizers (nodes inserted), or quantized and left_in_fp32 (operations)."""
        values = checked_params(self, params)
        from autoopt.workers.techniques._static import Settings, calibration_batches, quantized

        tool = values.pop("tool")
        if tool == "onnxruntime":
            return self._by_onnxruntime(model, int(values["calibration"]), context)
        if not isinstance(model, bytes):
            return quantized(model, context, Settings(**values))  # type: ignore[arg-type]  # checked against the declarations
        from autoopt.workers.techniques import _litert

        batches = calibration_batches(context, _litert.batch_of(model), int(values["calibration"]))
        samples = [tuple(batch.values()) for batch in batches]
        return _litert.static(model, samples, transformer=str(values["transformer"]), threads=context.threads)

    def _by_onnxruntime(self, model: Any, samples: int, context: Context) -> tuple[Any, Facts]:
        from autoopt.workers.techniques import _onnxruntime
        from autoopt.workers.techniques._graphs import Graph
        from autoopt.workers.techniques._static import calibration_batches

        graph = None if isinstance(model, bytes) else Graph.of(model)
        if graph is None or graph.format != "onnx":
            message = "ONNX Runtime's quantizer takes ONNX networks only; leave tool at nncf for this engine"
            raise unsupported(message)
        return _onnxruntime.quantized(model, calibration_batches(context, graph.batch(context), samples))
