"""A small residual network for 8 x 8 grey images, and its smaller students."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).with_name("resnet.safetensors")
WIDTH = 16
BLOCKS = (3, 3)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, in, H, W) -> (N, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """(N, 1, 8, 8) float32 -> (N, 10) logits."""

    def __init__(self, width: int = WIDTH, blocks: Sequence[int] = BLOCKS) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.ModuleList()
        channels = width
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            first = Block(channels, out, stride=2 if stage else 1)
            self.stages.append(nn.Sequential(first, *(Block(out, out, 1) for _ in range(count - 1))))
            channels = out
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


def trained() -> ResNet:
    """The network with the weights that ``train.py`` has written."""
    from safetensors.torch import load_file

    if not WEIGHTS.is_file():
        message = f"{WEIGHTS} is missing: make it with 'python {WEIGHTS.with_name('train.py')}' (seconds)"
        raise FileNotFoundError(message)
    model = ResNet()
    model.load_state_dict(load_file(WEIGHTS))
    return model


def student(width: float = 1.0, depth: float = 1.0) -> ResNet:
    """A network with shares of the width (channels, in steps of 4) and of the depth (blocks a stage, at least one)."""
    return ResNet(max(4, round(WIDTH * width / 4) * 4), [max(1, round(count * depth)) for count in BLOCKS])
