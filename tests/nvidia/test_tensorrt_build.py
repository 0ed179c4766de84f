"""What is compiled: quantized networks made symmetric, and, where TensorRT-RTX is installed, plans by NVIDIA's own compiler.

TensorRT-RTX has TensorRT's interface and compiles without a GPU: ``pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoopt.errors import StageError
from autoopt.records import Deployment
from autoopt.testing.engine_networks import NETWORKS, Network
from autoopt.testing.workbench import Workbench
from autoopt.workers.engines.tensorrt_build import Wish, build_plan
from autoopt.workers.engines.tensorrt_quantized import symmetric

BATCH = 3
QUANTIZED = [network for network in NETWORKS if "int8" in network.quantizes]


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("workbench"))


def model_of(workbench: Workbench, network: Network, precision: str) -> onnx.ModelProto:
    source = workbench.source(network, ("onnx",), Deployment("tensorrt", precision, batch=BATCH))
    return onnx.load(source.path / "model.onnx")


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return list(onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feed))


@pytest.mark.parametrize("network", QUANTIZED, ids=lambda network: network.name)
def test_symmetric_networks_compute_what_they_did(workbench: Workbench, network: Network) -> None:
    feed = {spec.name: array for spec, array in zip(network.signature.tensors, network.inputs(BATCH), strict=True)}
    given = run(model_of(workbench, network, "int8"), feed)
    made = symmetric(model_of(workbench, network, "int8"))
    assert {tensor.data_type for tensor in made.graph.initializer} <= {
        TensorProto.FLOAT,
        TensorProto.INT8,
        TensorProto.INT64,
    }
    for name, array in ((tensor.name, numpy_helper.to_array(tensor)) for tensor in made.graph.initializer):
        assert "zero" not in name or not array.any()
    for output, right in zip(run(made, feed), given, strict=True):
        assert np.abs(output - right).mean() / right.std() < 0.02


def quantized(*, dtype: type, zero: int, maker: str = "Neg") -> onnx.ModelProto:
    """y = dequantized(quantized(-x)), as a quantizer for processors writes it."""
    constants = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.array(zero, dtype), "zero"),
    ]
    nodes = [
        helper.make_node(maker, ["x"], ["made"]),
        helper.make_node("QuantizeLinear", ["made", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (4,)) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "graph", [x], [y], initializer=constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


X = np.float32([-5, -0.5, 0.5, 5])


@pytest.mark.parametrize(
    ("model", "values", "operators"),
    [
        # Unsigned from zero on: what was negative is cut off, by the ReLU that the quantizer had taken away.
        (quantized(dtype=np.uint8, zero=0), [5, 0.5, 0, 0], ["Neg", "Relu"]),
        (quantized(dtype=np.uint8, zero=0, maker="Relu"), [0, 0, 0.5, 5], ["Relu"]),
        (quantized(dtype=np.uint8, zero=128), [5, 0.5, -0.5, -5], ["Neg"]),
        (quantized(dtype=np.int8, zero=0), [5, 0.5, -0.5, -5], ["Neg"]),
    ],
)
def test_a_range_keeps_what_it_held(model: onnx.ModelProto, values: list[float], operators: list[str]) -> None:
    made = symmetric(model)
    np.testing.assert_allclose(run(made, {"x": X})[0], values, atol=0.11)
    assert [node.op_type for node in made.graph.node if "Linear" not in node.op_type] == operators


def test_dynamic_quantization_is_refused(workbench: Workbench) -> None:
    model = model_of(workbench, next(each for each in NETWORKS if each.name == "two_inputs"), "int8_dynamic")
    with pytest.raises(StageError, match="TensorRT takes QuantizeLinear and DequantizeLinear, not "):
        symmetric(model)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT-RTX in TensorRT's place."""
    compiler = pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    monkeypatch.setitem(sys.modules, "tensorrt", compiler)
    return compiler


CASES = [(network, precision) for network in NETWORKS for precision in ("fp32", "fp16", "bf16")]
CASES += [(network, "int8") for network in QUANTIZED]


@pytest.mark.parametrize("up_to_batch", [False, True])
@pytest.mark.parametrize(
    ("network", "precision"), CASES, ids=[f"{network.name}-{precision}" for network, precision in CASES]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nvidias_compiler_takes_every_network_in_every_precision(
    compiler: Any, workbench: Workbench, tmp_path: Path, network: Network, precision: str, *, up_to_batch: bool
) -> None:
    wish = Wish(precision, threads=1, tf32=False, up_to_batch=up_to_batch)
    if (network.name, precision) == ("gru", "bf16"):  # its parser makes the constants of a GRU in FP32
        with pytest.raises(StageError, match=r"Invalid Node - /network/cell/GRU .* same input types"):
            build_plan(model_of(workbench, network, precision), wish, tmp_path)
        return
    build_plan(model_of(workbench, network, precision), wish, tmp_path)
    about = json.loads((tmp_path / "plan.json").read_text())
    assert set(about["nodes"]) == {precision}
    assert (tmp_path / "model.plan").stat().st_size > 10_000
    assert (tmp_path / "timing.cache").exists()
