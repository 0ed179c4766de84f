"""Compiling with TensorRT: from an ONNX network to a plan, and what the plan's layers execute."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autoopt.records import nvidia
from autoopt.workers.engines.tensorrt_quantized import symmetric
from autoopt.workers.formats.onnx_half import in_half
from autoopt.workers.refusal import refusing

if TYPE_CHECKING:
    import onnx

T = TypeVar("T")

FILE, FILE_ABOUT, FILE_TIMES = "model.plan", "plan.json", "timing.cache"
# Of TensorRT's network, and, in the words of its inspector, of a plan.
_COMPUTE_LAYERS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
_COMPUTE = re.compile(r"conv(?!ert)|gemm|matmul|matrix|fprop|dgrad|mha|attention|_fc_", re.IGNORECASE)
_TYPES = (
    (re.compile(r"bfloat16|bf16", re.IGNORECASE), "bf16"),
    (re.compile(r"half|fp16|float16", re.IGNORECASE), "fp16"),
    (re.compile(r"int8", re.IGNORECASE), "int8"),
    (re.compile(r"fp8|float8", re.IGNORECASE), "fp8"),
    (re.compile(r"float|fp32", re.IGNORECASE), "fp32"),
)


class Log:
    """What TensorRT logs: it returns nothing where it fails, and says why here."""

    def __init__(self) -> None:
        import tensorrt

        errors: list[str] = []

        class _Logger(tensorrt.ILogger):  # type: ignore[misc] # untyped
            def __init__(self) -> None:
                tensorrt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= tensorrt.ILogger.ERROR:
                    errors.append(message)

        self.logger = _Logger()
        self._errors = errors

    def last(self, otherwise: str) -> str:
        """The last error."""
        return self._errors[-1] if self._errors else otherwise

    def must(self, value: T | None, otherwise: str) -> T:
        """The value.

        Raises:
            RuntimeError: it is None; says what TensorRT said.
        """
        if value is None:
            raise RuntimeError(self.last(otherwise))
        return value


@dataclass(frozen=True)
class Wish:
    """How to compile."""

    precision: str
    threads: int
    tf32: bool
    up_to_batch: bool
    """Whether the plan is for every batch up to the network's own."""


def build_plan(model: onnx.ModelProto, wish: Wish, out: Path) -> None:
    """Compile for the GPU at hand; write the plan, the times of kernels, and what the plan is.

    Args:
        model: its shapes static.
        wish: how.
        out: the folder.

    Raises:
        StageError: UNSUPPORTED with what TensorRT says.
    """
    import tensorrt

    model = _typed(model, wish.precision)
    log = Log()
    with refusing("TensorRT cannot compile the network"):
        builder = tensorrt.Builder(log.logger)
        builder.max_threads = wish.threads
        network = builder.create_network(0)  # strongly typed, as all are
        parser = tensorrt.OnnxParser(network, log.logger)
        if not parser.parse(model.SerializeToString()):
            said = parser.get_error(0).desc() if parser.num_errors else log.last("it was not parsed")
            raise RuntimeError(" ".join(said.split()))
        config = builder.create_builder_config()
        config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED  # or the plan would not tell its types
        if not wish.tf32:
            config.clear_flag(tensorrt.BuilderFlag.TF32)
        if wish.up_to_batch:
            config.add_optimization_profile(_up_to_batch(builder, network))
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
        nodes = _types(network, wish.precision)
        plan = log.must(builder.build_serialized_network(network, config), "no plan was made")
        (out / FILE).write_bytes(plan)
        (out / FILE_TIMES).write_bytes(config.get_timing_cache().serialize())
    gpu = nvidia.gpu()
    about = {"tensorrt": str(tensorrt.__version__), "gpu": gpu.name if gpu else "", "nodes": nodes}
    (out / FILE_ABOUT).write_text(json.dumps(about))


def _typed(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    if precision == "int8":
        return symmetric(model)
    return model if precision == "fp32" else in_half(model, precision)


def _up_to_batch(builder: Any, network: Any) -> Any:
    """Shapes from one sample to the batch, which is what kernels are chosen for."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *shape = tuple(tensor.shape)
        tensor.shape = (-1, *shape)
        profile.set_shape(tensor.name, (1, *shape), (batch, *shape), (batch, *shape))
    return profile


def _types(network: Any, precision: str) -> dict[str, int]:
    """The compute layers by the type that they are to execute in; quantized ones are those whose inputs have just been dequantized."""
    found: Counter[str] = Counter()
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantized = {layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"}
    for layer in layers:
        if layer.type.name not in _COMPUTE_LAYERS:
            continue
        entry = layer.get_input(0)
        is_int8 = precision == "int8" and entry.name in dequantized
        found["int8" if is_int8 else _named(entry.dtype.name)] += 1
    return dict(found)


def executed(information: str, tf32_is: str) -> dict[str, int]:
    """The compute layers of a plan by the type that they read, from the JSON of TensorRT's inspector; empty where it tells of none.

    Args:
        information: what `EngineInspector.get_engine_information` gives.
        tf32_is: what a layer with a TF32 kernel is counted as.
    """
    found: Counter[str] = Counter()
    for layer in json.loads(information).get("Layers", ()):
        # A plan without details lists names only.
        if not isinstance(layer, dict) or not layer.get("Inputs"):
            continue
        words = " ".join(str(layer.get(field, "")) for field in ("LayerType", "TacticName"))
        if not _COMPUTE.search(words):
            continue
        entry = layer["Inputs"][0]
        told = next((str(entry[field]) for field in ("DataType", "Format/Datatype", "Format") if field in entry), "")
        name = _named(told)
        found[tf32_is if name == "fp32" and "tf32" in words.lower() else name] += 1
    return dict(found)


def _named(told: str) -> str:
    return next((name for pattern, name in _TYPES if pattern.search(told)), told.lower() or "unknown")
