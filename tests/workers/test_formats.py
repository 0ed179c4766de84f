"""Networks on disk: what is saved comes back, conversions keep what is computed, and refusals can be read."""

import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper
from torch import nn

from autoopt.errors import FailureKind, StageError
from autoopt.records import Signature, TensorSpec
from autoopt.testing.engine_networks import NETWORKS, Network
from autoopt.testing.runners import run_model
from autoopt.workers import formats
from autoopt.workers.engines.base import Source

ARRAY = Signature("array", (TensorSpec("x", (4,), "float32"),))
BY_NAME = {network.name: network for network in NETWORKS}


class Branching(nn.Module):
    """Tracing would keep one branch; torch.export refuses the condition."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x[0, 0].nonzero().numel() :].to_mkldnn().to_dense() if x.sum() > 0 else x.to_mkldnn()


class ScriptOnly(nn.Module):
    """The TorchScript exporter has no symbol for this operator; the newer one decomposes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.entr(x.abs() + 1)


def _source(network: Network, folder: Path) -> Source:
    return formats.save(network.module(), "module", folder, network.signature)


def _run_onnx(folder: Path, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, arrays)


def _linear_file(folder: Path, batch: int | str, reshape: list[int] | None = None) -> Source:
    """An ONNX file x → x·2 (→ reshape), as a third party would give it."""
    folder.mkdir()
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"])]
    weights = [helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])]
    if reshape:
        nodes.append(helper.make_node("Reshape", ["y", "shape"], ["z"]))
        weights.append(helper.make_tensor("shape", TensorProto.INT64, [len(reshape)], reshape))
    output = helper.make_tensor_value_info("z" if reshape else "y", TensorProto.FLOAT, None)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])
    graph = helper.make_graph(nodes, "graph", [given], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return Source("onnx", folder, ARRAY)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_saved_module_computes_the_same(name: str, tmp_path: Path) -> None:
    network = BY_NAME[name]
    inputs = tuple(map(torch.from_numpy, network.inputs(2)))
    loaded = formats.load(_source(network, tmp_path))
    assert not loaded.training
    with torch.inference_mode():
        before = formats.call_module(network.module(), inputs, network.signature)
        after = formats.call_module(loaded, inputs, network.signature)
    for left, right in zip(before, after, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_exported_network_has_the_signatures_names_and_a_static_batch(name: str, tmp_path: Path) -> None:
    network = BY_NAME[name]
    onnx_source = formats.convert(_source(network, tmp_path / "module"), "onnx", 3, tmp_path / "onnx")
    graph = formats.load(onnx_source).graph
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.input}
    assert shapes == {spec.name: [3, *spec.shape] for spec in network.signature.tensors}


def test_the_second_exporter_takes_what_the_first_cannot(tmp_path: Path) -> None:
    source = formats.save(ScriptOnly(), "module", tmp_path / "module", ARRAY)
    formats.convert(source, "onnx", 2, tmp_path / "onnx")
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(
        _run_onnx(tmp_path / "onnx", {"x": x})[0], torch.special.entr(torch.from_numpy(x).abs() + 1), rtol=1e-5
    )


def test_a_network_that_neither_exporter_takes_is_refused_with_both_reasons(tmp_path: Path) -> None:
    source = formats.save(Branching(), "module", tmp_path / "module", ARRAY)
    with pytest.raises(
        StageError, match=r"cannot be exported to ONNX \(TorchScript exporter: .*; torch.export exporter: "
    ) as refused:
        formats.convert(source, "onnx", 1, tmp_path / "onnx")
    assert refused.value.kind is FailureKind.UNSUPPORTED
    assert "\n" not in refused.value.message


def test_a_dynamic_batch_becomes_static(tmp_path: Path) -> None:
    source = _linear_file(tmp_path / "own", "N")
    static = formats.convert(source, "onnx", 5, tmp_path / "static")
    graph = formats.load(static).graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [5, 4]
    assert [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == [5, 4]
    assert np.array_equal(_run_onnx(static.path, {"x": np.ones((5, 4), np.float32)})[0], np.full((5, 4), 2))


def test_a_batch_that_is_baked_into_the_graph_is_refused_with_what_to_do(tmp_path: Path) -> None:
    source = _linear_file(tmp_path / "own", 1, reshape=[1, 4])
    with pytest.raises(StageError, match=r"cannot take batch 5") as refused:
        formats.convert(source, "onnx", 5, tmp_path / "static")
    assert refused.value.kind is FailureKind.UNSUPPORTED


def test_an_input_that_the_file_does_not_have_is_refused_with_those_it_has(tmp_path: Path) -> None:
    source = _linear_file(tmp_path / "own", "N")
    other = Source("onnx", source.path, Signature("array", (TensorSpec("image", (4,), "float32"),)))
    with pytest.raises(StageError, match="no input 'image'; its inputs are x"):
        formats.convert(other, "onnx", 5, tmp_path / "static")


def test_what_already_is_as_asked_is_copied(tmp_path: Path) -> None:
    source = _linear_file(tmp_path / "own", 2)
    copied = formats.convert(source, "onnx", 2, tmp_path / "copy")
    assert (copied.path / "model.onnx").read_bytes() == (source.path / "model.onnx").read_bytes()


@pytest.mark.parametrize("start", ["module", "onnx"])
def test_openvino_has_the_static_batch_and_fp32_weights(start: str, tmp_path: Path) -> None:
    network = BY_NAME["residual"]
    source = _source(network, tmp_path / "module")
    if start == "onnx":
        source = formats.convert(source, "onnx", 1, tmp_path / "onnx")
    model = formats.load(formats.convert(source, "openvino", 3, tmp_path / "openvino"))
    assert [list(port.shape) for port in model.inputs] == [[3, 3, 16, 16]]
    types = {node.get_element_type().get_type_name() for node in model.get_ops() if node.get_type_name() == "Constant"}
    assert "f16" not in types
    assert "f32" in types


def test_an_openvino_network_can_be_given_another_batch(tmp_path: Path) -> None:
    source = formats.convert(_source(BY_NAME["residual"], tmp_path / "module"), "openvino", 1, tmp_path / "one")
    model = formats.load(formats.convert(source, "openvino", 4, tmp_path / "four"))
    assert list(model.outputs[0].shape) == [4, 10]


def _shapes(content: bytes) -> list[list[int]]:
    return [each["shape"].tolist() for each in Interpreter(model_content=content).get_input_details()]


def test_a_litert_network_has_the_static_batch_and_computes_the_same(tmp_path: Path) -> None:
    network = BY_NAME["keywords"]
    source = formats.convert(_source(network, tmp_path / "module"), "litert", 3, tmp_path / "litert")
    assert _shapes(formats.load(source)) == [[3, 12], [3, 12]]
    inputs = network.inputs(3)
    with torch.inference_mode():
        expected = formats.call_module(network.module(), tuple(map(torch.from_numpy, inputs)), network.signature)
    found = run_model(formats.load(source), "litert", inputs, network.signature)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right.numpy(), rtol=1e-4, atol=1e-5)


def test_a_litert_network_is_copied_and_cannot_be_given_another_batch(tmp_path: Path) -> None:
    one = formats.convert(_source(BY_NAME["two_inputs"], tmp_path / "module"), "litert", 1, tmp_path / "one")
    copied = formats.convert(one, "litert", 1, tmp_path / "copy")
    assert formats.load(copied) == formats.load(one)
    with pytest.raises(StageError, match=r"takes inputs of \[\(1, 3, 8, 8\), \(1, 5\)\], not \[\(2, ") as refused:
        formats.convert(one, "litert", 2, tmp_path / "two")
    assert refused.value.kind is FailureKind.UNSUPPORTED


class Complex(nn.Module):
    """x: float32, (N, 4). LiteRT has no complex numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x).real


def test_what_litert_cannot_express_is_refused_in_one_sentence(tmp_path: Path) -> None:
    source = formats.save(Complex(), "module", tmp_path / "module", ARRAY)
    with pytest.raises(StageError, match=r"cannot be converted to LiteRT: .*complex") as refused:
        formats.convert(source, "litert", 1, tmp_path / "litert")
    assert refused.value.kind is FailureKind.UNSUPPORTED
    assert "\n" not in refused.value.message


def test_converting_to_litert_prints_nothing_and_leaves_logging_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    source = _source(BY_NAME["two_inputs"], tmp_path / "module")
    formats.convert(source, "litert", 1, tmp_path / "litert")
    assert capsys.readouterr() == ("", "")
    assert (root.level, list(root.handlers)) == before


def test_without_litert_torch_one_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(StageError, match=r"litert-torch .*: pip install 'autoopt\[litert\]'"):
        formats.convert(_source(BY_NAME["two_inputs"], tmp_path / "module"), "litert", 1, tmp_path / "litert")


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("module", "module", ()),
        ("module", "onnx", ("onnx",)),
        ("module", "openvino", ("onnx", "openvino")),
        ("onnx", "openvino", ("openvino",)),
        ("onnx", "module", None),
        ("openvino", "onnx", None),
        ("module", "litert", ("litert",)),
        ("litert", "litert", ()),
        ("onnx", "litert", None),
        ("litert", "openvino", None),
        ("module", "coreml", None),
    ],
)
def test_conversions_lead_one_way(start: str, end: str, expected: tuple[str, ...] | None) -> None:
    assert formats.path(start, end) == expected


def test_there_is_no_way_back_to_a_module(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="'onnx' cannot be converted to 'module'"):
        formats.convert(_linear_file(tmp_path / "own", 2), "module", 2, tmp_path / "out")


def test_an_unknown_format_is_answered_with_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'coreml'; allowed are module, onnx, openvino, litert"):
        formats.load(Source("coreml", tmp_path, ARRAY))


def test_outputs_are_flat_whatever_a_network_returns() -> None:
    one, two, three = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    assert formats.flat_tensors({"a": one, "b": (two, [None, three]), "loss": 0.0}) == (one, two, three)
