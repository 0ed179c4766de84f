"""ResNet-20 on CIFAR-10, somebody else's weights: a second task for the main job's benchmark.

    CIFAR10=cifar-10-batches-bin RESNET20=resnet20-12fca82f.th \\
        python benchmarks/main_job/run.py --task benchmarks/main_job/cifar10.py:task --budget 30m --speedup 10 --lossless 2.3

Neither is shipped with autoopt. The data: the "binary version" of https://www.cs.toronto.edu/~kriz/cifar.html, unpacked. The
weights: ``pretrained_models/resnet20-12fca82f.th`` of https://github.com/akamaster/pytorch_resnet_cifar10 (BSD 2-clause).

They were trained on all 50,000 training images, of which they make almost no mistake, so none of those can validate: the 10,000
test images are split in two, one half to validate and one to test.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from autoopt import Task

WEIGHTS_SHA256 = "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8"
TRAIN, TEST = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",)
RECORD = 1 + 3 * 32 * 32
"""Bytes: the class, then red, green and blue."""
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
"""Those that the weights were trained with."""


class Block(nn.Module):
    """Two convolutions and what is added to them: the input, thinned out and padded with zeros where the shape changes."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        """``stride``: of the first convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.padding = planes // 4 if stride > 1 else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps to feature maps, ``(N, C, H, W)``."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padding:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x)


class ResNet20(nn.Module):
    """As He et al. 2015, section 4.2, with the names that the weights have."""

    def __init__(self) -> None:
        """Without weights."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images ``(N, 3, 32, 32)`` to class scores ``(N, 10)``."""
        out = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def trained() -> ResNet20:
    """With the public weights."""
    path = named("RESNET20", "the file resnet20-12fca82f.th")
    if hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        message = f"{path} is not resnet20-12fca82f.th: its SHA-256 is another than {WEIGHTS_SHA256}"
        raise ValueError(message)
    weights = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    network = ResNet20()
    network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in weights.items()})
    return network.eval()


def load(files: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, 3, 32, 32)``, normalized, and classes ``(N,)``."""
    folder = named("CIFAR10", "the folder cifar-10-batches-bin")
    records = np.concatenate([np.fromfile(folder / file, np.uint8).reshape(-1, RECORD) for file in files])
    images = records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255
    return (images - MEAN[:, None, None]) / DEVIATION[:, None, None], records[:, 0].astype(np.int64)


def named(variable: str, what: str) -> Path:
    """What the environment variable names."""
    given = os.environ.get(variable)
    if not given or not Path(given).exists():
        message = f"{variable} must name {what}, not {given!r}; {__file__} says where it is had"
        raise FileNotFoundError(message)
    return Path(given)


images, classes = load(TEST)
half = len(images) // 2
task = Task(
    network=trained,
    train=load(TRAIN),
    validation=(images[:half], classes[:half]),
    test=(images[half:], classes[half:]),
    name="cifar10",
)
