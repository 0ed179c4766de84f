"""A Relax program lowered to loop nests: in the layout that convolutions run best in, fused into tasks; later with their schedules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from autoopt.errors import StageError
from autoopt.workers.refusal import refusing, unsupported

if TYPE_CHECKING:
    from tvm.ir import IRModule
    from tvm.s_tir.meta_schedule.database import Database
    from tvm.target import Target

# Channels last for activations, so that output channels are what is vectorized: with channels first the tuned kernels of a
# ResNet-20 took a quarter longer. Weights are packed anew for every tuned schedule anyway.
_LAYOUT = {"relax.nn.conv2d": ["NHWC", "HWIO"]}
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def to_tasks(program: IRModule, target: Target) -> IRModule:
    """The program as calls of fused loop nests, whose constant operands may be laid out as a schedule wishes.

    Raises:
        StageError: UNSUPPORTED where TVM has no loops for an operator.
    """
    import tvm

    with refusing("TVM cannot lower the network"), target, tvm.transform.PassContext(opt_level=3):
        program = _folded(program)
        fused = _fused(_channels_last(program))
        if _without_loops(fused):  # as transposed convolutions are in this layout
            fused = _fused(program)
    left = _without_loops(fused)
    if left:
        message = f"TVM has no loops for {', '.join(sorted(left))}"
        raise unsupported(message)
    return fused


def scheduled(tasks: IRModule, database: Database, target: Target) -> IRModule:
    """The tasks with their best schedules, and constant operands laid out as those want them."""
    import tvm
    from tvm.relax import transform

    with target, tvm.transform.PassContext(opt_level=3):
        with database:
            program = transform.MetaScheduleApplyDatabase()(tasks)
        laid_out: IRModule = tvm.transform.Sequential(
            [
                transform.SplitLayoutRewritePreproc(),
                transform.FoldConstant(),
                transform.CanonicalizeBindings(),
                transform.DeadCodeElimination(["main"]),
            ]
        )(program)
    return laid_out


def computed_types(program: IRModule) -> dict[str, int]:
    """How many kernels of a program sum up products, by the precision that they multiply in."""
    from tvm.tirx import PrimFunc
    from tvm.tirx.stmt_functor import post_order_visit

    counts: Counter[str] = Counter()
    for kernel in program.functions.values():
        if isinstance(kernel, PrimFunc):
            found: set[str] = set()
            post_order_visit(kernel.body, lambda node, found=found: found.update(_multiplied(node)))
            counts.update(_PRECISIONS.get(dtype, dtype) for dtype in found)
    return dict(counts)


def _folded(program: IRModule) -> IRModule:
    """Batch normalizations in the convolutions before them."""
    import tvm
    from tvm.relax import transform

    folded: IRModule = tvm.transform.Sequential(
        [transform.FoldBatchnormToConv2D(), transform.DecomposeOpsForInference(), transform.FoldConstant()]
    )(program)
    return folded


def _fused(program: IRModule) -> IRModule:
    import tvm
    from tvm.relax import transform

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
    )(_spelled_out(program))
    return fused


def _without_loops(program: IRModule) -> set[str]:
    """The operators that are left as they were."""
    from tvm import ir, relax

    left: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, relax.Call) and isinstance(node.op, ir.Op) and node.op.name.startswith("relax.nn."):
            left.add(node.op.name)

    relax.analysis.post_order_visit(program["main"], visit)
    return left


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


def _multiplied(node: Any) -> tuple[str, ...]:
    """The type in which a statement like ``sum[i] = sum[i] + a[i] * b[i]`` multiplies; empty for any other."""
    from tvm import tirx

    if not (isinstance(node, tirx.BufferStore) and isinstance(node.value, tirx.Add)):
        return ()
    summed, product = node.value.a, node.value.b
    same = isinstance(summed, tirx.BufferLoad) and summed.buffer.same_as(node.buffer)
    return (str(product.ty.dtype),) if same and isinstance(product, tirx.Mul) else ()
