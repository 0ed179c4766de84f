"""LiteRT's quantizer: what it may quantize and what it must leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn
from torch.nn import functional as F

from autoopt.errors import FailureKind, StageError
from autoopt.records import Params, Signature, TensorSpec
from autoopt.testing.networks import ResidualCNN
from autoopt.testing.runners import run_model
from autoopt.testing.tasks import memory_context, random_arrays
from autoopt.workers import formats
from autoopt.workers.engines.litert_graph import Operation, operations
from autoopt.workers.techniques import technique
from autoopt.workers.techniques._litert import batch_of
from autoopt.workers.techniques.base import Context

STATIC, DYNAMIC = technique("static_quantization"), technique("dynamic_quantization")
IMAGE = Signature("array", (TensorSpec("image", (3, 8, 8), "float32"),))
TOKENS = Signature("array", (TensorSpec("tokens", (12,), "int64"),))


def as_litert(batch: int, context: Context, folder: Path) -> bytes:
    source: Any = context.task.source
    content: bytes = formats.load(formats.convert(source, "litert", batch, folder / f"litert-{batch}"))
    return content


def context_for(model: nn.Module, signature: Signature, folder: Path) -> Context:
    data = {name: random_arrays(signature, 8, 0) for name in ("train", "calibration", "validation")}
    torch.manual_seed(0)
    return memory_context(model.eval(), signature, data, folder / "original")


def ran(content: bytes) -> tuple[Operation, ...]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return operations(interpreter)


def precisions(content: bytes, name: str) -> list[str | None]:
    return [each.precision for each in ran(content) if each.name == name]


def outputs(content: bytes, context: Context) -> np.ndarray[Any, Any]:
    """Of the whole validation split, by the network's own batch."""
    images, batch = context.task.arrays("validation").inputs[0], batch_of(content)
    padded = np.concatenate([images, images[: -len(images) % batch]])
    parts = [
        run_model(content, "litert", (padded[start : start + batch],), context.signature)[0]
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts)[: len(images)]


def accuracy(content: bytes, context: Context) -> float:
    return float((outputs(content, context).argmax(1) == context.task.arrays("validation").targets).mean())


@pytest.mark.parametrize(
    ("name", "params", "precision"),
    [
        ("static_quantization", {"calibration": 64}, "int8"),
        ("dynamic_quantization", {"convolutions": True}, "int8_dynamic"),
        ("dynamic_quantization", {"convolutions": True, "per_channel": False}, "int8_dynamic"),
    ],
)
def test_eight_bits_keep_the_accuracy_the_batch_and_the_types_outside(
    name: str, params: Params, precision: str, network: ResidualCNN, context: Context, tmp_path: Path
) -> None:
    original = as_litert(64, context, tmp_path)
    quantized, facts = technique(name).apply(original, params, context)
    assert batch_of(quantized) == 64
    assert outputs(quantized, context).dtype == np.float32
    assert accuracy(quantized, context) > accuracy(original, context) - 0.02
    assert set(precisions(quantized, "CONV_2D")) == {precision}
    assert facts["quantized"] >= 10
    assert len(quantized) < 0.6 * len(original)


def test_the_ranges_are_those_of_all_samples_whatever_the_batch(
    network: ResidualCNN, context: Context, tmp_path: Path
) -> None:
    # The quantizer's own way, a mean that forgets, is six times further off with single samples.
    found = []
    for batch in (1, 8):
        original = as_litert(batch, context, tmp_path)
        quantized, _ = STATIC.apply(original, {"calibration": 64}, context)
        expected = outputs(original, context)
        found.append(float(np.abs(outputs(quantized, context) - expected).mean() / expected.std()))
    assert found[0] == pytest.approx(found[1], rel=0.2)
    assert max(found) < 0.03


def test_convolutions_are_quantized_dynamically_where_that_is_asked(
    network: ResidualCNN, context: Context, tmp_path: Path
) -> None:
    original = as_litert(1, context, tmp_path)
    for asked, expected in ((False, "fp32"), (True, "int8_dynamic")):
        quantized, _ = DYNAMIC.apply(original, {"convolutions": asked}, context)
        assert set(precisions(quantized, "CONV_2D")) == {expected}
        assert precisions(quantized, "FULLY_CONNECTED") == ["int8_dynamic"]


