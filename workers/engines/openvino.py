"""OpenVINO on the CPU.

The artifact is its own format with a static batch and FP32 weights (or what a quantizer left), compiled when it is loaded.
Tensors are fixed and `infer()` is called without arguments: of the ways to pass a sample that were timed at batch 1 (`compiled(x)`,
a dict, a shared tensor set on each call, `start_async`), this one is the quickest, with 20 µs less than `compiled(x)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import InputBuffers, float_precisions, precision_by_share, require_offered
from autoopt.workers.refusal import refusing

if TYPE_CHECKING:
    import openvino

FILE = "model.xml"
# The precision that floating-point operators may use; quantized ones run in INT8 whatever the hint says.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}
_COMPUTE = frozenset(
    {
        "Convolution",
        "Deconvolution",
        "FullyConnected",
        "MatMul",
        "RNNCell",
        "RNNSeq",
        "ScaledDotProductAttention",
        "MHA",
    }
)


class OpenVino(Engine):
    """OpenVINO's CPU plugin; it has one level of fusion."""

    name = "openvino"
    formats = ("openvino", "onnx")
    packages = ("openvino",)
    preload = ("openvino",)
    build_fields = ("batch",)

    def offer(self) -> Offer:
        """FP32, INT8, and the shorter floats that the processor executes."""
        try:
            import openvino
        except ImportError as error:
            return Offer(self.name, reason=str(error), remedy="pip install 'autoopt[openvino]'")
        version = str(openvino.__version__).partition("-")[0]
        return Offer(self.name, version=version, precisions={"cpu": (*float_precisions(), "int8")})

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Convert, fix the batch, and compile once so that an unknown operator is refused here."""
        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        formats.convert(source, "openvino", deployment.batch, out)
        _compile(out, deployment)

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> OpenVinoSession:
        """Open an artifact."""
        require_offered(self.offer(), deployment)
        return OpenVinoSession(_compile(path, deployment), signature)


class OpenVinoSession(Session):
    """A compiled network with one request, whose tensors are fixed."""

    def __init__(self, compiled: openvino.CompiledModel, signature: Signature) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        names = tuple(spec.name for spec in signature.tensors)
        self._inputs = InputBuffers(names, [self._request.get_tensor(name).data for name in names])
        self._outputs = self._views() if all(port.partial_shape.is_static for port in compiled.outputs) else None

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._inputs.fill(inputs)
        self._request.infer(share_inputs=True, share_outputs=True)
        return self._outputs or self._views()

    def effective(self) -> Effective:
        """Read from the compiled network: its properties, and the type that each node executes in."""
        import openvino

        precision, words = precision_by_share(_executed(self._compiled))
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return Effective(
            engine_version=str(openvino.__version__),
            hardware=", ".join(devices).lower(),
            precision=precision,
            threads=int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            details={
                "compute nodes": words,
                "streams": str(self._compiled.get_property("NUM_STREAMS")),
                "float precision": str(self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()),
            },
        )

    def _views(self) -> tuple[np.ndarray, ...]:
        return tuple(self._request.get_output_tensor(index).data for index in range(len(self._compiled.outputs)))


def _compile(path: Path, deployment: Deployment) -> openvino.CompiledModel:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": deployment.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[deployment.precision],
        # The measuring process is pinned from outside; OpenVINO would choose cores of its own.
        "ENABLE_CPU_PINNING": False,
    }
    with refusing("OpenVINO cannot compile the network"):
        return openvino.Core().compile_model(path / FILE, "CPU", settings)


def _executed(compiled: openvino.CompiledModel) -> dict[str, int]:
    """The compute nodes (convolutions, matrix products, recurrent cells) counted by the precision they execute in."""
    counts: dict[str, int] = {}
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in _COMPUTE:
            executed = info["runtimePrecision"].astype(str)
            name = _PRECISIONS.get(executed, executed)
            counts[name] = counts.get(name, 0) + 1
    return counts
