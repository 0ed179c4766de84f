"""PyTorch in eager mode: what most people run, and the reference that everything is compared with.

"default" is `eval()` under `inference_mode()` and nothing else. The artifact is the pickled module. On a GPU a small network takes as
long as its kernels' launches, one by one; "cuda_graphs" gives them to the GPU at a stroke.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import float_precisions, precision_by_share, require_offered
from autoopt.workers.engines.cuda import TF32
from autoopt.workers.engines.pytorch_fusion import fold_batch_norms
from autoopt.workers.engines.torch_common import (
    TorchInputs,
    devices_of,
    executed_types,
    offer_torch,
    to_arrays,
    torch_dtype,
)
from autoopt.workers.engines.torch_cuda import Call, CudaInputs, CudaOutputs, Replay, allow_tf32, device_ms, with_cuda
from autoopt.workers.parameters import Parameter
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

FILE = "module.pt"
FUSIONS = ("default", "channels_last", "fused")
CUDA_GRAPHS = "cuda_graphs"
_IMAGE_DIMENSIONS = 4


class PyTorch(Engine):
    """Eager PyTorch; "fused" folds batch normalizations into their convolutions."""

    name = "pytorch"
    formats = ("module",)
    # A class of a script, a notebook or a task's file is pickled by value, which takes cloudpickle to open.
    packages = ("torch", "cloudpickle")
    preload = ("torch",)
    trusted_only = True
    any_batch = True
    options = (
        Parameter(
            "bf16",
            "cast",
            choices=("cast", "autocast"),
            about="The whole network in BF16, or only the operators that `torch.autocast` converts.",
        ),
        Parameter(
            "onednn",
            True,  # noqa: FBT003 (a value)
            choices=(True, False),
            about="oneDNN's kernels, or PyTorch's own.",
            devices=("cpu",),
        ),
        Parameter(
            "cudnn_benchmark",
            False,  # noqa: FBT003 (a value)
            choices=(True, False),
            about="Whether cuDNN times its convolutions on the first call and takes the quickest.",
            devices=("cuda",),
        ),
        TF32,
    )
    build_fields = ("fusion", "hardware")

    def offer(self) -> Offer:
        """FP32, and the shorter floats that the processor, or the GPU, executes."""
        offer = offer_torch(self.name, float_precisions(), FUSIONS)
        return with_cuda(replace(offer, fusions_by_device={"cuda": (*FUSIONS, CUDA_GRAPHS)}))

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Fold or lay out as the fusion says, and save the module."""
        import torch

        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        if deployment.fusion == "channels_last":
            _require_images(source.signature)
        module = formats.load(source)
        if deployment.fusion == "fused":
            fold_batch_norms(module)
        inputs = formats.example_inputs(source.signature, 1)
        with refusing("the network does not run on its example input"), torch.inference_mode():
            formats.call_module(module, inputs, source.signature)
        with refusing("the network cannot be saved"):
            formats.save(module, "module", out, source.signature)

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> PyTorchSession:
        """Open an artifact: unpickles, so only what is trusted."""
        import torch

        require_offered(self.offer(), deployment)
        torch.set_num_threads(deployment.threads)
        module = torch.load(path / FILE, map_location="cpu", weights_only=False).eval()
        return PyTorchSession(module, deployment, signature)


