"""PyTorch on an NVIDIA GPU: whether it can, and tensors that go there and come back.

Inputs are copied into pinned memory, from there into fixed tensors on the GPU; the network and the outputs' way back follow in the same
stream, and the processor waits once, at the end. (CUDA C++ Best Practices Guide: pinned memory, asynchronous transfers; PyTorch:
"CUDA semantics", which also says how a graph is captured.)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from autoopt.records import nvidia
from autoopt.workers.engines import cuda
from autoopt.workers.engines.common import InputBuffers
from autoopt.workers.engines.torch_common import like
from autoopt.workers.refusal import refusing

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from autoopt.records import Signature
    from autoopt.workers.engines.base import Offer

Call = Callable[["tuple[Tensor, ...]"], "tuple[Tensor, ...]"]

_WARM_CALLS, _TIMED_CALLS = 3, 20
_HALF_BYTES = 2


def with_cuda(offer: Offer) -> Offer:
    """A PyTorch engine's offer, on the GPU too where PyTorch can use it; why not, where it cannot.

    Not by ``torch.cuda.is_available()``: it starts CUDA, after which no child of this process could use it.
    """
    if not offer.available:
        return offer
    why = _unfit(str(offer.version))
    gpu = nvidia.gpu()
    if why is not None or gpu is None:
        return replace(offer, lacking={"cuda": str(why or cuda.NO_GPU)})
    return replace(offer, precisions={**offer.precisions, "cuda": cuda.precisions(gpu)})


def _unfit(version: str) -> cuda.Lacking | None:
    import torch

    built_for = torch.version.cuda
    if nvidia.gpu() is not None and built_for is None:
        remedy = "pip install --force-reinstall torch (PyPI's own builds for Linux have it)"
        return cuda.Lacking(f"PyTorch {version} was built without CUDA", remedy)
    return cuda.unfit(f"PyTorch {version}", built_for or "0")


def allow_tf32(*, allowed: bool) -> None:
    """Say whether FP32 means TF32. Of the process: an artifact is served by one that has no other."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class CudaInputs:
    """Fixed tensors on the GPU for the inputs, as `TorchInputs` are on the processor."""

    def __init__(
        self, signature: Signature, batch: int, dtype: torch.dtype, layout: torch.memory_format | None = None
    ) -> None:
        import torch

        self._pinned = tuple(
            torch.zeros((batch, *spec.shape), dtype=getattr(torch, spec.dtype), pin_memory=True)
            for spec in signature.tensors
        )
        self._buffers = InputBuffers([spec.name for spec in signature.tensors], [each.numpy() for each in self._pinned])
        # Converted there: PyTorch would convert on the processor, into memory that is not pinned, before it copies.
        self._arrived = tuple(each.to("cuda") for each in self._pinned)
        self._tensors = tuple(like(each, dtype, layout) for each in self._arrived)
        self._converted = [
            (tensor, arrived)
            for tensor, arrived in zip(self._tensors, self._arrived, strict=True)
            if tensor.data_ptr() != arrived.data_ptr()
        ]

    def tensors(self, inputs: tuple[np.ndarray, ...]) -> tuple[Tensor, ...]:
        """The tensors, which will hold these arrays' values; overwritten by the next call."""
        self._buffers.fill(inputs)
        return self.send()

    def send(self) -> tuple[Tensor, ...]:
        """Put what the last call filled in on its way; the tensors that will hold it."""
        for arrived, pinned in zip(self._arrived, self._pinned, strict=True):
            arrived.copy_(pinned, non_blocking=True)
        for tensor, arrived in self._converted:
            tensor.copy_(arrived)
        return self._tensors

    def last(self) -> tuple[Tensor, ...]:
        """The tensors as the last call filled them."""
        return self._tensors


class CudaOutputs:
    """Fixed pinned memory for the outputs."""

    def __init__(self) -> None:
        self._pinned: tuple[Tensor, ...] = ()

    def arrays(self, outputs: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
        """The outputs as arrays, half precision as float32; waits for the GPU."""
        import torch

        self.fetch(outputs)
        torch.cuda.current_stream().synchronize()
        return tuple(host.numpy() for host in self._pinned)

    def fetch(self, outputs: tuple[Tensor, ...]) -> None:
        """Put them on their way back."""
        if tuple(each.shape for each in self._pinned) != tuple(each.shape for each in outputs):
            self._pinned = tuple(_pinned_for(each) for each in outputs)
        for host, output in zip(self._pinned, outputs, strict=True):
            # Converted on the GPU, for the same reason as the inputs.
            host.copy_(output.to(host.dtype), non_blocking=True)


def _pinned_for(output: Tensor) -> Tensor:
    import torch

    is_half = output.is_floating_point() and output.dtype.itemsize <= _HALF_BYTES
    return torch.empty(output.shape, dtype=torch.float32 if is_half else output.dtype, pin_memory=True)


class Replay:
    """A call as a CUDA graph: the launches of its kernels recorded once, and given to the GPU at a stroke.

    Raises:
        StageError: UNSUPPORTED where the network cannot be captured: it waits for the GPU inside, or takes memory from elsewhere.
    """

    def __init__(self, call: Call, tensors: tuple[Tensor, ...]) -> None:
        import torch

        with refusing("the network cannot be captured as a CUDA graph"):
            beside = torch.cuda.Stream()  # type: ignore[no-untyped-call] # PyTorch's own
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(_WARM_CALLS):
                    call(tensors)
            torch.cuda.current_stream().wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._outputs = call(tensors)
        self._captured = tensors

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The captured call with what its tensors hold now."""
        assert tensors is self._captured
        self._graph.replay()
        return self._outputs


def device_ms(inputs: CudaInputs, call: Call, outputs: CudaOutputs) -> float:
    """What passes on the GPU from the inputs' arrival to the outputs' leaving, in ms: the median of several calls, by CUDA events."""
    import torch

    times: list[float] = []
    for _ in range(_WARM_CALLS + _TIMED_CALLS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call] # PyTorch's own
        start.record()
        outputs.fetch(call(inputs.send()))
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[_WARM_CALLS:])
