"""OpenVINO on the CPU.

The artifact is its own format with a static batch and FP32 weights (or what a quantizer left), compiled when it is loaded.
Tensors are fixed and `infer()` is called without arguments: of the ways to pass a sample that were timed at batch 1 (`compiled(x)`,
a dict, a shared tensor set on each call, `start_async`), this one is the quickest, with 20 µs less than `compiled(x)`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.records import Deployment, Effective, Signature
from autoopt.records.environment import cpu_flags
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import InputBuffers, float_precisions, precision_by_share, require_offered
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import openvino

FILE = "model.xml"
_COUNTED_RUNS = 4
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
    """OpenVINO's CPU plugin; it has one level of fusion.

    With several streams the threads are shared out among them, and calls run side by side (`Session.start`).
    """

    name = "openvino"
    formats = ("openvino", "onnx")
    packages = ("openvino",)
    preload = ("openvino",)
    options = (
        Parameter(
            "hint", "latency", choices=("latency", "throughput"), about="What the plugin chooses its settings for."
        ),
        Parameter("streams", 1, low=1, high=1024, about="Calls that run at once, each with its share of the threads."),
        Parameter(
            "sparse_rate",
            1.0,
            low=0.01,
            high=1.0,
            about="From which share of zeros on INT8 weights are kept compressed (1: never); only processors with AMX do so.",
        ),
    )
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
        return OpenVinoSession(path, deployment, signature)


class _Request:
    """An infer request whose tensors are fixed."""

    def __init__(self, compiled: openvino.CompiledModel, names: tuple[str, ...]) -> None:
        self.request = compiled.create_infer_request()
        self.inputs = InputBuffers(names, [self.request.get_tensor(name).data for name in names])
        self._outputs = len(compiled.outputs)
        self._fixed = self._views() if all(port.partial_shape.is_static for port in compiled.outputs) else None

    def outputs(self) -> tuple[np.ndarray, ...]:
        """As the last call left them."""
        return self._fixed or self._views()

    def _views(self) -> tuple[np.ndarray, ...]:
        return tuple(self.request.get_output_tensor(index).data for index in range(self._outputs))


class OpenVinoSession(Session):
    """A compiled network with a request for each stream."""

    def __init__(self, path: Path, deployment: Deployment, signature: Signature) -> None:
        self._path, self._deployment = path, deployment
        self._compiled = _compile(path, deployment)
        self._names = tuple(spec.name for spec in signature.tensors)
        streams = int(self._compiled.get_property("NUM_STREAMS"))
        self._requests = tuple(_Request(self._compiled, self._names) for _ in range(streams))
        self._first = self._requests[0]

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._first.inputs.fill(inputs)
        self._first.request.infer(share_inputs=True, share_outputs=True)
        return self._first.outputs()

    @property
    def streams(self) -> int:
        """As the compiled network has them."""
        return len(self._requests)

    def start(self, stream: int, inputs: tuple[np.ndarray, ...]) -> None:
        """Begin a call."""
        request = self._requests[stream]
        request.inputs.fill(inputs)
        request.request.start_async(share_inputs=True)

    def finish(self, stream: int) -> tuple[np.ndarray, ...]:
        """Wait for it."""
        request = self._requests[stream]
        request.request.wait()
        return request.outputs()

    def effective(self) -> Effective:
        """Read from the compiled network: its properties, and the type that each node executes in."""
        import openvino

        nodes = _executed(self._compiled)
        precision, words = precision_by_share(nodes)
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return Effective(
            nodes=nodes,
            time=self._time_by_precision() if set(nodes) - {"fp32"} else {},
            engine_version=str(openvino.__version__),
            hardware=", ".join(devices).lower(),
            precision=precision,
            threads=int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            details={
                "compute nodes": words,
                "streams": str(self._compiled.get_property("NUM_STREAMS")),
                "hint": str(self._compiled.get_property("PERFORMANCE_HINT")).rpartition(".")[2].lower(),
                "sparse rate": str(self._compiled.get_property("CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE")),
                "float precision": str(self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()),
            },
        )

    def _time_by_precision(self) -> dict[str, float]:
        """The compute nodes' share of time by the precision of the kernel that ran, from a twin that counts."""
        twin = _Request(_compile(self._path, self._deployment, PERF_COUNT=True), self._names)
        spent: Counter[str] = Counter()
        for run in range(_COUNTED_RUNS):
            twin.inputs.fill(tuple(self._first.request.get_tensor(name).data for name in self._names))
            twin.request.infer()
            for node in twin.request.profiling_info if run else ():  # the first one is cold
                if node.node_type.startswith(tuple(_COMPUTE)):
                    spent[_kernel_precision(node.exec_type)] += node.real_time.total_seconds()
        total = spent.total()
        return {name: seconds / total for name, seconds in spent.items()} if total else {}


def _kernel_precision(kernel: str) -> str:
    """``brgconv_avx512_I8`` is int8."""
    name = kernel.rpartition("_")[2].lower()
    return _PRECISIONS.get(name, name)


def _compile(path: Path, deployment: Deployment, **more: Any) -> openvino.CompiledModel:
    import openvino

    sparse_rate = OpenVino.option(deployment, "sparse_rate")
    if sparse_rate != 1.0 and "amx_int8" not in cpu_flags():
        message = "OpenVINO keeps sparse weights compressed on processors with AMX only, and this one has none"
        raise unsupported(message)
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": deployment.threads,
        "NUM_STREAMS": _streams(deployment),
        "PERFORMANCE_HINT": str(OpenVino.option(deployment, "hint")).upper(),
        "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": sparse_rate,
        "INFERENCE_PRECISION_HINT": _HINTS[deployment.precision],
        # The measuring process is pinned from outside; OpenVINO would choose cores of its own.
        "ENABLE_CPU_PINNING": False,
        **more,
    }
    with refusing("OpenVINO cannot compile the network"):
        return openvino.Core().compile_model(path / FILE, "CPU", settings)


def _streams(deployment: Deployment) -> int:
    streams = int(OpenVino.option(deployment, "streams"))
    if streams > deployment.threads:
        message = f"{streams} streams need as many threads, not {deployment.threads}"
        raise unsupported(message)
    return streams


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
