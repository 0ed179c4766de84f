"""Networks in half precision: what they compute, and the types that stand in the graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment
from autoopt.testing.engine_networks import NETWORKS, Network
from autoopt.testing.engines import TOLERANCE
from autoopt.testing.workbench import Workbench
from autoopt.workers.formats.onnx_half import in_half

BATCH = 3
HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
QUIET = 3


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("workbench"))


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray[Any, Any]], precision: str) -> list[Any]:
    """ONNX Runtime on a processor has no BF16; ONNX's own reference, slow, has everything."""
    if precision == "bf16":
        return list(ReferenceEvaluator(model).run(None, feed))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_a_network_computes_in_half_what_it_did_and_takes_and_gives_what_it_did(
    workbench: Workbench, network: Network, precision: str
) -> None:
    source = workbench.source(network, ("onnx",), Deployment("any", batch=BATCH))
    before = onnx.load(source.path / "model.onnx")
    model = in_half(onnx.load(source.path / "model.onnx"), precision)
    onnx.checker.check_model(model, full_check=True)
    assert types(model.graph.input) == types(before.graph.input)
    assert types(model.graph.output) == types(before.graph.output)
    matrices = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1 and is_float(tensor)}
    assert matrices == {HALVES[precision]}
    feed = {spec.name: array for spec, array in zip(network.signature.tensors, network.inputs(BATCH), strict=True)}
    for output, right in zip(run(model, feed, precision), workbench.reference(network, BATCH), strict=True):
        assert np.abs(output - right).mean() / right.std() <= TOLERANCE[precision]


def types(values: Any) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in values}


def is_float(tensor: TensorProto) -> bool:
    return tensor.data_type in {TensorProto.FLOAT, *HALVES.values()}


def graph(*nodes: Any, weights: tuple[Any, ...] = (), results: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
        initializer=weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


X = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)


def test_a_result_that_is_read_inside_too_keeps_its_name_and_type() -> None:
    model = in_half(
        graph(helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"]), results=("y", "z")), "fp16"
    )
    positive, negative = run(model, {"x": X}, "fp16")
    assert positive.dtype == negative.dtype == np.float32
    np.testing.assert_allclose(positive, np.maximum(X, 0), rtol=1e-3)
    np.testing.assert_allclose(negative, -np.maximum(X, 0), rtol=1e-3)
    assert Counter(node.op_type for node in model.graph.node) == {"Cast": 3, "Relu": 1, "Neg": 1}


def test_an_operator_that_takes_no_half_stays_in_fp32_and_so_do_its_constants() -> None:
    # Scales of a Resize are FP32 by ONNX's schema: a third in FP16 would give another size.
    scales = onnx.numpy_helper.from_array(np.float32([1, 5 / 3]), "scales")
    resize = helper.make_node("Resize", ["twice", "", "scales"], ["y"], mode="nearest")
    model = in_half(graph(helper.make_node("Add", ["x", "x"], ["twice"]), resize, weights=(scales,)), "fp16")
    kept = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kept == {"scales": TensorProto.FLOAT}
    assert run(model, {"x": X}, "fp16")[0].shape == (2, 5)


def test_the_fill_of_a_mask_becomes_the_largest_number_and_infinity_stays() -> None:
    fill = onnx.numpy_helper.from_array(np.float32([-3.4e38, -np.inf, 1]), "fill")
    model = in_half(graph(helper.make_node("Add", ["x", "fill"], ["y"]), weights=(fill,)), "fp16")
    (weight,) = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    assert weight.tolist() == [-65504.0, -np.inf, 1.0]


def test_control_flow_is_refused(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, (2, 3))],
    )
    always = onnx.numpy_helper.from_array(np.array(True), "always")  # noqa: FBT003 (a value)
    model = graph(helper.make_node("If", ["always"], ["y"], then_branch=branch, else_branch=branch), weights=(always,))
    with pytest.raises(StageError, match=r"graphs within the graph \(If\)") as refused:
        in_half(model, "fp16")
    assert refused.value.kind is FailureKind.UNSUPPORTED
