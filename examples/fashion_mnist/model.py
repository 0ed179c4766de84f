"""A residual network of the CIFAR style (He et al. 2015, section 4.2) for small grey images.

Three stages of basic blocks; a stage doubles the width and halves the side. ``width=16, blocks=(3, 3, 3)`` is ResNet-20.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

DEFAULT_WIDTH = 16
DEFAULT_BLOCKS = (3, 3, 3)


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
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """(N, 1, 28, 28) float32 -> (N, classes) logits."""

    def __init__(
        self,
        width: int = DEFAULT_WIDTH,
        blocks: Sequence[int] = DEFAULT_BLOCKS,
        in_channels: int = 1,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        channels = width
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            layers = []
            for index in range(count):
                layers.append(Block(channels, out, stride=2 if stage > 0 and index == 0 else 1))
                channels = out
            self.stages.append(nn.Sequential(*layers))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits
