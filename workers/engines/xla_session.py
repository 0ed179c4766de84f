"""Executables of XLA, ready to run.

A call copies the inputs to memory that XLA reads in place and takes the outputs where XLA left them: 10 µs for a network of two inputs
and three small products, of which XLA takes 5. Handing over the inputs anew each time costs 13 µs more, asking for the outputs as lists 3;
jax takes 10 for the least of its compiled functions, between arrays of numpy, and 0.4 s to be imported, which jaxlib is in 0.03.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from autoopt.records import Effective, Signature
from autoopt.workers.engines.base import Session
from autoopt.workers.engines.common import InputBuffers, empty_inputs, precision_by_share
from autoopt.workers.engines.xla_client import Client, jaxlib_version
from autoopt.workers.engines.xla_hlo import executed_types

if TYPE_CHECKING:
    from collections.abc import Sequence

_DLPACK_CPU = (1, 0)
"""DLPack's number of the kind of device, and the device's."""
_ALIGNMENT = 64
"""Bytes: what XLA shall read in place begins at a multiple of it."""


class XlaSession(Session):
    """What sessions on every device have: an executable, and what it says of itself."""

    def __init__(self, client: Client, executable: Any, how: str) -> None:
        self._client = client
        self._executable = executable
        self._how = how

    def effective(self) -> Effective:
        """Read from the optimized program, which the executable keeps, and from the system's list of threads."""
        nodes = executed_types(self._executable)
        precision, words = precision_by_share(nodes)
        return Effective(
            nodes=nodes,
            engine_version=jaxlib_version(),
            hardware=self._client.platform(),
            precision=precision,
            threads=self._client.threads(),
            details={"compute nodes": words, "executable": self._how},
        )


class XlaHostSession(XlaSession):
    """On the CPU, where inputs and outputs are fixed memory of ours and XLA's own."""

    def __init__(self, client: Client, executable: Any, how: str, signature: Signature, batch: int) -> None:
        super().__init__(client, executable, how)
        arrays = [_aligned(array) for array in empty_inputs(signature, batch)]
        self._inputs = _buffers(arrays, signature)
        self._given = [_read_in_place(array, client.device) for array in arrays]
        self._run = executable.execute_sharded
        self._handlers: list[Any] | None = None

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        self._inputs.fill(inputs)
        results = self._run(self._given)
        if self._handlers is None:
            return self._first(results)
        return tuple([np.from_dlpack(_OnHost(buffer)) for buffer in results.consume_with_handlers(self._handlers)])

    def _first(self, results: Any) -> tuple[np.ndarray, ...]:
        """The outputs of the first call, by whose shapes the others' are taken."""
        from jaxlib import xla_client

        with _without_jax():
            shards = results.disassemble_into_single_device_arrays()
        outputs = tuple(np.from_dlpack(_OnHost(buffer)) for (buffer,) in shards)
        place = xla_client.SingleDeviceSharding(self._client.device)
        kinds = [SimpleNamespace(shape=output.shape, dtype=output.dtype, weak_type=False) for output in outputs]
        self._handlers = [
            xla_client.array_result_handler(kind, place, committed=True, _skip_checks=True) for kind in kinds
        ]
        return outputs


class XlaDeviceSession(XlaSession):
    """On another device, to and from which jax copies."""

    def __init__(self, client: Client, executable: Any, how: str, signature: Signature, batch: int) -> None:
        super().__init__(client, executable, how)
        self._arrays = list(empty_inputs(signature, batch))
        self._inputs = _buffers(self._arrays, signature)

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference."""
        import jax

        self._inputs.fill(inputs)
        results = self._executable.execute_sharded(jax.device_put(self._arrays, self._client.device))
        return tuple(np.asarray(buffer) for (buffer,) in results.disassemble_into_single_device_arrays())


class _OnHost:
    """A buffer of the CPU's client as numpy wants it: without jax it lacks the methods by which numpy asks."""

    __slots__ = ("_buffer",)

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def __dlpack__(self, **_: Any) -> Any:
        """The memory, which lives as long as an array sees it."""
        return _jaxlib().buffer_to_dlpack_managed_tensor(self._buffer)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where it is."""
        return _DLPACK_CPU


def _buffers(arrays: Sequence[np.ndarray], signature: Signature) -> InputBuffers:
    return InputBuffers([spec.name for spec in signature.tensors], arrays)


def _aligned(array: np.ndarray) -> np.ndarray:
    """An array like it, that XLA can read in place."""
    memory = np.zeros(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)


def _read_in_place(array: np.ndarray, device: Any) -> Any:
    """A buffer of the device that is the array's memory."""
    with _without_jax():
        return _jaxlib().dlpack_managed_tensor_to_buffer(array.__dlpack__(), device, None, False, _DLPACK_CPU[0])  # noqa: FBT003 (copy)


def _jaxlib() -> Any:
    """The functions of jaxlib that its own ``xla_client`` does not name."""
    from jaxlib import _jax

    return _jax


@contextmanager
def _without_jax() -> Iterator[None]:
    """Keep jaxlib from importing jax, which takes 0.4 s, to describe arrays in its terms: nobody asks for them here."""
    if "jax" in sys.modules:
        yield
        return
    sys.modules["jax"] = None  # type: ignore[assignment] # as Python itself marks what cannot be imported
    try:
        yield
    finally:
        del sys.modules["jax"]
