"""Torch-Pruning's dependency graph, put to use: find groups, rate their channels, remove some, check that the network lives."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch_pruning
from torch import nn

from autoopt.workers.refusal import unsupported
from autoopt.workers.techniques._channels import Choice, Group, removals
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
from autoopt.workers.techniques._recurrent import RecurrentPruner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoopt.workers.techniques.base import Context, Facts

TAYLOR_SAMPLES = 512
TAYLOR_BATCH = 64
ROOTS = (nn.modules.conv._ConvNd, nn.Linear, nn.LSTM, nn.GRU)  # noqa: SLF001 (the only common class of convolutions)


def pruned(model: nn.Module, context: Context, choice: Choice, *, taylor: bool) -> tuple[nn.Module, Facts]:
    """A copy of the network with fewer channels.

    Raises:
        StageError: UNSUPPORTED where no channel can go and leave a network that runs and has outputs of the same shapes.
    """
    inputs = example(context)
    expected = shapes(outputs(model, inputs, context))
    groups = _rated(model, inputs, context, taylor=taylor)
    going = removals(groups, choice)
    if choice.ratio > 0 and not going:
        message = f"no channel can go: {len(groups)} groups, ratio {choice.ratio}, multiples of {choice.round_to} kept"
        raise unsupported(message)
    smaller, problem = _attempt(model, going, inputs, context, expected)
    if problem:
        # Somewhere a size stands in the network's own code (a view, a number of heads). Leave those groups as they are.
        going = {
            root: channels
            for root, channels in going.items()
            if _attempt(model, {root: channels}, inputs, context, expected)[1] is None
        }
        smaller, second = _attempt(model, going, inputs, context, expected)
        if second or not going:
            message = f"channels cannot be removed from this network: {problem}"
            raise unsupported(message)
    total = sum(len(group.importance) for group in groups)
    return smaller, {
        "parameters_before": parameter_count(model),
        "parameters_after": parameter_count(smaller),
        "channels_before": total,
        "channels_after": total - sum(map(len, going.values())),
        "groups": len(groups),
    }


def _attempt(
    model: nn.Module,
    going: Mapping[str, list[int]],
    inputs: Tensors,
    context: Context,
    expected: tuple[tuple[int, ...], ...],
) -> tuple[nn.Module, str | None]:
    """A copy without these channels, and what is wrong with it (None where nothing is)."""
    smaller = copy.deepcopy(model)
    try:
        graph = _graph(smaller, inputs, context)
        for root, channels in going.items():
            module = smaller.get_submodule(root)
            remove = graph.get_pruner_of_module(module).prune_out_channels
            group = graph.get_pruning_group(module, remove, channels)
            if not graph.check_pruning_group(group):
                return smaller, f"{root} would be left without channels"
            with torch.no_grad():
                group.prune()
    except STRUCTURE_ERRORS as error:
        return smaller, f"Torch-Pruning fails ({type(error).__name__}: {error})"
    return smaller, runs_alike(smaller, inputs, context, expected)


def _graph(model: nn.Module, inputs: Tensors, context: Context) -> Any:
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with warnings.catch_warnings():
        # It tells of every parameter that belongs to no layer it knows, and then treats it well.
        warnings.simplefilter("ignore")
        return torch_pruning.DependencyGraph().build_dependency(
            model,
            inputs,
            forward_fn=lambda network, _: call(network, inputs, context),
            customized_pruners={nn.LSTM: RecurrentPruner(), nn.GRU: RecurrentPruner()},
        )


def _rated(model: nn.Module, inputs: Tensors, context: Context, *, taylor: bool) -> list[Group]:
    """The groups that can be pruned, with the importance of their channels."""
    try:
        graph = _graph(model, inputs, context)
        found = list(graph.get_all_groups(ignored_layers=_last_layers(model, inputs, context), root_module_types=ROOTS))
    except STRUCTURE_ERRORS as error:
        message = f"Torch-Pruning cannot follow this network ({type(error).__name__}: {error})"
        raise unsupported(message) from error
    if taylor:
        _gradients(model, context)
    rate = (
        torch_pruning.importance.GroupTaylorImportance if taylor else torch_pruning.importance.GroupMagnitudeImportance
    )
    importance = rate()
    names = {module: name for name, module in model.named_modules()}
    rated = [_group(names, graph, group, _importance(importance, group)) for group in found if not _is_output(group)]
    for parameter in model.parameters():
        parameter.grad = None
    return [group for group in rated if group is not None]


def _importance(rate: Any, group: Any) -> torch.Tensor | None:
    """None where Torch-Pruning has lost track of the channels (a concatenation of flattened maps, for one)."""
    try:
        found: torch.Tensor | None = rate(group)
    except STRUCTURE_ERRORS:
        return None
    return found


def _group(names: Mapping[nn.Module, str], graph: Any, found: Any, importance: torch.Tensor | None) -> Group | None:
    root = found[0].dep.target.module
    if importance is None or root not in names or len(importance) != len(found[0].idxs):
        return None
    repeats = max(_repeats(graph, dependency) for dependency, _ in found)
    if len(importance) % repeats or not torch.isfinite(importance).all():
        return None
    return Group(names[root], importance.detach().cpu(), repeats)


def _repeats(graph: Any, dependency: Any) -> int:
    """The equal parts of a layer from each of which the same channels must go: its heads or convolution groups."""
    layer = dependency.target.module
    if isinstance(layer, nn.MultiheadAttention):
        return int(layer.num_heads)
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.out_channels:  # noqa: SLF001 (as above)
        return 1
    pruner = graph.get_pruner_of_module(layer)
    outgoing = graph.is_out_channel_pruning_fn(dependency.handler)
    return int(pruner.get_out_channel_groups(layer) if outgoing else pruner.get_in_channel_groups(layer))


def _is_output(group: Any) -> bool:
    return any(dependency.target.type == torch_pruning.ops.OPTYPE.OUTPUT for dependency, _ in group)


def _last_layers(model: nn.Module, inputs: Tensors, context: Context) -> list[nn.Module]:
    """The layers whose output is an output of the network."""
    made: list[tuple[nn.Module, Any]] = []
    layers = [module for module in model.modules() if isinstance(module, ROOTS)]
    handles = [layer.register_forward_hook(lambda module, _, result: made.append((module, result))) for layer in layers]
    try:
        results = outputs(model, inputs, context)
    finally:
        for handle in handles:
            handle.remove()
    return [module for module, result in made if any(result is output for output in results)]


def _gradients(model: nn.Module, context: Context) -> None:
    """Leave in ``.grad`` the gradient of the task's loss over calibration samples."""
    model.eval().zero_grad(set_to_none=True)
    for inputs, targets in batches(context, "calibration", TAYLOR_SAMPLES, TAYLOR_BATCH):
        loss = context.task.loss(call(model, inputs, context)[0], targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves this method without hints
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
