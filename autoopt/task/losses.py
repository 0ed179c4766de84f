"""What training minimizes: by name, by the targets' type, or the user's own function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from autoopt.errors import TaskError
from autoopt.task.metrics import function_of

if TYPE_CHECKING:
    from torch import Tensor

Loss: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


def resolve_loss(loss: str | Callable[..., Any], targets_dtype: str) -> Loss:
    """A function of tensors (outputs, targets) -> scalar.

    Args:
        loss: "auto", "cross_entropy", "mse" or a function.
        targets_dtype: numpy's name; "auto" chooses by it.

    Raises:
        TaskError: an unknown name (the allowed ones are listed).
    """
    if not isinstance(loss, str):
        return function_of(loss, "loss", ("auto", *LOSSES))
    name = loss_name(loss, targets_dtype)
    if name not in LOSSES:
        message = f"unknown loss {name!r}; allowed are auto, {', '.join(LOSSES)}, or a function (outputs, targets)"
        raise TaskError(message)
    return LOSSES[name]


def loss_name(loss: str, targets_dtype: str) -> str:
    """The name with "auto" resolved: cross_entropy for integer targets, mse for real ones."""
    if loss != "auto":
        return loss
    return "mse" if targets_dtype.startswith(("float", "bfloat")) else "cross_entropy"


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """outputs: (N, classes, ...); targets: integers, (N, ...)."""
    from torch.nn import functional

    return functional.cross_entropy(outputs, targets.long())


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Both of one size; a missing last axis of 1 is added, because (N, 1) against (N,) would broadcast to (N, N)."""
    from torch.nn import functional

    return functional.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse}
