"""Folding batch normalizations into the convolutions before them, so that eager PyTorch runs one layer instead of two.

The network keeps its own class and `forward`; only the layers are exchanged. (`torch.fx.experimental.optimization.fuse` gives a
generated module instead, which cannot be pickled where annotations are strings.)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    from torch import fx, nn


def fold_batch_norms(module: nn.Module) -> None:
    """Fold, in place, every batch normalization that follows a convolution and nothing else reads in between.

    Raises:
        StageError: UNSUPPORTED where the network cannot be traced symbolically, or nothing can be folded.
    """
    from torch import fx, nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    with refusing("the network's order of layers cannot be traced"):
        graph = fx.Tracer().trace(module)
    layers: dict[str, Any] = dict(module.named_modules())
    pairs = _pairs(graph, layers)
    if not pairs:
        message = "the network has no convolution followed by a batch normalization to fold"
        raise unsupported(message)
    for convolution, norm in pairs:
        fused = fuse_conv_bn_eval(layers[convolution], layers[norm])
        module.set_submodule(convolution, fused)
        module.set_submodule(norm, nn.Identity())


def _pairs(graph: fx.Graph, layers: dict[str, Any]) -> list[tuple[str, str]]:
    """The names of the convolutions and of their batch normalizations. A layer called twice is left alone."""
    from torch import nn

    norms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    convolutions = nn.Conv1d | nn.Conv2d | nn.Conv3d
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        before: Any = node.args[0] if node.args else None
        if node.op != "call_module" or getattr(before, "op", None) != "call_module":
            continue
        norm, convolution = layers[node.target], layers[before.target]
        alone = calls[node.target] == calls[before.target] == len(before.users) == 1
        if alone and isinstance(norm, norms) and norm.track_running_stats and isinstance(convolution, convolutions):
            found.append((before.target, node.target))
    return found
