"""ONNX Runtime on the CPU.

The artifact is the ONNX file with a static batch; the graph is optimized when it is loaded, so it runs on other machines too.
A session's inputs and outputs are bound to fixed memory once: at batch 1 that is 3 of 15 µs of a call's overhead.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import (
    InputBuffers,
    empty_inputs,
    precision_by_share,
    require_offered,
    thread_count,
)
from autoopt.workers.engines.onnxruntime_profile import Profile, read_profile
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import onnxruntime

FILE = "model.onnx"
_LEVELS = {
    "default": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}
# Below "extended", QuantizeLinear … DequantizeLinear are computed as they stand, around operators in FP32.
_LEVELS_WITH_INT8 = ("default", "extended")
_ERRORS_ONLY = 3
_PROFILED_RUNS = 4


class OnnxRuntime(Engine):
    """ONNX Runtime with the CPU execution provider; its graph optimization level is the fusion."""

    name = "onnxruntime"
    formats = ("onnx",)
    packages = ("onnxruntime",)
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
    )
    build_fields = ("batch",)

    def offer(self) -> Offer:
        """FP32 and INT8; its CPU kernels have no other type that they compute in."""
        try:
            import onnxruntime
        except ImportError as error:
            return Offer(self.name, reason=str(error), remedy="pip install 'autoopt[onnxruntime]'")
        return Offer(
            self.name,
            version=str(onnxruntime.__version__),
            precisions={"cpu": ("fp32", "int8", "int8_dynamic")},
            fusions=tuple(_LEVELS),
        )

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Fix the batch, and open the file once so that an unknown operator is refused here."""
        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        formats.convert(source, "onnx", deployment.batch, out)
        _open(out, deployment)

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> OnnxRuntimeSession:
        """Open an artifact.

        Raises:
            StageError: UNSUPPORTED for INT8 below the fusion level at which ONNX Runtime executes it.
        """
        require_offered(self.offer(), deployment)
        if deployment.precision == "int8" and deployment.fusion not in _LEVELS_WITH_INT8:
            levels = " or ".join(_LEVELS_WITH_INT8)
            message = f"ONNX Runtime executes int8 only with fusion {levels}, not {deployment.fusion!r}"
            raise unsupported(message)
        return OnnxRuntimeSession(path, deployment, signature)


class OnnxRuntimeSession(Session):
    """An open ONNX Runtime session with bound inputs and outputs."""

    def __init__(self, path: Path, deployment: Deployment, signature: Signature) -> None:
        self._path = path
        self._deployment = deployment
        self._session = _open(path, deployment)
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
        import onnxruntime

        profile, threads = _profile(self._path, self._deployment, self._feed())
        precision, words = precision_by_share(profile.precisions)
        options = self._session.get_session_options()
        return Effective(
            nodes=profile.precisions,
            time=profile.time,
            engine_version=str(onnxruntime.__version__),
            hardware="cpu" if profile.providers == ("CPUExecutionProvider",) else ", ".join(profile.providers),
            precision=precision,
            threads=threads,
            details={
                "compute nodes": words,
                "nodes": str(profile.nodes),
                "providers": ", ".join(profile.providers),
                "graph optimization": options.graph_optimization_level.name,
                "nodes at once": str(options.inter_op_num_threads),
                "spinning": options.get_session_config_entry("session.intra_op.allow_spinning"),
            },
        )

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


def _open(path: Path, deployment: Deployment, profile: Path | None = None) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[deployment.fusion])
    inter_op = _inter_op(deployment)
    # Whoever calls is one of both pools.
    options.intra_op_num_threads = deployment.threads - inter_op + 1
    options.inter_op_num_threads = inter_op
    if inter_op > 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    # Threads may spin while a call runs, which is quick, and not between calls: an idle session must leave its cores to others.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    spinning = "1" if OnnxRuntime.option(deployment, "spinning") else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    with refusing("ONNX Runtime cannot load the network"):
        return onnxruntime.InferenceSession(str(path / FILE), options, providers=["CPUExecutionProvider"])


def _inter_op(deployment: Deployment) -> int:
    inter_op = int(OnnxRuntime.option(deployment, "inter_op"))
    if inter_op > deployment.threads:
        message = f"ONNX Runtime cannot run {inter_op} nodes side by side with {deployment.threads} threads in all"
        raise unsupported(message)
    return inter_op


def _profile(path: Path, deployment: Deployment, feed: dict[str, Any]) -> tuple[Profile, int]:
    """Run once under the profiler; also the number of threads that compute, the calling one included."""
    with tempfile.TemporaryDirectory(prefix="autoopt-profile-") as folder:
        before = thread_count()
        session = _open(path, deployment, Path(folder) / "profile")
        started = thread_count() - before
        for _ in range(_PROFILED_RUNS):
            session.run(None, feed)
        profile = read_profile(Path(session.end_profiling()), _PROFILED_RUNS)
    return profile, started + 1 if before else deployment.threads
