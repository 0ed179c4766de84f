"""Removing residual blocks from a network.

Which blocks can go is found by watching the network run: a block gives back the shape that it takes, has siblings of its class,
and lets its input through even when its own weights are silenced: that is what a residual connection does.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques._network import (
    STRUCTURE_ERRORS,
    Tensors,
    batches,
    call,
    example,
    outputs,
    parameter_count,
    runs_alike,
    shapes,
)
from autoopt.workers.techniques._removal import Form, remove
from autoopt.workers.techniques._watch import Passage, watch

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context, Facts

INFLUENCE_SAMPLES = 256
INFLUENCE_BATCH = 64


def without_blocks(
    model: nn.Module, context: Context, *, depth: float, width: float, order: str
) -> tuple[nn.Module, Facts]:
    """The network with ``depth`` of its removable blocks.

    Raises:
        StageError: UNSUPPORTED where no block can go, the network breaks without them, or a width is asked for.
    """
    if width != 1.0:
        message = f'width {width} needs source "factory": taking blocks out leaves the width as it is (1.0)'
        raise unsupported(message)
    inputs = example(context, batch=4)
    forms = removable(model, inputs, context)
    if not forms:
        message = "no removable block: none of at least two alike residual modules gives back its input's shape"
        raise unsupported(message)
    going = _going(list(forms), model, context, depth, order)
    before, expected = parameter_count(model), outputs(model, inputs, context)
    smaller = remove(model, {name: forms[name] for name in going}, inputs, context) if going else model
    problem = runs_alike(smaller, inputs, context, shapes(expected))
    if problem:
        message = f"without {', '.join(going)} {problem}"
        raise unsupported(message)
    return smaller, {
        "parameters_before": before,
        "parameters_after": parameter_count(smaller),
        "removable": len(forms),
        "removed": ", ".join(going),
        "inherited": 1.0,
    }


def removable(model: nn.Module, inputs: Tensors, context: Context) -> dict[str, Form]:
    """The blocks that can be taken out, by name in the order in which they run, and the form of what each returns."""
    names = _repeated(model)
    seen: dict[str, Passage] = {}

    def keep(name: str, passage: Passage) -> None:
        seen.setdefault(name, passage)

    with torch.no_grad(), watch(model, names, keep):
        call(model.eval(), inputs, context)
    fitting = {
        name: passage.form
        for name, passage in seen.items()
        if passage.form is not None and passage.keeps_shape and _is_residual(model.get_submodule(name), passage)
    }
    # Of nested ones the innermost: a stage of blocks is no block.
    return {name: form for name, form in fitting.items() if not any(o.startswith(f"{name}.") for o in fitting)}


def _repeated(model: nn.Module) -> list[str]:
    """Modules with parts of their own and at least one sibling of the same class."""
    found = []
    for parent_name, parent in model.named_modules():
        children = list(parent.named_children())
        classes = [type(child) for _, child in children]
        found += [
            f"{parent_name}.{name}" if parent_name else name
            for name, child in children
            if classes.count(type(child)) > 1
            and any(True for _ in child.children())
            and next(child.parameters(), None) is not None
        ]
    return found


@torch.no_grad()
def _is_residual(block: nn.Module, passage: Passage) -> bool:
    """Whether the output still depends on the input when every weight matrix of the block is zero."""
    silenced = copy.deepcopy(block)
    for parameter in silenced.parameters():
        if parameter.dim() > 1:
            parameter.zero_()
    try:
        one = passage.replay(silenced, passage.first)
        other = passage.replay(silenced, passage.first.flip(0) + 1)
    except STRUCTURE_ERRORS:
        return False
    return not torch.equal(one, other)


def _going(names: list[str], model: nn.Module, context: Context, depth: float, order: str) -> list[str]:
    """The blocks that go, in the order in which they run."""
    if depth == 1:
        return []
    count = max(1, len(names) - round(depth * len(names)))
    if order == "influence":
        influence = block_influence(model, names, context)
        ranked = sorted(names, key=influence.__getitem__)
    else:
        ranked = names[::-1] if order == "late" else names
    return sorted(ranked[:count], key=names.index)


def block_influence(model: nn.Module, names: list[str], context: Context) -> dict[str, float]:
    """How much each block changes what passes: 1 - mean cosine similarity of its input and output (Men et al. 2024, ShortGPT).

    The similarity is taken at each position, over the features: the channels of ``(N, C, H, W)``, else the last dimension.
    """
    similarities: dict[str, list[float]] = {name: [] for name in names}

    def compare(name: str, passage: Passage) -> None:
        features = 1 if passage.first.dim() > 3 else -1  # noqa: PLR2004 (images have more than three dimensions)
        before, after = passage.first.float(), passage.output.float()
        similarity = F.cosine_similarity(before, after, dim=features)
        silent = (before == 0).all(features) & (after == 0).all(features)
        similarities[name].append(float(torch.where(silent, 1.0, similarity).mean()))

    with torch.no_grad(), watch(model, names, compare):
        for inputs, _ in batches(context, "calibration", INFLUENCE_SAMPLES, INFLUENCE_BATCH):
            call(model.eval(), inputs, context)
    return {name: 1.0 - float(np.mean(values)) for name, values in similarities.items()}
