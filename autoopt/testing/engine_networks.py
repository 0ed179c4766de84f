"""Small networks of every kind that an engine must take: the conformance suite's vocabulary.

They are untrained (what a network computes matters here, not what it knows), seeded, and small enough to build in a blink.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autoopt.records import Signature, TensorSpec


@dataclass(frozen=True)
class Network:
    """A kind of network."""

    name: str
    make: Callable[[], nn.Module]
    signature: Signature
    quantizes: tuple[str, ...] = ()
    """The INT8 precisions in which most of its compute nodes can run."""

    def module(self) -> nn.Module:
        """The network, the same in every process."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make().eval()

    def inputs(self, batch: int, seed: int = 0) -> tuple[np.ndarray, ...]:
        """Random inputs, ``(batch, *shape)``: normal floats, integers in [0, 16), bytes.

        Images have stripes of their own. Where only noise differs, pooling leaves all samples nearly the same answer, of which rounding
        is a large part; and stripes have a direction, so that a kernel applied the wrong way round answers otherwise.
        """
        random = np.random.default_rng(seed)
        return tuple(_random(random, (batch, *spec.shape), spec.dtype) for spec in self.signature.tensors)


def _random(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rows = (*shape[:-1], 1)
    if dtype == "uint8":
        return (random.integers(0, 256, shape) * random.random(rows)).astype(dtype)
    if not dtype.startswith("float"):
        return random.integers(0, VOCABULARY, shape).astype(dtype)
    values = random.standard_normal(shape)
    return (values + 2 * random.standard_normal(rows) if len(shape) == _IMAGES else values).astype(dtype)


VOCABULARY = 16
_IMAGES = 4
"""Axes of a batch of them."""


class _Residual(nn.Module):
    """x: float32, (N, 3, 16, 16)."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.stem = _conv_norm(3, channels)
        self.first = _conv_norm(channels, channels)
        self.second = _conv_norm(channels, channels)
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.second(self.first(x).relu())).relu()
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class _Depthwise(nn.Module):
    """x: float32, (N, 3, 16, 16). A block of MobileNet's kind, with a squeeze-and-excitation gate."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.expand = _conv_norm(3, channels, kernel=1)
        self.depthwise = _conv_norm(channels, channels, groups=channels, stride=2)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Hardsigmoid())
        self.project = _conv_norm(channels, channels, kernel=1)
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.depthwise(nn.functional.relu6(self.expand(x))))
        x = self.project(x * self.gate(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class _Transformer(nn.Module):
    """tokens: int64, (N, 12)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        for weights in self.encoder.parameters():  # layers are made as copies; exporters would share equal weights
            weights.data += 0.05 * torch.randn_like(weights)
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embedding(tokens)).mean(1))
        return logits


class _Recurrent(nn.Module):
    """x: float32, (N, 12, 6); classifies by the last step."""

    def __init__(self, cell: type[nn.LSTM | nn.GRU], *, bidirectional: bool) -> None:
        super().__init__()
        self.cell = cell(6, 16, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(32 if bidirectional else 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.cell(x)[0][:, -1])
        return logits


class _TwoInputs(nn.Module):
    """image: float32, (N, 3, 8, 8); table: float32, (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(3 * 8 * 8, 16)
        self.table = nn.Linear(5, 16)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        hidden = torch.cat([self.image(image.flatten(1)), self.table(table)], dim=1).relu()
        logits: Tensor = self.head(hidden)
        return logits


class _Keywords(nn.Module):
    """tokens, mask: int64, (N, 12). Takes keywords, attends with a mask, and returns a mapping of two outputs."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.attend = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, 10)

    def forward(self, *, mask: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        query, key, value = self.attend(self.embedding(tokens)).unsqueeze(1).chunk(3, dim=-1)
        allowed = (mask > 0)[:, None, None, :]
        hidden = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        pooled = hidden.squeeze(1).mean(1)
        return {"logits": self.head(pooled), "pooled": pooled}


class _Bytes(nn.Module):
    """image: uint8, (N, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _conv_norm(3, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = image.to(self.head.weight.dtype) / 255
        logits: Tensor = self.head(self.conv(x).relu().mean((2, 3)))
        return logits


class _Spectral(nn.Module):
    """x: float32, (N, 16). A Fourier transform: complex numbers, which few runtimes know."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(9, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.fft.rfft(x).abs())
        return logits


class _DataDependent(nn.Module):
    """x: float32, (N, 16). How many numbers there are inside depends on the data: no static shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        positive = x[x > 0]
        logits: Tensor = self.head(x) + positive.mean()
        return logits


class Refusing(nn.Module):
    """x: float32, (N, 4). Raises when it is called: no engine can take it."""

    def forward(self, x: Tensor) -> Tensor:
        """Raise."""
        del x
        message = "this network never runs"
        raise RuntimeError(message)


def _conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs)
    nn.init.uniform_(norm.running_mean, -0.5, 0.5)  # type: ignore[arg-type] # None only without running statistics
    nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type] # likewise
    return nn.Sequential(convolution, norm)


def _lstm() -> nn.Module:
    return _Recurrent(nn.LSTM, bidirectional=False)


def _gru() -> nn.Module:
    return _Recurrent(nn.GRU, bidirectional=True)


def _array(name: str, shape: tuple[int, ...], dtype: str = "float32") -> Signature:
    return Signature("array", (TensorSpec(name, shape, dtype),))


NETWORKS = (
    Network("residual", _Residual, _array("x", (3, 16, 16)), quantizes=("int8",)),
    Network("depthwise", _Depthwise, _array("x", (3, 16, 16)), quantizes=("int8",)),
    Network("transformer", _Transformer, _array("tokens", (12,), "int64"), quantizes=("int8_dynamic",)),
    Network("lstm", _lstm, _array("x", (12, 6)), quantizes=("int8_dynamic",)),
    Network("gru", _gru, _array("x", (12, 6))),
    Network(
        "two_inputs",
        _TwoInputs,
        Signature("tuple", (TensorSpec("image", (3, 8, 8), "float32"), TensorSpec("table", (5,), "float32"))),
        quantizes=("int8", "int8_dynamic"),
    ),
    Network(
        "keywords",
        _Keywords,
        Signature("dict", (TensorSpec("tokens", (12,), "int64"), TensorSpec("mask", (12,), "int64"))),
    ),
    Network("bytes", _Bytes, _array("image", (3, 8, 8), "uint8"), quantizes=("int8",)),
)
UNUSUAL = (
    Network("spectral", _Spectral, _array("x", (16,))),
    Network("data_dependent", _DataDependent, _array("x", (16,))),
)
"""An engine takes them, or says in a sentence why it does not."""
REFUSING = Network("refusing", Refusing, _array("x", (4,)))
