"""The task's own student network, with as much of the original's weights as fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques._network import example, outputs, parameter_count, runs_alike, shapes

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context, Facts


def from_factory(model: nn.Module, context: Context, *, width: float, depth: float) -> tuple[nn.Module, Facts]:
    """``student(width=, depth=)`` of the task, inheriting from ``model``.

    Raises:
        StageError: UNSUPPORTED where the task has no factory, or its network has other outputs than the original.
    """
    factory = context.task.student
    if factory is None:
        message = 'the task has no student factory: give Task(student=...), or use source "blocks"'
        raise unsupported(message)
    torch.manual_seed(context.seed)
    student: nn.Module = factory(width=width, depth=depth).eval()
    inputs = example(context)
    problem = runs_alike(student, inputs, context, shapes(outputs(model, inputs, context)))
    if problem:
        message = f"the task's student(width={width}, depth={depth}) does not stand in for the network: {problem}"
        raise unsupported(message)
    share = inherit(student, model)
    return student, {
        "parameters_before": parameter_count(model),
        "parameters_after": parameter_count(student),
        "removed": "",
        "inherited": share,
    }


@torch.no_grad()
def inherit(student: nn.Module, original: nn.Module) -> float:
    """Copy into each tensor of the student the leading slice of the original's tensor of that name, where it is as large.

    Returns:
        The share of the student's values (parameters and buffers) that were inherited, in [0, 1].
    """
    donors = original.state_dict()
    inherited = total = 0
    for name, tensor in student.state_dict().items():
        total += tensor.numel()
        donor = donors.get(name)
        if donor is not None and _covers(donor, tensor):
            tensor.copy_(donor[tuple(slice(size) for size in tensor.shape)])
            inherited += tensor.numel()
    return inherited / total if total else 0.0


def _covers(donor: torch.Tensor, tensor: torch.Tensor) -> bool:
    return donor.dim() == tensor.dim() and all(
        wanted <= there for wanted, there in zip(tensor.shape, donor.shape, strict=True)
    )
