"""Taking modules out of a network: really, where its containers allow it, else by letting their input pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from autoopt.workers.techniques._network import STRUCTURE_ERRORS, Tensors, outputs

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context


@dataclass(frozen=True)
class Form:
    """How a module returns its first output: bare (length 0), or first in a tuple of that length."""

    length: int

    @classmethod
    def of(cls, result: Any) -> Form | None:
        """The form of what a module returned; None where it is neither."""
        if isinstance(result, torch.Tensor):
            return cls(0)
        if type(result) is tuple and result and isinstance(result[0], torch.Tensor):
            return cls(len(result))
        return None


class PassThrough(nn.Module):
    """Returns its first argument in the form in which the removed module returned its output."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The first argument, alone or as the first of a tuple whose other items are None."""
        first = arguments[0] if arguments else next(iter(named.values()))
        return (first, *[None] * (self.length - 1)) if self.length else first


def remove(model: nn.Module, forms: Mapping[str, Form], inputs: Tensors, context: Context) -> nn.Module:
    """A copy without the named modules.

    Deleted from their containers where the network then still runs and computes the same as with pass-throughs; else
    pass-throughs. Whether those run is for the caller to check.
    """
    bypassed = _bypassed(model, forms)
    deleted = _deleted(model, forms)
    expected, found = _try(bypassed, inputs, context), _try(deleted, inputs, context)
    if found is None or (expected is not None and not _same(expected, found)):
        return bypassed
    return deleted


def _bypassed(model: nn.Module, forms: Mapping[str, Form]) -> nn.Module:
    changed = copy.deepcopy(model)
    for name, form in forms.items():
        changed.set_submodule(name, PassThrough(form.length))
    return changed


def _deleted(model: nn.Module, forms: Mapping[str, Form]) -> nn.Module:
    changed = _bypassed(model, forms)
    for name in sorted(forms, key=_position, reverse=True):
        parent_name, _, child = name.rpartition(".")
        parent = changed.get_submodule(parent_name)
        if isinstance(parent, nn.Sequential | nn.ModuleList) and child.isdigit():
            del parent[int(child)]
    return changed


def _position(name: str) -> tuple[int, str]:
    # Later items first: a deletion renumbers those behind it.
    child = name.rpartition(".")[2]
    return (int(child) if child.isdigit() else -1, name)


def _try(model: nn.Module, inputs: Tensors, context: Context) -> Tensors | None:
    try:
        return outputs(model, inputs, context)
    except STRUCTURE_ERRORS:
        return None


def _same(one: Tensors, other: Tensors) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.allclose(a, b, equal_nan=True) for a, b in zip(one, other, strict=True)
    )
