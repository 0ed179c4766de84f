"""From what a caller holds to what an engine takes: arrays in the signature's order, in batches of a fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autoopt.errors import UserError
from autoopt.records import Signature, TensorSpec


def arrange(given: Any, signature: Signature) -> tuple[np.ndarray, ...]:
    """The arrays in the signature's order, ``(N, *shape)`` of its dtype.

    Args:
        given: an array, a tuple of arrays or a dict of arrays by name, as the task's network takes them.
        signature: what the network takes.

    Raises:
        UserError: another structure, shape or kind of number, or inputs of unequal length.
    """
    arrays = tuple(
        _array(item, spec) for item, spec in zip(_in_order(given, signature), signature.tensors, strict=True)
    )
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        given_lengths = ", ".join(f"{spec.name} {len(a)}" for spec, a in zip(signature.tensors, arrays, strict=True))
        message = f"every input must hold the same number of samples; given were {given_lengths}"
        raise UserError(message)
    return arrays


def batches(arrays: tuple[np.ndarray, ...], size: int) -> Iterator[tuple[tuple[np.ndarray, ...], int]]:
    """Batches of exactly ``size`` samples, each with how many of them are real.

    The last one is filled up with its own last sample: an engine that quantizes by the range of a whole batch would
    answer otherwise when it were filled with anything else.
    """
    count = len(arrays[0])
    for start in range(0, count, size):
        real = min(size, count - start)
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        yield tuple(array[start : start + size] if real == size else array[chosen] for array in arrays), real


def _in_order(given: Any, signature: Signature) -> tuple[Any, ...]:
    if signature.structure == "dict":
        names = tuple(spec.name for spec in signature.tensors)
        if not isinstance(given, Mapping) or set(given) != set(names):
            shown = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            message = f"the model takes a dict with {', '.join(names)}; given was {shown}"
            raise UserError(message)
        return tuple(given[name] for name in names)
    if signature.structure == "tuple":
        if not isinstance(given, tuple | list) or len(given) != len(signature.tensors):
            shown = f"{len(given)}" if isinstance(given, tuple | list) else type(given).__name__
            message = (
                f"the model takes a tuple of {len(signature.tensors)} arrays ({_names(signature)}); given was {shown}"
            )
            raise UserError(message)
        return tuple(given)
    return (given,)


def _array(given: Any, spec: TensorSpec) -> np.ndarray:
    array = np.asarray(given)
    if array.shape[1:] != spec.shape or array.ndim == 0:
        wanted = ", ".join(("N", *map(str, spec.shape)))
        hint = "; give x[None] for a single sample" if array.shape == spec.shape else ""
        message = f"{spec.name} must have the shape ({wanted}); given was {array.shape}{hint}"
        raise UserError(message)
    dtype = np.dtype(spec.dtype)
    if not _fits(array, dtype):
        message = f"{spec.name} must be {spec.dtype}; given was {array.dtype}, which would lose what it holds"
        raise UserError(message)
    return array.astype(dtype, copy=False)


def _fits(array: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """Whether nothing but digits is lost: integers must lie in the range, for numpy would wrap them around."""
    if array.dtype.kind not in "iu" or dtype.kind not in "iu":
        return np.can_cast(array.dtype, dtype, "same_kind")
    limits = np.iinfo(dtype)
    return array.size == 0 or bool(array.min() >= limits.min and array.max() <= limits.max)


def _names(signature: Signature) -> str:
    return ", ".join(spec.name for spec in signature.tensors)
