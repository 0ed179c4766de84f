"""A network as TVM's Relax program: imported, in the layout that its convolutions run best in, fused into tasks to be tuned.

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
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    import torch
    from tvm.ir import IRModule
    from tvm.target import Target

    from autoopt.workers.engines.base import Source

# Channels last for activations, so that output channels are what is vectorized: with channels first the tuned kernels of a
# ResNet-20 took a quarter longer. Weights are packed anew for every tuned schedule anyway.
_LAYOUT = {"relax.nn.conv2d": ["NHWC", "HWIO"]}


def import_network(source: Source, batch: int) -> IRModule:
    """The network as a Relax program with one function, "main", whose inputs are in the signature's order.

    Raises:
        StageError: UNSUPPORTED.
    """
    return _from_onnx(source, batch) if source.format == "onnx" else _from_module(source, batch)


def to_tasks(program: IRModule, target: Target) -> IRModule:
    """The program as calls of fused loop nests, whose constant operands may be laid out as a schedule wishes."""
    import tvm
    from tvm.relax import transform

    with target, tvm.transform.PassContext(opt_level=3):
        program = tvm.transform.Sequential(
            [transform.FoldBatchnormToConv2D(), transform.DecomposeOpsForInference(), transform.FoldConstant()]
        )(program)
        program = _spelled_out(_channels_last(program))
        fused: IRModule = tvm.transform.Sequential(
            [
                transform.FastMathTransform(),
                transform.LegalizeOps(),
                transform.AnnotateTIROpPattern(),
                transform.FoldConstant(),
                transform.FuseOps(),
                transform.FuseTIR(),
                transform.AttachAttrLayoutFreeBuffers(),
            ]
        )(program)
    return fused


def _from_onnx(source: Source, batch: int) -> IRModule:
    from tvm.relax.frontend.onnx import from_onnx

    with tempfile.TemporaryDirectory(prefix="autoopt-tvm-") as folder:
        model = formats.load(formats.convert(source, "onnx", batch, Path(folder)))
    order = [spec.name for spec in source.signature.tensors]
    inputs = {value.name: value for value in model.graph.input}
    initial = {value.name for value in model.graph.initializer}
    del model.graph.input[:]
    model.graph.input.extend([inputs[name] for name in order])
    model.graph.input.extend([value for name, value in inputs.items() if name not in order and name in initial])
    with refusing("TVM cannot read the ONNX file"), _quiet():
        program: IRModule = from_onnx(model, keep_params_in_input=False)
    return program


def _from_module(source: Source, batch: int) -> IRModule:
    import torch

    inputs = formats.example_inputs(source.signature, batch)
    with refusing("the network cannot be exported"), torch.no_grad(), _quiet():
        module = formats.Positional(formats.load(source), source.signature)
        exported = torch.export.export(module, inputs, strict=False)
    reasons = []
    # Whole operators fuse better than what PyTorch would make of them; where TVM misses one, all are decomposed.
    for table in (_few, _all):
        try:
            with refusing("TVM cannot import the network"), torch.no_grad(), _quiet():
                return _translated(exported.run_decompositions(table()))
        except StageError as error:
            reasons.append(error.message)
    message = "; ".join(dict.fromkeys(reasons))
    raise unsupported(message)


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


def _few() -> dict[Any, Callable[..., Any]]:
    """Decompositions of what TVM lacks or has slower: recurrent layers, and attention.

    TVM makes one task of an attention, which cannot be tuned well: 154 µs of it were 79 µs as two products and a softmax.
    """
    from torch import ops
    from torch._decomp import get_decompositions

    table: dict[Any, Callable[..., Any]] = dict(
        get_decompositions([ops.aten.lstm.input, ops.aten.gru.input, ops.aten._unsafe_view])  # noqa: SLF001 (an operator's name)
    )
    return table | {ops.aten.scaled_dot_product_attention.default: _attention}


def _all() -> dict[Any, Callable[..., Any]]:
    from torch.export import default_decompositions

    whole = {operator: function for operator, function in _few().items() if function is not _attention}
    return {**default_decompositions(), **whole}


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 (likewise; zero when a network is served)
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


def _channels_last(program: IRModule) -> IRModule:
    """The same with its convolutions in `_LAYOUT`; as it is where TVM cannot follow the layout through every operator."""
    from tvm.relax import transform

    if "nn.conv2d" not in program.script():
        return program
    try:
        with refusing("the layout"):
            changed: IRModule = transform.ConvertLayout(_LAYOUT)(program)
    except StageError:
        return program
    return changed


def _spelled_out(program: IRModule) -> IRModule:
    """GELU, SiLU and the sigmoid in terms of erf and exp, of which TVM has vectorized approximations.

    They are as exact as FP32 allows. The C library's erf, one element at a time, took 126 of a transformer layer's 480 µs.
    """
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    op = relax.op

    @mutator
    class _SpellOut(PyExprMutator):  # type: ignore[misc] # untyped
        def visit_call_(self, call: Any) -> Any:
            call = super().visit_call_(call)
            function = spelled.get(getattr(call.op, "name", ""))
            return call if function is None else function(self.builder_.emit, call.args[0])

    def constant(x: Any, value: float) -> Any:
        return relax.const(value, x.ty.dtype)

    def gelu(emit: Callable[[Any], Any], x: Any) -> Any:
        erf = emit(op.erf(emit(op.multiply(x, constant(x, 0.5**0.5)))))
        return op.multiply(emit(op.multiply(x, constant(x, 0.5))), emit(op.add(erf, constant(x, 1.0))))

    def sigmoid(emit: Callable[[Any], Any], x: Any) -> Any:
        exp = emit(op.exp(emit(op.negative(x))))
        return op.divide(constant(x, 1.0), emit(op.add(exp, constant(x, 1.0))))

    def silu(emit: Callable[[Any], Any], x: Any) -> Any:
        return op.multiply(x, emit(sigmoid(emit, x)))

    spelled = {"relax.nn.gelu": gelu, "relax.sigmoid": sigmoid, "relax.nn.silu": silu}
    rewriter = _SpellOut(program)
    for name, function in program.functions_items():
        if isinstance(function, relax.Function):
            rewriter.builder_.update_func(name, rewriter.visit_expr(function))
    return rewriter.builder_.get()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's and the frontend's warnings; whether the result is right is checked on its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
