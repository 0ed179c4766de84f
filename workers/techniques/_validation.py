"""The task's metric for a torch network, on the validation split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from autoopt.workers.techniques._layout import laid_out
from autoopt.workers.techniques._network import batches, outputs

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context

VALIDATION_SAMPLES = 2_000
BATCH = 250


def validate(model: nn.Module, context: Context, *, images: bool = False) -> float:
    """The score on validation samples, drawn where there are many; higher is better. Leaves the network in eval mode."""
    found, wanted = [], []
    for inputs, targets in batches(context, "validation", VALIDATION_SAMPLES, BATCH):
        found.append(outputs(model, laid_out(inputs, images=images), context)[0].float().numpy())
        wanted.append(targets.numpy())
    return float(context.task.score(np.concatenate(found), np.concatenate(wanted)))
