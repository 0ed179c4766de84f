"""What a network takes: the names, shapes and types of its inputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """One input. ``shape`` leaves the batch dimension, which comes first, out."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """numpy's name: float32, int64, uint8, …"""


@dataclass(frozen=True)
class Signature:
    """The inputs in order, and how the network's ``forward`` takes them.

    ``structure`` is "array" (one positional argument), "tuple" (several) or "dict" (keyword arguments by name).
    """

    structure: str
    tensors: tuple[TensorSpec, ...]
