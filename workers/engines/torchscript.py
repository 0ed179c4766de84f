"""TorchScript: the network traced and frozen, its weights constants of a graph that runs without Python.

The frozen graph is the artifact; what `optimize_for_inference` makes of it (oneDNN layouts) cannot be saved, so it is made on loading.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import empty_inputs, float_precisions, precision_by_share, require_offered
from autoopt.workers.engines.torch_common import (
    TorchInputs,
    cast_inputs,
    offer_torch,
    precision_name,
    to_arrays,
    torch_dtype,
)
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing

if TYPE_CHECKING:
    import numpy as np

FILE = "model.ts"
FUSIONS = ("default", "frozen", "onednn_graph")
_MATRIX_DIMENSIONS = 2
_CALLS_UNTIL_FUSED = 3


class TorchScript(Engine):
    """A frozen graph; "default" also runs `optimize_for_inference`, "onednn_graph" lets oneDNN fuse what it can (Intel's LLGA)."""

    name = "torchscript"
    formats = ("module",)
    packages = ("torch",)
    preload = ("torch",)
    trusted_only = True
    options = (
        Parameter(
            "capture",
            "trace",
            choices=("trace", "script"),
            about="The operators of one call, or the network's own code with its branches and loops.",
        ),
    )
    build_fields = ("precision", "batch", "capture")

    def offer(self) -> Offer:
        """FP32, and the shorter floats that the processor executes."""
        return offer_torch(self.name, float_precisions(), FUSIONS)

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Trace (or compile, then trace what is around) with the batch and the precision, freeze, save."""
        import torch

        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        dtype = torch_dtype(deployment.precision)
        network = formats.load(source)
        if self.option(deployment, "capture") == "script":
            with refusing("TorchScript cannot compile the network's code"), _quiet():
                network = torch.jit.script(network)
        module = formats.Positional(network, source.signature).to(dtype)
        inputs = cast_inputs(formats.example_inputs(source.signature, deployment.batch), dtype)
        with refusing("TorchScript cannot trace the network"), torch.no_grad(), _quiet():
            traced = torch.jit.trace(module, inputs, check_trace=False)  # type: ignore[no-untyped-call] # PyTorch's own
            torch.jit.save(torch.jit.freeze(traced), out / FILE)

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> TorchScriptSession:
        """Open an artifact: a program, so only what is trusted."""
        import torch

        require_offered(self.offer(), deployment)
        torch.set_num_threads(deployment.threads)
        # Of the process: an artifact is served by one that has no other.
        torch.jit.enable_onednn_fusion(deployment.fusion == "onednn_graph")
        with refusing("TorchScript cannot load the network"), _quiet():
            frozen = torch.jit.load(path / FILE)  # type: ignore[no-untyped-call] # PyTorch's own
            return TorchScriptSession(frozen, deployment, signature)


class TorchScriptSession(Session):
    """The graph, and fixed tensors for its inputs."""

    def __init__(self, frozen: Any, deployment: Deployment, signature: Signature) -> None:
        import torch

        self._weights = _weight_types(frozen)
        self._program = torch.jit.optimize_for_inference(frozen) if deployment.fusion == "default" else frozen
        self._inputs = TorchInputs(signature, deployment.batch, torch_dtype(deployment.precision))
        self._inference_mode = torch.inference_mode
        if deployment.fusion == "onednn_graph":
            self._settle(signature, deployment.batch)

    def _settle(self, signature: Signature, batch: int) -> None:
        """The executor hands nodes to oneDNN when it has seen their shapes, after a call or two."""
        for _ in range(_CALLS_UNTIL_FUSED):
            self(empty_inputs(signature, batch))

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        with self._inference_mode():
            outputs = self._program(*self._inputs.tensors(inputs))
            return to_arrays(outputs if isinstance(outputs, tuple) else (outputs,))

    def effective(self) -> Effective:
        """Read from the graph: the type of its weights, which TorchScript's operators compute in."""
        import torch

        precision, words = precision_by_share(self._weights)
        kinds = Counter(node.kind() for node in self._program.graph.nodes())
        onednn = sum(count for kind, count in kinds.items() if "mkldnn" in kind) + _fused_by_onednn(self._program)
        return Effective(
            nodes=self._weights,
            engine_version=str(torch.__version__),
            hardware="cpu",
            precision=precision,
            threads=torch.get_num_threads(),
            details={"weight matrices": words, "nodes": str(kinds.total()), "oneDNN nodes": str(onednn)},
        )


def _fused_by_onednn(program: Any) -> int:
    """Groups of nodes that the executor has handed to oneDNN since it knows their shapes."""
    import torch

    if not torch.jit.onednn_fusion_enabled():  # type: ignore[no-untyped-call] # PyTorch's own
        return 0
    state = program.get_debug_state()
    graphs = (plan.graph for plan in state.execution_plans.values())
    return sum(len(graph.findAllNodes("prim::oneDNNFusionGroup")) for graph in graphs)


def _weight_types(frozen: Any) -> dict[str, int]:
    """The matrices and kernels among the graph's constants, counted by precision."""
    counts: Counter[str] = Counter()
    for node in frozen.graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            tensor = node.t("value")
            if tensor.dim() >= _MATRIX_DIMENSIONS and tensor.is_floating_point():
                counts[precision_name(tensor.dtype)] += 1
    return dict(counts)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TorchScript's deprecation and its tracer's hints; whether the result is right is checked on its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
