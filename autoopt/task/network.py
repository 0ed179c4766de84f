"""The original network, as a module or an ONNX file: run it, identify it, save it.

What autoopt compares everything with is this network, run the plainest way: PyTorch eager, or ONNX Runtime's defaults.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from autoopt.errors import TaskError
from autoopt.task.identity import code_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoopt.records import Signature

BATCH = 128
"""Samples a call."""
MODULE_FILE = "module.pt"


class Original(ABC):
    """The original network in memory."""

    format: ClassVar[str]

    @abstractmethod
    def identity(self) -> str:
        """A digest of structure and weights."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write it into the folder, in `autoopt.workers.formats`' layout."""

    @abstractmethod
    def run(self, inputs: tuple[np.ndarray, ...], signature: Signature) -> np.ndarray:
        """The first output, (n, ...), for inputs (n, ...). Raises whatever the network raises."""


class ModuleOriginal(Original):
    """A PyTorch module, in eval mode on the CPU."""

    format = "module"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @classmethod
    def open(cls, folder: Path) -> ModuleOriginal:
        """What `save` has written. The user's code must be importable."""
        import torch

        return cls(torch.load(folder / MODULE_FILE, map_location="cpu", weights_only=False))

    def identity(self) -> str:
        """Weights, buffers, classes' code and plain attributes of every submodule."""
        whole = hashlib.sha256()
        for part in _module_parts(self.module):
            whole.update(part)
        return whole.hexdigest()

    def save(self, folder: Path) -> None:
        """Pickled whole; by value where its class lives in a notebook or script, which no other process can import."""
        import cloudpickle
        import torch

        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(self.module, folder / MODULE_FILE, pickle_module=cloudpickle)
        except OSError:
            raise
        except Exception as error:  # pickling runs the user's own code: whatever it raises is told
            message = (
                f"the network cannot be saved: {type(error).__name__}: {error}. Give a plain nn.Module "
                "(no TorchScript, no open files or locks in its attributes)."
            )
            raise TaskError(message) from error

    def run(self, inputs: tuple[np.ndarray, ...], signature: Signature) -> np.ndarray:
        """PyTorch eager."""
        import torch

        tensors = [torch.from_numpy(np.array(array)) for array in inputs]  # a copy: mapped arrays are read-only
        with torch.inference_mode():
            if signature.structure == "dict":
                names = (spec.name for spec in signature.tensors)
                outputs = self.module(**dict(zip(names, tensors, strict=True)))
            else:
                outputs = self.module(*tensors)
        first = next(_tensors(outputs), None)
        if first is None:
            message = f"the network returns a {type(outputs).__name__} without a tensor"
            raise TypeError(message)
        first = first.float() if first.dtype in (torch.bfloat16, torch.float64) else first
        array: np.ndarray = first.cpu().numpy()
        return array


def open_module(network: nn.Module | Callable[[], nn.Module]) -> ModuleOriginal:
    """A copy of the module, on the CPU and in eval mode; the user's own stays as it is.

    Raises:
        TaskError: the factory raises or returns no module, or the module cannot be copied.
    """
    import torch
    from torch import nn

    module: Any = network
    if not isinstance(network, nn.Module) and callable(network):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # a factory that leaves weights at random gives the same in every process
                module = network()
        except TaskError:
            raise
        except Exception as error:  # the user's own function: whatever it raises is told
            message = f"the network's factory fails: {type(error).__name__}: {error}"
            raise TaskError(message) from error
    if not isinstance(module, nn.Module):
        message = (
            f"network is a {type(module).__name__}; give an nn.Module, a function that makes one, or an .onnx file"
        )
        raise TaskError(message)
    try:
        return ModuleOriginal(copy.deepcopy(module).cpu().eval())
    except (RuntimeError, TypeError) as error:
        message = f"the network cannot be copied: {error}. Give a function that makes it instead."
        raise TaskError(message) from error


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """Every tensor of what ``forward`` returned, depth first."""
    from torch import Tensor

    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        yield from _tensors(tuple(outputs.values()))
    elif isinstance(outputs, tuple | list):
        for each in outputs:
            yield from _tensors(each)


def _module_parts(module: nn.Module) -> Iterator[bytes]:
    import torch

    for tensors in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, tensor in tensors:
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    for name, part in module.named_modules():
        yield f"{name} {code_digest(type(part))} {code_digest(_attributes(part))}".encode()


def _attributes(module: nn.Module) -> dict[str, Any]:
    kinds = (str, bool, int, float, type(None), tuple, list, dict, FunctionType)
    return {k: v for k, v in sorted(vars(module).items()) if not k.startswith("_") and isinstance(v, kinds)}
