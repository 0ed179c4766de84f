"""TensorRT: an ONNX network compiled for the GPU at hand, its kernels chosen by timing them.

Networks are strongly typed (all are, since TensorRT 11): what is computed in FP16 or BF16 stands in the graph, and INT8 by QuantizeLinear and
DequantizeLinear. The artifact is the plan, which loads in this version of TensorRT and on this kind of GPU only, the times of the kernels that
were tried, and what the plan is. (NVIDIA: "TensorRT Developer Guide", 11.4.)
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.records import Deployment, Effective, Signature, nvidia
from autoopt.workers.engines import cuda
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import InputBuffers, precision_by_share, require_offered
from autoopt.workers.engines.cuda_driver import Buffers, driver
from autoopt.workers.engines.tensorrt_build import FILE, FILE_ABOUT, Log, Wish, build_plan, executed
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing, unsupported

_OLDEST, _SINCE = (11, 4), (7, 5)
_REMEDY = "pip install 'autoopt[tensorrt]'"


class TensorRt(Engine):
    """NVIDIA's compiler and runtime; it has one level of fusion."""

    name = "tensorrt"
    formats = ("onnx",)
    packages = ("tensorrt",)
    # Its libraries are loaded with it, by the gigabyte, and CUDA must not be started before a process forks.
    preload = ()
    trusted_only = True
    options = (
        Parameter(
            "cuda_graphs",
            False,  # noqa: FBT003 (a value)
            choices=(True, False),
            about="Whether a call's copies and kernels are recorded once and given to the GPU at a stroke.",
            devices=("cuda",),
        ),
        Parameter(
            "batches",
            "fixed",
            choices=("fixed", "up_to"),
            about="One plan for calls of exactly the batch, or for every batch up to it, the largest being the quickest.",
            devices=("cuda",),
        ),
        cuda.TF32,
    )
    build_fields = ("precision", "batch", "hardware", "batches", "tf32")

    def offer(self) -> Offer:
        """FP32, INT8, and the shorter floats that the GPU executes."""
        try:
            import tensorrt
        except (ImportError, OSError) as error:  # bindings without libraries fail with either
            return Offer(self.name, reason=_why(error), remedy=_REMEDY)
        version = str(tensorrt.__version__)
        if tuple(map(int, version.split(".")[:2])) < _OLDEST:
            reason = f"TensorRT {version} is older than {'.'.join(map(str, _OLDEST))}"
            return Offer(self.name, version, reason=reason, remedy=_REMEDY)
        lacking, gpu = cuda.unfit(f"TensorRT {version}", _built_for(), _SINCE), nvidia.gpu()
        if lacking is not None or gpu is None:
            reason, remedy = lacking or cuda.NO_GPU
            return Offer(self.name, version, reason=reason, remedy=remedy)
        return Offer(self.name, version, precisions={"cuda": (*cuda.precisions(gpu), "int8")}, slow_build=True)

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Write the types into the graph, and compile. Takes some ten seconds: kernels are timed."""
        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        with tempfile.TemporaryDirectory(prefix="autoopt-tensorrt-") as folder:
            model = formats.load(formats.convert(source, "onnx", deployment.batch, Path(folder)))
        wish = Wish(
            precision=deployment.precision,
            threads=deployment.threads,
            tf32=bool(self.option(deployment, "tf32")),
            up_to_batch=self.option(deployment, "batches") == "up_to",
        )
        build_plan(model, wish, out)

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> TensorRtSession:
        """Open a plan: machine code, so only what is trusted.

        Raises:
            StageError: UNSUPPORTED for a plan of another version or another GPU, with both.
        """
        require_offered(self.offer(), deployment)
        return TensorRtSession(path, deployment, signature)


class TensorRtSession(Session):
    """A plan in an execution context, with arrays in pinned memory and places for them on the GPU."""

    def __init__(self, path: Path, deployment: Deployment, signature: Signature) -> None:
        import tensorrt

        self._about = json.loads((path / FILE_ABOUT).read_text())
        _require_same(self._about)
        self._log = Log()
        with refusing("TensorRT cannot load the plan"):
            self._driver = driver()
            self._runtime = tensorrt.Runtime(self._log.logger)
            self._runtime.max_threads = deployment.threads
            self._engine = self._log.must(
                self._runtime.deserialize_cuda_engine((path / FILE).read_bytes()), "the plan is not taken"
            )
            self._context = self._log.must(self._engine.create_execution_context(), "there is no memory for it")
            self._sent = self._bound([spec.name for spec in signature.tensors], deployment.batch)
            self._fetched = self._bound(self._names("OUTPUT"), deployment.batch)
            self._work()  # the first call settles what later ones, and a graph, rely on
            self._driver.wait()
        self._inputs = InputBuffers([spec.name for spec in signature.tensors], self._sent.arrays)
        self._tf32 = bool(TensorRt.option(deployment, "tf32"))
        self._graph = None
        if TensorRt.option(deployment, "cuda_graphs"):
            with refusing("the network cannot be captured as a CUDA graph"):
                self._graph = self._driver.captured(self._work)
        self._go = self._graph or self._work

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._inputs.fill(inputs)
        self._go()
        self._driver.wait()
        return self._fetched.arrays

    def device_ms(self) -> float | None:
        """Its copies included."""
        return self._driver.median_ms(self._go)

    def effective(self) -> Effective:
        """Read from the plan: the types of its layers, by TensorRT's inspector."""
        import tensorrt

        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        told = inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON)
        layers = executed(told, tf32_is="fp32" if self._tf32 else "tf32")
        nodes = layers or dict(self._about["nodes"])
        precision, words = precision_by_share(nodes)
        return Effective(
            nodes=nodes,
            engine_version=str(tensorrt.__version__),
            hardware="cuda",
            precision=precision,
            threads=int(self._runtime.max_threads),
            details={
                "compute nodes": words,
                "told by": "the plan's layers" if layers else "the network's types",
                "GPU": self._about["gpu"],
                "CUDA graph": str(self._graph is not None),
                "TF32": str(self._tf32),
            },
        )

    def _work(self) -> None:
        """A call, put into the stream."""
        self._sent.send()
        if not self._context.execute_async_v3(self._driver.stream):
            raise RuntimeError(self._log.last("the call was not taken"))
        self._fetched.fetch()

    def _names(self, mode: str) -> list[str]:
        import tensorrt

        names = (self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors))
        return [name for name in names if self._engine.get_tensor_mode(name) == getattr(tensorrt.TensorIOMode, mode)]

    def _bound(self, names: list[str], batch: int) -> Buffers:
        """Buffers for these tensors, which the context will read and write; those of the inputs are bound first."""
        import tensorrt

        for name in set(names) & set(self._names("INPUT")):
            shape = (batch, *tuple(self._engine.get_tensor_shape(name))[1:])
            if not self._context.set_input_shape(name, shape):
                raise RuntimeError(self._log.last(f"the plan does not take {name} {shape}"))
        shapes = [tuple(self._context.get_tensor_shape(name)) for name in names]
        if any(size < 0 for shape in shapes for size in shape):
            message = "the shape of an output depends on the data, which takes an allocation on every call"
            raise unsupported(message)
        types = [np.dtype(tensorrt.nptype(self._engine.get_tensor_dtype(name))) for name in names]
        buffers = Buffers(self._driver, list(zip(shapes, types, strict=True)))
        for name, pointer in zip(names, buffers.pointers, strict=True):
            self._context.set_tensor_address(name, pointer)
        return buffers


def _require_same(about: dict[str, Any]) -> None:
    import tensorrt

    gpu = nvidia.gpu()
    here = (str(tensorrt.__version__), gpu.name if gpu else "no GPU")
    if (about["tensorrt"], about["gpu"]) != here:
        message = (
            f"the plan was built by TensorRT {about['tensorrt']} for the {about['gpu']}, and runs nowhere else; here are TensorRT {here[0]} "
            f"and {here[1]}: build it here"
        )
        raise unsupported(message)


def _why(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"TensorRT is not installed ({error})"
    return f"TensorRT's libraries are missing or do not fit: {error}"


def _built_for() -> str:
    """The CUDA of the installed libraries; "0" where the package does not say."""
    for major in ("13", "12"):
        for name in (f"tensorrt-cu{major}-libs", f"tensorrt-cu{major}"):
            try:
                importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            return major
    return "0"
