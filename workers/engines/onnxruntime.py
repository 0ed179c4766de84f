"""ONNX Runtime on the processor, and on an NVIDIA GPU by its CUDA and TensorRT providers.

The artifact is the ONNX file with a static batch, for a GPU with the types in it; the graph is optimized when it is loaded, so it runs on
other machines too. A session's inputs and outputs are bound to fixed memory once: at batch 1 that is 3 of 15 µs of a call's overhead.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from autoopt.engine_environments import version
from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import InputBuffers, empty_inputs, require_offered
from autoopt.workers.engines.cuda import TF32
from autoopt.workers.engines.onnxruntime_cuda import PROVIDER, RTX, Bound, Provider, with_cuda
from autoopt.workers.engines.onnxruntime_effective import effective
from autoopt.workers.engines.onnxruntime_open import LEVELS, Opener
from autoopt.workers.parameters import Parameter, checked
from autoopt.workers.refusal import unsupported

FILE_TYPES = "types.json"
# Below "extended", QuantizeLinear … DequantizeLinear are computed as they stand, around operators in FP32.
_LEVELS_WITH_INT8 = ("default", "extended")
# Distributions with the same module in them.
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


class OnnxRuntime(Engine):
    """ONNX Runtime; its graph optimization level is the fusion."""

    name = "onnxruntime"
    formats = ("onnx",)
    packages = (next((name for name in _DISTRIBUTIONS if version(name)), _DISTRIBUTIONS[0]),)
    preload = ("onnxruntime",)
    options = (
        Parameter(
            "spinning",
            True,  # noqa: FBT003 (a value)
            choices=(True, False),
            about="Whether threads without work spin while a call runs.",
        ),
        Parameter(
            "inter_op", 1, low=1, high=1024, about="Threads that run nodes side by side; the others help within nodes."
        ),
        PROVIDER,
        TF32,
    )
    build_fields = ("batch", "precision", "hardware")

    def offer(self) -> Offer:
        """FP32 and INT8 on the processor, whose kernels have no other type that they compute in; FP32 and FP16 on a GPU."""
        try:
            import onnxruntime
        except ImportError as error:
            return Offer(self.name, reason=str(error), remedy="pip install 'autoopt[onnxruntime]'")
        offer = Offer(
            self.name,
            version=str(onnxruntime.__version__),
            precisions={"cpu": ("fp32", "int8", "int8_dynamic")},
            fusions=tuple(LEVELS),
        )
        return with_cuda(offer)

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Fix the batch, for a GPU write the types into the graph, and open the file once so that what it holds is refused here."""
        from autoopt.workers import formats
        from autoopt.workers.formats.onnx_half import in_half
        from autoopt.workers.formats.onnx_types import compute_types

        require_offered(self.offer(), deployment)
        built = formats.convert(source, "onnx", deployment.batch, out)
        if deployment.hardware == "cuda":
            model = formats.load(built)
            if deployment.precision == "fp16":
                model = in_half(model, "fp16")
                formats.save(model, "onnx", out, source.signature)
            (out / FILE_TYPES).write_text(json.dumps(compute_types(model)))
        self._opener(out, deployment).session()

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        """Open an artifact.

        Raises:
            StageError: UNSUPPORTED for INT8 below the fusion level at which ONNX Runtime executes it.
        """
        require_offered(self.offer(), deployment)
        if deployment.precision == "int8" and deployment.fusion not in _LEVELS_WITH_INT8:
            levels = " or ".join(_LEVELS_WITH_INT8)
            message = f"ONNX Runtime executes int8 only with fusion {levels}, not {deployment.fusion!r}"
            raise unsupported(message)
        opener = self._opener(path, deployment)
        if deployment.hardware != "cuda":
            return OnnxRuntimeSession(opener, deployment, signature)
        types = json.loads((path / FILE_TYPES).read_text())
        kind = CopyingSession if opener.provider_name == RTX else GpuSession
        return kind(opener, deployment, signature, types)

    def _opener(self, path: Path, deployment: Deployment) -> Opener:
        self.option(deployment, "provider")  # refuses options of other hardware
        options = checked(self.name, self.options, deployment.options, "option")
        provider = Provider.of(options) if deployment.hardware == "cuda" else None
        return Opener(path, deployment, options, provider)


class OnnxRuntimeSession(Session):
    """A session on the processor with bound inputs and outputs."""

    def __init__(self, opener: Opener, deployment: Deployment, signature: Signature) -> None:
        self._opener = opener
        self._session = opener.session()
        buffers = empty_inputs(signature, deployment.batch)
        self._names = tuple(spec.name for spec in signature.tensors)
        self._arrays = dict(zip(self._names, buffers, strict=True))
        self._inputs = InputBuffers(self._names, buffers)
        self._binding = self._session.io_binding()
        self._outputs: tuple[np.ndarray, ...] | None = None
        self._bind_inputs()

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._inputs.fill(inputs)
        if self._outputs is not None:
            self._session.run_with_iobinding(self._binding)
            return self._outputs
        outputs = tuple(self._session.run(None, self._feed()))
        self._bind_outputs(outputs)
        return outputs

    def effective(self) -> Effective:
        """Read from a profiled twin of the session: the kernels that ran, their types, and the threads it started."""
        return effective(self._opener, self._session, self._feed())

    def _feed(self) -> dict[str, np.ndarray]:
        return {value.name: self._arrays[value.name] for value in self._session.get_inputs()}

    def _bind_inputs(self) -> None:
        for name, array in self._feed().items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def _bind_outputs(self, outputs: tuple[np.ndarray, ...]) -> None:
        """Bind the outputs to arrays like the first call's, where the graph promises that shapes will not change."""
        values = self._session.get_outputs()
        fixed = all(tuple(value.shape) == output.shape for value, output in zip(values, outputs, strict=True))
        if not fixed or any(output.dtype.hasobject for output in outputs):
            return
        bound = tuple(np.empty_like(output, order="C") for output in outputs)
        for value, array in zip(values, bound, strict=True):
            self._binding.bind_output(value.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self._outputs = bound


class CopyingSession(OnnxRuntimeSession):
    """On a GPU by a plugin: ONNX Runtime itself copies inputs there and outputs back."""

    def __init__(self, opener: Opener, deployment: Deployment, signature: Signature, types: dict[str, int]) -> None:
        super().__init__(opener, deployment, signature)
        self._types = types

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference. Inputs that are bound would be copied when they are bound, not when it runs."""
        self._inputs.fill(inputs)
        return tuple(self._session.run(None, self._feed()))

    def effective(self) -> Effective:
        """Read from a profile; types are those of the graph, which the provider keeps to."""
        return effective(self._opener, self._session, self._feed(), self._types)

    def _bind_inputs(self) -> None:
        """None."""


class GpuSession(Session):
    """On a GPU, where inputs and outputs lie."""

    def __init__(self, opener: Opener, deployment: Deployment, signature: Signature, types: dict[str, int]) -> None:
        self._opener, self._types = opener, types
        self._bound = Bound(opener, deployment, signature)

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._bound.inputs.fill(inputs)
        return self._bound.call()

    def device_ms(self) -> float | None:
        """Its copies included."""
        return self._bound.device_ms()

    def effective(self) -> Effective:
        """Read from a profiled twin of the session; types are those of the graph where TensorRT has made one node of many."""
        return effective(self._opener, self._bound.session, self._bound.feed, self._types)
