"""LiteRT (TensorFlow Lite) on the CPU, with XNNPACK's kernels.

The artifact is its flatbuffer with a static batch; XNNPACK packs the weights when it is loaded. Views of the interpreter's own memory
that are kept are the quickest way to pass a sample: at batch 1 a call of a network of three small layers takes 1.9 µs, with `set_tensor`,
`invoke` and `get_tensor` 2.5, by a signature's runner 4.8, by the newer `CompiledModel` 9.

Shorter floats are not offered: an interpreter cannot be told to use them, and XNNPACK computes in FP16 on processors with AVX-512 FP16 only
(forced to elsewhere, by `CompiledModel`, ResNet-20 took 1.75 instead of 0.83 ms).
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import InputBuffers, precision_by_share, require_offered, thread_count
from autoopt.workers.engines.litert_graph import operations, precisions
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

FILE = "model.tflite"
_FUSIONS = ("default", "none")


class LiteRt(Engine):
    """LiteRT's interpreter; "default" gives XNNPACK what it takes, which fuses it, "none" leaves all to the built-in kernels."""

    name = "litert"
    formats = ("litert",)
    packages = ("ai-edge-litert",)
    preload = ("ai_edge_litert.interpreter",)
    build_fields = ("batch",)

    def offer(self) -> Offer:
        """FP32 and INT8."""
        try:
            import ai_edge_litert.interpreter  # noqa: F401 (whether it can be)
        except ImportError as error:
            return Offer(self.name, reason=str(error), remedy="pip install 'autoopt[litert]'")
        return Offer(
            self.name,
            version=metadata.version("ai-edge-litert"),
            precisions={"cpu": ("fp32", "int8", "int8_dynamic")},
            fusions=_FUSIONS,
        )

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Convert with the batch, and open once so that an unknown operation is refused here."""
        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        formats.convert(source, "litert", deployment.batch, out)
        _open(out, deployment)

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> LiteRtSession:
        """Open an artifact.

        Raises:
            StageError: UNSUPPORTED for the built-in kernels on several threads: each of their libraries starts as many as it
                likes, and small networks are computed by one all the same.
        """
        require_offered(self.offer(), deployment)
        if deployment.fusion == "none" and deployment.threads > 1:
            message = f"LiteRT's built-in kernels (fusion 'none') run on one thread here, not {deployment.threads}"
            raise unsupported(message)
        return LiteRtSession(path, deployment, signature)


class LiteRtSession(Session):
    """An interpreter, and views of its inputs and outputs."""

    def __init__(self, path: Path, deployment: Deployment, signature: Signature) -> None:
        self._path = path
        self._deployment = deployment
        self._interpreter = _open(path, deployment)
        # `Interpreter.invoke` refuses to run while somebody holds views, since tensors may move. Those of static shape do not.
        self._invoke = self._interpreter._interpreter.Invoke  # noqa: SLF001 (half of a small call)
        (tensors,) = self._interpreter._get_full_signature_list().values()  # noqa: SLF001 (the public one has no numbers)
        inputs = [self._view(tensors["inputs"][f"args_{index}"]) for index in range(len(signature.tensors))]
        self._inputs = InputBuffers([spec.name for spec in signature.tensors], inputs)
        self._numbers = [tensors["outputs"][f"output_{index}"] for index in range(len(tensors["outputs"]))]
        self._outputs = self._views() if self._static() else None

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._inputs.fill(inputs)
        self._invoke()
        return self._outputs or self._views()

    def effective(self) -> Effective:
        """Read from the interpreter's operations, and from how many threads XNNPACK starts for the same network again."""
        found = operations(self._interpreter)
        nodes = precisions(found)
        precision, words = precision_by_share(nodes)
        others = sorted({each.name for each in found if not each.delegated})
        before = thread_count()
        twin = _open(self._path, self._deployment)
        threads = thread_count() - before + 1
        del twin
        return Effective(
            nodes=nodes,
            engine_version=metadata.version("ai-edge-litert"),
            hardware="cpu",
            precision=precision,
            threads=threads,
            details={
                "compute nodes": words,
                "XNNPACK": f"{sum(each.delegated for each in found)} of {len(found)} nodes",
                "built-in kernels": ", ".join(others) or "none",
            },
        )

    def _view(self, number: int) -> np.ndarray:
        view: np.ndarray = self._interpreter.tensor(number)()
        return view

    def _views(self) -> tuple[np.ndarray, ...]:
        return tuple(map(self._view, self._numbers))

    def _static(self) -> bool:
        """Whether every output has its memory already; one whose shape depends on values gets it in each call."""
        try:
            self._views()
        except ValueError:
            return False
        return True


def _open(path: Path, deployment: Deployment) -> Interpreter:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if deployment.fusion == "none" else OpResolverType.AUTO
    with refusing("LiteRT cannot load the network"):
        interpreter = Interpreter(
            str(path / FILE), num_threads=deployment.threads, experimental_op_resolver_type=kernels
        )
        interpreter.allocate_tensors()
    return interpreter
