"""What the three PyTorch engines share: inputs and outputs as arrays, and reading back what ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from autoopt.workers.engines.base import Offer
from autoopt.workers.engines.common import InputBuffers, empty_inputs

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from autoopt.records import Signature

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_PRECISIONS = {f"torch.{dtype}": precision for precision, dtype in _DTYPES.items()}
# Operators that compute the network, by the beginning of their names in the dispatcher.
_COMPUTE = (
    "addmm",
    "baddbmm",
    "bmm",
    "convolution",
    "linear",
    "mm",
    "mkldnn_rnn_layer",
    "_cudnn_rnn",
    "gru",
    "lstm",
    "_scaled_dot_product",
    "scaled_dot_product",
    "conv1d",
    "conv2d",
    "conv3d",
)


def offer_torch(engine: str, precisions: tuple[str, ...], fusions: tuple[str, ...]) -> Offer:
    """The offer of a PyTorch engine on the processor; why there is none, where torch cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a build for another CUDA fails with OSError
        return Offer(engine, reason=str(error), remedy="pip install 'autoopt[search]'")
    return Offer(engine, version=str(torch.__version__), precisions={"cpu": precisions}, fusions=fusions)


def torch_dtype(precision: str) -> torch.dtype:
    """The type that weights and floating-point inputs have in this precision."""
    import torch

    dtype = getattr(torch, _DTYPES[precision])
    assert isinstance(dtype, torch.dtype)
    return dtype


def precision_name(dtype: torch.dtype) -> str:
    """The precision of a type: fp32 for ``torch.float32``; other types under PyTorch's own name."""
    return _PRECISIONS.get(str(dtype), str(dtype).removeprefix("torch."))


def cast_inputs(inputs: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The floating-point tensors in this type; tokens and masks as they are."""
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs)


class TorchInputs:
    """Fixed tensors for the inputs, filled from arrays; floating-point ones in the network's own type and layout."""

    def __init__(
        self, signature: Signature, batch: int, dtype: torch.dtype, layout: torch.memory_format | None = None
    ) -> None:
        import torch

        arrays = empty_inputs(signature, batch)
        self._buffers = InputBuffers([spec.name for spec in signature.tensors], arrays)
        self._shared = tuple(torch.from_numpy(array) for array in arrays)
        self._tensors = tuple(like(tensor, dtype, layout) for tensor in self._shared)
        self._converted = [
            (tensor, shared)
            for tensor, shared in zip(self._tensors, self._shared, strict=True)
            if tensor.data_ptr() != shared.data_ptr()
        ]

    def tensors(self, inputs: tuple[np.ndarray, ...]) -> tuple[Tensor, ...]:
        """The tensors, holding these arrays' values; overwritten by the next call."""
        self._buffers.fill(inputs)
        for tensor, shared in self._converted:
            tensor.copy_(shared)
        return self._tensors

    def last(self) -> tuple[Tensor, ...]:
        """The tensors as the last call filled them."""
        return self._tensors


def like(tensor: Tensor, dtype: torch.dtype, layout: torch.memory_format | None) -> Tensor:
    """The tensor in a network's type and layout; itself where it has both, or holds no numbers of that kind."""
    import torch

    if tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if layout is torch.channels_last and tensor.dim() == 4:  # noqa: PLR2004 (images; the only shape the layout is for)
        return tensor.contiguous(memory_format=layout)
    return tensor


def to_arrays(outputs: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    """The outputs as arrays; numpy has no bfloat16, and half precision is given back as float32 likewise."""
    return tuple(
        (tensor if tensor.dtype.itemsize > 2 or not tensor.is_floating_point() else tensor.float()).numpy()  # noqa: PLR2004 (bytes of a half)
        for tensor in outputs
    )


def devices_of(tensors: Iterable[Tensor]) -> str:
    """What the tensors lie on, as hardware is called: ``cuda``, or ``cpu, cuda`` where they lie on both."""
    return ", ".join(sorted({tensor.device.type for tensor in tensors}))


def executed_types(call: Callable[[], Any]) -> dict[str, int]:
    """The operators that computed during the call, counted by the precision of their first tensor."""
    from torch.utils._python_dispatch import TorchDispatchMode

    counts: Counter[str] = Counter()

    class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call] # PyTorch's own
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.name().removeprefix("aten::").startswith(_COMPUTE):
                counts[precision_name(args[0].dtype)] += 1
            return func(*args, **(kwargs or {}))

    with _Watch():  # type: ignore[no-untyped-call] # PyTorch's own
        call()
    return dict(counts)
