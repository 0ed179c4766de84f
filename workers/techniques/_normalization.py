"""Statistics of batch normalization, estimated afresh.

A cut changes what reaches each normalization, so the recorded means and variances are wrong, and a short training has too few
steps to forget them. A few passes in training mode set them right (Sun et al. 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from autoopt.workers.techniques._layout import laid_out
from autoopt.workers.techniques._network import call
from autoopt.workers.techniques._samples import Stream, training_batch

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context

SAMPLES = 1024
FORGOTTEN_STEPS = 500
"""From so many steps on, the running averages of the training itself have forgotten where they began."""


@torch.no_grad()
def estimate_statistics(model: nn.Module, context: Context, stream: Stream, batch: int, *, images: bool) -> None:
    """Replace the running statistics by averages over the first samples of the stream; nothing for a long training."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 (the only common class of them)
        and module.track_running_stats
    ]
    if not layers or stream.steps(batch) >= FORGOTTEN_STEPS:
        return
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # an average in which every batch weighs the same
        layer.train()
    seen = 0
    for places in stream.batches(batch):
        inputs, _ = training_batch(context, places)
        call(model, laid_out(inputs, images=images), context)
        seen += len(places)
        if seen >= SAMPLES:
            break
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
