"""What the engines share: which precisions a processor executes, checking a request, copying inputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoopt.records.environment import cpu_flags
from autoopt.workers.refusal import unsupported

if TYPE_CHECKING:
    from autoopt.records import Deployment, Signature
    from autoopt.workers.engines.base import Offer

# A processor without one of these would compute in FP32 and convert, silently.
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_FP16_FLAGS = frozenset({"avx512_fp16", "amx_fp16", "asimdhp"})

QUANTIZED_SHARE = 0.5
"""The share of compute nodes from which on the whole is called by a precision other than FP32.

Quantizers leave the last layer in FP32, which is half of the nodes of the smallest networks.
"""


def float_precisions() -> tuple[str, ...]:
    """fp32, and the shorter ones that this processor has instructions for."""
    flags = cpu_flags()
    shorter = (("bf16", _BF16_FLAGS), ("fp16", _FP16_FLAGS))
    return ("fp32", *(name for name, needed in shorter if flags & needed))


def require_offered(offer: Offer, deployment: Deployment) -> None:
    """Refuse a deployment that the engine does not offer on this machine.

    Raises:
        StageError: UNSUPPORTED, with what is offered.
    """
    if not offer.available:
        message = f"{offer.engine} cannot run here: {offer.reason}. To mend it: {offer.remedy}"
        raise unsupported(message)
    precisions = offer.precisions.get(deployment.hardware)
    if precisions is None:
        allowed = ", ".join(offer.precisions)
        why = offer.lacking.get(deployment.hardware)
        because = f" ({why})" if why else ""
        message = f"{offer.engine} does not run on {deployment.hardware} here{because}; it runs on {allowed}"
        raise unsupported(message)
    if deployment.precision not in precisions:
        allowed = ", ".join(precisions)
        message = f"{offer.engine} does not execute {deployment.precision} here; it executes {allowed}"
        raise unsupported(message)
    fusions = offer.fusions_on(deployment.hardware)
    if deployment.fusion not in fusions:
        message = (
            f"{offer.engine} has no fusion level {deployment.fusion!r} on {deployment.hardware}; "
            f"allowed are {', '.join(fusions)}"
        )
        raise unsupported(message)


def precision_by_share(counts: dict[str, int]) -> tuple[str, str]:
    """What a network's precision is called, from its compute nodes counted by the precision they execute in.

    Returns:
        The precision that at least `QUANTIZED_SHARE` of the nodes run in, "fp32" where there is none, and the counts in words:
        ``20 of 22 int8``.
    """
    total = sum(counts.values())
    words = ", ".join(f"{count} of {total} {name}" for name, count in sorted(counts.items())) or "no compute nodes"
    shorter = {name: count for name, count in counts.items() if name != "fp32"}
    chief = max(shorter, key=lambda name: shorter[name], default="fp32")
    return (chief if shorter and shorter[chief] >= QUANTIZED_SHARE * total else "fp32"), words


class InputBuffers:
    """Fixed arrays, one an input, into which every call's inputs are copied.

    Copying the few kilobytes of a sample costs less than handing a runtime a new array each time, and a caller's array may be
    read-only or not contiguous (memory-mapped data sets are both).
    """

    def __init__(self, names: Sequence[str], buffers: Sequence[np.ndarray]) -> None:
        self._names = tuple(names)
        self._buffers = tuple(buffers)
        self._shapes = tuple(buffer.shape for buffer in buffers)

    def fill(self, inputs: tuple[np.ndarray, ...]) -> None:
        """Copy the inputs in.

        Raises:
            ValueError: another number of inputs, or other shapes, than the artifact was built for.
        """
        # numpy would broadcast one sample over a whole batch without a word.
        if tuple([array.shape for array in inputs]) != self._shapes:
            raise ValueError(self._mismatch(inputs))
        for buffer, array in zip(self._buffers, inputs, strict=True):
            np.copyto(buffer, array)

    def _mismatch(self, inputs: tuple[np.ndarray, ...]) -> str:
        wanted = ", ".join(f"{name} {shape}" for name, shape in zip(self._names, self._shapes, strict=True))
        given = ", ".join(str(array.shape) for array in inputs)
        return f"the artifact takes {wanted}; given were {given}"


def empty_inputs(signature: Signature, batch: int) -> tuple[np.ndarray, ...]:
    """Zeros of the inputs' shapes, ``(batch, *shape)``, and types."""
    return tuple(np.zeros((batch, *spec.shape), spec.dtype) for spec in signature.tensors)


def thread_count() -> int:
    """Threads of this process; 0 where the operating system does not tell."""
    tasks = Path("/proc/self/task")
    return len(os.listdir(tasks)) if tasks.exists() else 0  # noqa: PTH208 (only the count is wanted)