class Gated(nn.Module):
    """image: float32, (N, 3, 8, 8). XNNPACK has hard swish in FP32 alone, and no depthwise convolution of dynamic INT8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        hidden = F.hardswish(self.depthwise(F.hardswish(self.first(image))))
        scores: Tensor = self.head(hidden.mean((2, 3)))
        return scores


@pytest.mark.parametrize(
    ("name", "params", "left"),
    [("static_quantization", {}, "HARD_SWISH"), ("dynamic_quantization", {"convolutions": True}, "DEPTHWISE_CONV_2D")],
)
def test_what_xnnpack_takes_in_fp32_alone_stays_in_fp32(name: str, params: Params, left: str, tmp_path: Path) -> None:
    context = context_for(Gated(), IMAGE, tmp_path)
    quantized, facts = technique(name).apply(as_litert(1, context, tmp_path), params, context)
    found = ran(quantized)
    assert all(each.delegated for each in found)
    assert not any(each.quantized for each in found if each.name == left)
    assert facts["left_in_fp32"] == sum(each.name == left for each in found)
    assert precisions(quantized, "CONV_2D")[0] != "fp32"


class Attention(nn.Module):
    """tokens: int64, (N, 12). Attention with a mask, and a normalization."""

    def __init__(self, masked: float, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.attend = nn.Linear(width, 3 * width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        self.masked = masked

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens)
        query, key, value = self.attend(embedded).chunk(3, -1)
        ignored = (tokens < 5)[:, None, :]
        weights = (query @ key.transpose(1, 2) / 4).masked_fill(ignored, self.masked).softmax(-1)
        scores: Tensor = self.head(self.norm(embedded + weights @ value).mean(1))
        return scores


@pytest.mark.parametrize("transformer", ["auto", "yes", "no"])
def test_where_there_is_attention_only_operations_with_weights_are_quantized(transformer: str, tmp_path: Path) -> None:
    narrow = transformer != "no"
    context = context_for(Attention(-1e9), TOKENS, tmp_path)
    quantized, facts = STATIC.apply(as_litert(2, context, tmp_path), {"transformer": transformer}, context)
    assert facts["transformer"] is narrow
    others = {each.name for each in ran(quantized) if each.quantized and each.precision is None}
    assert (others <= {"DEQUANTIZE"}) is narrow


@pytest.mark.parametrize("masked", [float("-inf"), -1e9, -1e4])
def test_a_mask_does_not_take_up_the_range_of_what_it_masks(masked: float, tmp_path: Path) -> None:
    context = context_for(Attention(masked), TOKENS, tmp_path)
    original = as_litert(2, context, tmp_path)
    quantized, _ = STATIC.apply(original, {"transformer": "no"}, context)
    inputs = (context.task.arrays("calibration").inputs[0][:2],)
    found, expected = (run_model(each, "litert", inputs, TOKENS)[0] for each in (quantized, original))
    assert np.abs(found - expected).mean() < 0.1 * expected.std()


class Returning(nn.Module):
    """image: float32, (N, 3, 8, 8). Returns twice what it goes on to use."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.second(self.first(image).relu()).relu().mean((2, 3))
        return self.head(pooled), pooled, pooled


def test_what_is_returned_and_used_as_well_keeps_its_type(tmp_path: Path) -> None:
    # LiteRT aborts the process over what its quantizer makes of this when it is left to itself.
    context = context_for(Returning(), IMAGE, tmp_path)
    quantized, _ = STATIC.apply(as_litert(2, context, tmp_path), {}, context)
    found = run_model(quantized, "litert", (context.task.arrays("validation").inputs[0][:2],), IMAGE)
    assert [output.dtype for output in found] == [np.float32] * 3
    assert precisions(quantized, "CONV_2D") == ["int8", "int8"]


@pytest.mark.parametrize("name", ["static_quantization", "dynamic_quantization"])
def test_a_network_without_products_is_refused(name: str, tmp_path: Path) -> None:
    context = context_for(nn.Sequential(nn.Flatten(), nn.Tanh()), IMAGE, tmp_path)
    with pytest.raises(StageError, match=r"nothing to quantize for LiteRT: .* RESHAPE, TANH") as raised:
        technique(name).apply(as_litert(1, context, tmp_path), {}, context)
    assert raised.value.kind is FailureKind.UNSUPPORTED


def test_a_network_that_the_quantizer_knows_in_part_is_quantized_where_it_has_weights(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(3), nn.Flatten(), nn.Linear(288, 10))
    context = context_for(network, IMAGE, tmp_path)
    original = as_litert(1, context, tmp_path)
    _, facts = STATIC.apply(original, {}, context)
    assert facts["transformer"] is True
    with pytest.raises(StageError, match="quantizer cannot take this network"):
        STATIC.apply(original, {"transformer": "no"}, context)


def test_quantizing_prints_nothing_and_starts_no_thread_that_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = context_for(Gated(), IMAGE, tmp_path)
    original = as_litert(1, context, tmp_path)
    before = len(list(Path("/proc/self/task").iterdir()))
    capsys.readouterr()
    STATIC.apply(original, {}, context)
    assert capsys.readouterr() == ("", "")
    assert len(list(Path("/proc/self/task").iterdir())) <= before
