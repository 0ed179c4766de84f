"""Small networks of the kinds that a compression technique meets, each with a task to compress it for.

They are untrained, run in milliseconds, and differ in what breaks compressions: residual sums, depthwise convolutions, attention,
recurrence, several inputs, keyword inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoopt.records import Signature, TensorSpec

CLASSES = 10
SIDE = 8
TOKENS, VOCABULARY = 12, 50


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut: (N, in, H, W) -> (N, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add to what passes."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class ResidualCNN(nn.Module):
    """(N, 1, 8, 8) -> (N, 10): a stem, two stages of residual blocks, a classifier."""

    def __init__(self, width: int = 16, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = nn.Sequential(*[ResidualBlock(width, width) for _ in range(blocks)])
        later = [ResidualBlock(2 * width, 2 * width) for _ in range(blocks - 1)]
        self.stage2 = nn.Sequential(ResidualBlock(width, 2 * width, 2), *later)
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        scores: Tensor = self.classifier(self.stage2(self.stage1(self.stem(x))).mean((2, 3)))
        return scores


class DepthwiseCNN(nn.Module):
    """(N, 1, 8, 8) -> (N, 10): depthwise-separable convolutions without residual connections."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 1, 1)
        self.body = nn.Sequential(
            nn.ReLU6(),
            nn.Conv2d(width, width, 3, 1, 1, groups=width),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, 2 * width, 1),
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1, groups=2 * width),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        scores: Tensor = self.classifier(self.body(self.stem(x)))
        return scores


class Transformer(nn.Module):
    """Tokens (N, 12) int64 -> (N, 10): embedding, three transformer layers, mean over the tokens that count, classifier."""

    def __init__(self, width: int = 32, heads: int = 4, layers: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(width, CLASSES)

    def scores(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Class scores; ``mask`` is (N, 12) bool, true where a token counts."""
        hidden = self.encoder(self.embedding(tokens), src_key_padding_mask=None if mask is None else ~mask)
        weights = torch.ones_like(hidden[..., :1]) if mask is None else mask.float().unsqueeze(-1)
        scores: Tensor = self.classifier((hidden * weights).sum(1) / weights.sum(1).clamp_min(1.0))
        return scores


class TextEncoder(Transformer):
    """The transformer without a mask."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Class scores."""
        return self.scores(tokens, None)


class MaskedEncoder(Transformer):
    """The transformer with keyword inputs: ``forward(tokens=, mask=)``."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Class scores."""
        return self.scores(tokens, mask)


class Recurrent(nn.Module):
    """(N, 8, 8) -> (N, 10): an LSTM over rows, its last state, a classifier."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(SIDE, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, CLASSES)

    def forward(self, rows: Tensor) -> Tensor:
        """Class scores."""
        states, _ = self.lstm(rows)
        scores: Tensor = self.classifier(states[:, -1])
        return scores


class TwoInputs(nn.Module):
    """(N, 1, 8, 8) and (N, 4) -> (N, 10): a convolutional branch and a dense one, concatenated."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.other = nn.Sequential(nn.Linear(4, width), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(5 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, CLASSES))

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """Class scores."""
        scores: Tensor = self.head(torch.cat([self.image(image).flatten(1), self.other(other)], 1))
        return scores


@dataclass(frozen=True)
class SampleNetwork:
    """One of the networks, and what it takes."""

    name: str
    make: Callable[[], nn.Module]
    signature: Signature

    def module(self, seed: int = 0) -> nn.Module:
        """The network in eval mode, its random weights a function of the seed."""
        torch.manual_seed(seed)
        return self.make().eval()


_IMAGE = TensorSpec("image", (1, SIDE, SIDE), "float32")
_TOKENS = TensorSpec("tokens", (TOKENS,), "int64")
_ARRAY = "array"

NETWORKS = (
    SampleNetwork("residual", ResidualCNN, Signature(_ARRAY, (_IMAGE,))),
    SampleNetwork("depthwise", DepthwiseCNN, Signature(_ARRAY, (_IMAGE,))),
    SampleNetwork("transformer", TextEncoder, Signature(_ARRAY, (_TOKENS,))),
    SampleNetwork("lstm", Recurrent, Signature(_ARRAY, (TensorSpec("rows", (SIDE, SIDE), "float32"),))),
    SampleNetwork("two_inputs", TwoInputs, Signature("tuple", (_IMAGE, TensorSpec("other", (4,), "float32")))),
    SampleNetwork("dict_input", MaskedEncoder, Signature("dict", (_TOKENS, TensorSpec("mask", (TOKENS,), "bool")))),
)
