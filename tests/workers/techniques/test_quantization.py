from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from autoopt.errors import FailureKind, StageError
from autoopt.testing.networks import NETWORKS, ResidualCNN
from autoopt.testing.runners import run_model
from autoopt.testing.tasks import memory_context, random_arrays
from autoopt.workers import formats
from autoopt.workers.techniques import technique
from autoopt.workers.techniques._graphs import Graph, rebatched
from autoopt.workers.techniques._static import calibration_batches
from autoopt.workers.techniques.base import Context

STATIC, DYNAMIC = technique("static_quantization"), technique("dynamic_quantization")


def load_as(form: str, batch: int, context: Context, folder: Path) -> Any:
    source: Any = context.task.source
    return formats.load(formats.convert(source, form, batch, folder / f"{form}-{batch}"))


def accuracy(model: Any, form: str, context: Context) -> float:
    arrays = context.task.arrays("validation")
    wide = rebatched(Graph(form, model), len(arrays.targets), context)
    assert wide is not None
    (found,) = run_model(wide.model, form, arrays.inputs, context.signature)
    return float((found.argmax(1) == arrays.targets).mean())


@pytest.mark.parametrize("form", ["openvino", "onnx"])
def test_eight_bits_keep_the_accuracy_and_the_batch(
    form: str, network: ResidualCNN, context: Context, tmp_path: Path
) -> None:
    quantized, facts = STATIC.apply(load_as(form, 4, context, tmp_path), {"calibration": 64}, context)
    original = accuracy(load_as(form, 4, context, tmp_path), form, context)
    assert facts["quantizers"] >= 10
    assert Graph.of(quantized).batch(context) == 4
    assert accuracy(quantized, form, context) > original - 0.03


def test_onnxruntimes_own_quantizer_keeps_accuracy_and_batch_too(
    network: ResidualCNN, context: Context, tmp_path: Path
) -> None:
    params = {"calibration": 64, "tool": "onnxruntime"}
    quantized, facts = STATIC.apply(load_as("onnx", 4, context, tmp_path), params, context)
    original = accuracy(load_as("onnx", 4, context, tmp_path), "onnx", context)
    assert facts["quantizers"] >= 10
    assert Graph.of(quantized).batch(context) == 4
    assert accuracy(quantized, "onnx", context) > original - 0.03


def test_onnxruntimes_quantizer_takes_no_other_format(network: ResidualCNN, context: Context, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="takes ONNX networks only") as raised:
        STATIC.apply(load_as("openvino", 1, context, tmp_path), {"tool": "onnxruntime"}, context)
    assert raised.value.kind is FailureKind.UNSUPPORTED


def test_a_dynamic_batch_is_refused(network: ResidualCNN, context: Context, tmp_path: Path) -> None:
    model = load_as("onnx", 1, context, tmp_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(StageError, match="no static batch") as raised:
        STATIC.apply(model, {}, context)
    assert raised.value.kind is FailureKind.UNSUPPORTED


def context_for(model: nn.Module, folder: Path) -> Context:
    signature = NETWORKS[0].signature
    data = {name: random_arrays(signature, 8, 0) for name in ("train", "calibration", "validation")}
    return memory_context(model, signature, data, folder / "original")


@pytest.mark.parametrize("name", ["static_quantization", "dynamic_quantization"])
def test_a_network_without_products_is_refused(name: str, tmp_path: Path) -> None:
    context = context_for(nn.Sequential(nn.Flatten(), nn.Tanh()).eval(), tmp_path)
    with pytest.raises(StageError, match=r"nothing to quantize|no operation to quantize") as raised:
        technique(name).apply(load_as("onnx", 1, context, tmp_path), {}, context)
    assert raised.value.kind is FailureKind.UNSUPPORTED


def test_convolutions_are_quantized_dynamically_where_that_is_asked(
    network: ResidualCNN, context: Context, tmp_path: Path
) -> None:
    model = load_as("onnx", 1, context, tmp_path)
    operations = [
        Graph.of(DYNAMIC.apply(model, {"convolutions": asked}, context)[0]).operations() for asked in (False, True)
    ]
    assert [counted["ConvInteger"] for counted in operations] == [0, 10]
    assert all(counted["MatMulInteger"] == 1 for counted in operations)


def test_calibration_fills_whole_batches_from_few_samples(network: ResidualCNN, context: Context) -> None:
    calls = calibration_batches(context, 64, 150)
    assert [call["image"].shape for call in calls] == [(64, 1, 8, 8)] * 2
    (single,) = calibration_batches(context, 256, 1000)
    np.testing.assert_array_equal(single["image"][200:], single["image"][:56])


def test_nncf_sends_no_telemetry() -> None:
    code = (
        "from autoopt.workers.techniques._static import _nncf; _nncf(); from nncf.telemetry.wrapper import telemetry; "
        "print(type(telemetry).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "MagicMock"
