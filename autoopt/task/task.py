"""The task: what is optimized, as the user writes it in ten lines.

Nothing is read, copied or checked here; `prepare` does that, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    Array: TypeAlias = np.ndarray | Tensor
    Inputs: TypeAlias = Array | Sequence[Array] | Mapping[str, Array]

Split: TypeAlias = Any
"""(inputs, targets): arrays or tensors; or any map-style data set (``__len__``, ``__getitem__``) of (input, target) items."""


@dataclass(frozen=True)
class Task:
    """A trained network, the data to judge it by, and the metric.

    Inputs are an array ``(N, ...)``, a tuple of arrays, or a dict of arrays (passed to the network by keyword).
    Outputs are ``(N, ...)``; a network with several outputs is judged by its first.
    """

    network: nn.Module | Callable[[], nn.Module] | str | Path
    """The trained network, a function that makes it, or the path of an .onnx file."""
    validation: Split
    """What the search judges by."""
    test: Split
    """Never read before the front is confirmed."""
    train: Split | None = None
    """Without it, only techniques that need no training are used."""
    calibration: Split | None = None
    """Default: 512 samples of train, else of validation."""
    metric: str | Callable[..., Any] = "accuracy"
    """Higher is better: a name, or ``f(outputs, targets)`` of numpy arrays -> a number, or an array (N,) of one per sample."""
    loss: str | Callable[..., Any] = "auto"
    """``auto`` (cross_entropy for integer targets, mse for real ones), a name, or ``f(outputs, targets)`` of tensors."""
    student: Callable[..., nn.Module] | None = None
    """``student(width=0.5, depth=0.5)`` makes a smaller network of the same inputs and outputs; shares of the original's."""
    example: Inputs | None = None
    """One batch of inputs. Default: the first validation sample."""
    name: str = "task"
