"""Seeing what goes into and comes out of a network's modules while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from autoopt.workers.techniques._removal import Form


@dataclass(frozen=True)
class Passage:
    """One call of a module whose first argument is a tensor."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    output: Any
    """The first output."""
    form: Form | None
    """How the module returns it; None where it is something else than a tensor or a tuple that starts with one."""

    @property
    def first(self) -> torch.Tensor:
        """The first argument."""
        found = self.arguments[0] if self.arguments else next(iter(self.named.values()))
        assert isinstance(found, torch.Tensor)
        return found

    @property
    def keeps_shape(self) -> bool:
        """Whether output and first argument could stand in for each other."""
        return bool(self.output.shape == self.first.shape and self.output.dtype == self.first.dtype)

    def replay(self, module: nn.Module, first: torch.Tensor) -> torch.Tensor:
        """The module's first output for another first argument, the rest unchanged."""
        if self.arguments:
            result = module(first, *self.arguments[1:], **self.named)
        else:
            name = next(iter(self.named))
            result = module(**{**self.named, name: first})
        tensor: torch.Tensor = result[0] if isinstance(result, tuple) else result
        return tensor


@contextmanager
def watch(model: nn.Module, names: list[str], tell: Callable[[str, Passage], None]) -> Iterator[None]:
    """Tell of every call of the named modules while the context is open."""

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
            first = arguments[0] if arguments else next(iter(named.values()), None)
            if isinstance(first, torch.Tensor):
                form = Form.of(result)
                tell(name, Passage(arguments, named, result[0] if form and form.length else result, form))

        return hook

    handles = [model.get_submodule(name).register_forward_hook(hook_for(name), with_kwargs=True) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
