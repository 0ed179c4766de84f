"""A network as TVM's Relax program.

PyTorch's exported program is preferred to ONNX: with recurrent cells decomposed to products and activations it covers LSTM and GRU,
which TVM's ONNX frontend does not.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.errors import StageError
from autoopt.workers import formats
from autoopt.workers.engines.pytorch_fusion import fold_batch_norms
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import torch
    from tvm.ir import IRModule

    from autoopt.workers.engines.base import Source


def import_network(source: Source, batch: int) -> IRModule:
    """The network as a Relax program with one function, "main", whose inputs are in the signature's order.

    Raises:
        StageError: UNSUPPORTED, with the reasons of every way that was tried.
    """
    ways = [_from_onnx] if source.format == "onnx" else [_from_module, _from_decomposed, _from_onnx]
    reasons = []
    for way in ways:
        try:
            with refusing("TVM cannot import the network"), _quiet():
                return way(source, batch)
        except StageError as error:
            reasons.append(error.message)
    message = "; ".join(dict.fromkeys(reasons))
    raise unsupported(message)


def _from_onnx(source: Source, batch: int) -> IRModule:
    from tvm.relax.frontend.onnx import from_onnx

    with tempfile.TemporaryDirectory(prefix="autoopt-tvm-") as folder:
        model = formats.load(formats.convert(source, "onnx", batch, Path(folder)))
    order = {spec.name: place for place, spec in enumerate(source.signature.tensors)}
    # Old files list their weights among the inputs.
    inputs = sorted(model.graph.input, key=lambda value: order.get(value.name, len(order)))
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    program: IRModule = from_onnx(model, keep_params_in_input=False)
    return program


def _from_module(source: Source, batch: int) -> IRModule:
    """Whole operators, which fuse better than what PyTorch would make of them."""
    return _translated(_exported(source, batch).run_decompositions(_lacking()))


def _from_decomposed(source: Source, batch: int) -> IRModule:
    """The few operators that PyTorch has in the end, for networks with one that TVM lacks."""
    from torch.export import default_decompositions

    table = {operator: function for operator, function in _lacking().items() if function is not _attention}
    return _translated(_exported(source, batch).run_decompositions({**default_decompositions(), **table}))


def _exported(source: Source, batch: int) -> torch.export.ExportedProgram:
    import torch

    module = formats.load(source)
    with contextlib.suppress(
        StageError
    ):  # there are none, or TVM's own pass finds them: those after convolutions without a bias
        fold_batch_norms(module)
    inputs = formats.example_inputs(source.signature, batch)
    with torch.no_grad():
        return torch.export.export(formats.Positional(module, source.signature), inputs, strict=False)


def _translated(exported: torch.export.ExportedProgram) -> IRModule:
    from tvm.relax.frontend.torch import from_exported_program

    _count_from_front(exported)
    program: IRModule = from_exported_program(
        exported, keep_params_as_input=False, unwrap_unit_return_tuple=True, run_ep_decomposition=False
    )
    return program


def _count_from_front(exported: torch.export.ExportedProgram) -> None:
    """Positions and dimensions counted from the end, as they are from the front.

    TVM 0.26 reads a selected position of -1 as it stands, outside of the tensor, and cannot change the layout around a squeezed
    dimension of -1.
    """
    from torch import ops

    for node in exported.graph.nodes:
        if node.target not in {ops.aten.select.int, ops.aten.squeeze.dim, ops.aten.squeeze.dims}:
            continue
        tensor, dimensions, *position = node.args
        shape = tensor.meta["val"].shape
        if position:
            node.args = (tensor, dimensions, position[0] % shape[dimensions])
        elif isinstance(dimensions, int):
            node.args = (tensor, dimensions % len(shape))
        else:
            node.args = (tensor, [dimension % len(shape) for dimension in dimensions])


def _lacking() -> dict[Any, Callable[..., Any]]:
    """Decompositions of what TVM lacks or has slower: recurrent layers, and attention.

    TVM makes one task of an attention, which cannot be tuned well: 154 µs of it were 79 µs as two products and a softmax.
    """
    from torch import ops
    from torch._decomp import get_decompositions

    table: dict[Any, Callable[..., Any]] = dict(
        get_decompositions([ops.aten.lstm.input, ops.aten.gru.input, ops.aten._unsafe_view])  # noqa: SLF001 (an operator's name)
    )
    return table | {ops.aten.scaled_dot_product_attention.default: _attention}


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 (the operator's own signature; zero when a network is served)
    is_causal: bool = False,  # noqa: FBT001, FBT002 (likewise)
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention as two products and a softmax; what it leaves to PyTorch is then decomposed altogether."""
    if attn_mask is not None or is_causal or enable_gqa:
        return NotImplemented
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return ((query * factor) @ key.transpose(-2, -1)).softmax(-1) @ value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's and the frontend's warnings; whether the result is right is checked on its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
