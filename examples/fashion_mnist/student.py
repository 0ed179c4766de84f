"""Smaller networks of the same family, for distillation."""

from __future__ import annotations

from model import DEFAULT_BLOCKS, DEFAULT_WIDTH, ResNet


def student(width: float = 1.0, depth: float = 1.0) -> ResNet:
    """A network with shares of the width (channels, in steps of 4) and of the depth (blocks a stage, at least one)."""
    channels = max(4, round(DEFAULT_WIDTH * width / 4) * 4)
    return ResNet(channels, [max(1, round(count * depth)) for count in DEFAULT_BLOCKS])
