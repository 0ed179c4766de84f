"""What a recovering network is trained on: the task's loss and the teacher's."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def is_classification(outputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Class scores against class numbers: float ``(N, C, ...)`` against integers ``(N, ...)``."""
    return (
        outputs.is_floating_point()
        and outputs.dim() > 1
        and outputs.shape[1] > 1
        and not targets.is_floating_point()
        and targets.shape == outputs.shape[:1] + outputs.shape[2:]
    )


def distillation_loss(
    outputs: torch.Tensor, taught: torch.Tensor, targets: torch.Tensor, temperature: float
) -> torch.Tensor:
    """The distance to the teacher, a scalar.

    For class scores ``(N, C, ...)`` the Kullback-Leibler divergence of the softened probabilities, times the temperature's
    square, so that its gradients keep their size (Hinton et al. 2015); for other outputs the mean squared error.
    """
    if not is_classification(outputs, targets):
        return F.mse_loss(outputs, taught)
    student = F.log_softmax(outputs.float() / temperature, dim=1)
    teacher = F.log_softmax(taught.float() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return divergence * (temperature**2 / targets.numel())