class PyTorchSession(Session):
    """The module, and fixed tensors for its inputs."""

    def __init__(self, module: nn.Module, deployment: Deployment, signature: Signature) -> None:
        import torch

        from autoopt.workers.formats import call_module

        autocast = deployment.precision != "fp32" and PyTorch.option(deployment, "bf16") == "autocast"
        dtype = torch_dtype("fp32" if autocast else deployment.precision)
        self._autocast = torch.autocast(deployment.hardware, torch_dtype(deployment.precision)) if autocast else None
        _set(deployment)
        self._layout = torch.channels_last if deployment.fusion == "channels_last" else torch.contiguous_format
        self._module = module.to(deployment.hardware, dtype)
        if deployment.fusion == "channels_last":
            self._module.to(memory_format=self._layout)  # type: ignore[call-overload] # missing in PyTorch's stubs
        self._signature = signature
        self._on_gpu = deployment.hardware == "cuda"
        self._inputs: CudaInputs | TorchInputs
        if self._on_gpu:
            self._inputs = CudaInputs(signature, deployment.batch, dtype, self._layout)
            self._fetched = CudaOutputs()
            self._to_arrays = self._fetched.arrays
        else:
            self._inputs = TorchInputs(signature, deployment.batch, dtype, self._layout)
            self._to_arrays = to_arrays
        self._call = call_module
        self._inference_mode = torch.inference_mode
        self._run: Call = self._outputs
        if self._on_gpu:
            self._begin(signature, deployment)

    def _begin(self, signature: Signature, deployment: Deployment) -> None:
        """A call before the first one: what cannot run there (a constant that stays on the processor) is refused when loading."""
        from autoopt.workers.formats import example_inputs

        examples = tuple(each.numpy() for each in example_inputs(signature, deployment.batch))
        with self._inference_mode(), refusing("the network does not run on the GPU"):
            tensors = self._inputs.tensors(examples)
            self._to_arrays(self._outputs(tensors))
            if deployment.fusion == CUDA_GRAPHS:
                self._run = Replay(self._outputs, tensors)

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        with self._inference_mode():
            return self._to_arrays(self._run(self._inputs.tensors(inputs)))

    def device_ms(self) -> float | None:
        """On a GPU; its copies included."""
        if not isinstance(self._inputs, CudaInputs):
            return None
        with self._inference_mode():
            return device_ms(self._inputs, self._run, self._fetched)

    def _outputs(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._autocast is None:
            return self._call(self._module, tensors, self._signature)
        with self._autocast:
            return self._call(self._module, tensors, self._signature)

    def effective(self) -> Effective:
        """Read from PyTorch's dispatcher during one more call: the type of every operator that computes; and from where tensors lie.

        A CUDA graph is what was captured of the same operators.
        """
        import torch

        found: list[Tensor] = [*self._module.parameters(), *self._module.buffers()]
        with torch.inference_mode():
            counts = executed_types(lambda: found.extend(self._outputs(self._inputs.last())))
        precision, words = precision_by_share(counts)
        return Effective(
            nodes=counts,
            engine_version=str(torch.__version__),
            hardware=devices_of(found),
            precision=precision,
            threads=torch.get_num_threads(),
            details={
                "compute nodes": words,
                "layout": str(self._layout).removeprefix("torch."),
                **(self._gpu_details() if self._on_gpu else {"oneDNN": str(torch.backends.mkldnn.enabled)}),
            },
        )

    def _gpu_details(self) -> dict[str, str]:
        import torch

        return {
            "CUDA graph": str(isinstance(self._run, Replay)),
            "TF32": str(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
            "cuDNN benchmark": str(torch.backends.cudnn.benchmark),
        }


def _set(deployment: Deployment) -> None:
    """What is of the process: an artifact is served by one that has no other."""
    import torch

    if deployment.hardware == "cuda":
        torch.backends.cudnn.benchmark = bool(PyTorch.option(deployment, "cudnn_benchmark"))
        allow_tf32(allowed=bool(PyTorch.option(deployment, "tf32")))
    else:
        torch.backends.mkldnn.set_flags(_enabled=bool(PyTorch.option(deployment, "onednn")))  # type: ignore[no-untyped-call] # PyTorch's own


def _require_images(signature: Signature) -> None:
    if not any(len(spec.shape) + 1 == _IMAGE_DIMENSIONS for spec in signature.tensors):
        message = "the layout channels_last is for inputs (N, C, H, W); this network takes none"
        raise unsupported(message)
