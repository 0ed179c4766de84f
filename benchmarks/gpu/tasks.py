"""Two networks for a GPU, made here: nothing is downloaded. Their labels are their own answers, so that what is lost is what a precision loses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from autoopt import Task

SAMPLES, CLASSES = 512, 10
WORDS, LENGTH = 1000, 128


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps, ``(N, C, H, W)``."""
        return nn.functional.relu(x + self.layers(x))


def convolutions() -> nn.Module:
    """Images ``(N, 3, 64, 64)`` to ten scores: 16 convolutions, 3.5 million weights."""
    torch.manual_seed(0)
    widths, layers = (64, 128, 256), [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
    for before, width in zip((64, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, 2, 1), nn.ReLU(), _Block(width), _Block(width)]
    head = nn.Linear(widths[-1], CLASSES)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    return _undecided(network, head, images(64, seed=0))


class _Encoder(nn.Module):
    """Tokens ``(N, 128)`` to ten scores: 4 layers of attention, width 256."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores."""
        scores: Tensor = self.head(self.encoder(self.embedding(tokens)).mean(1))
        return scores


def attention() -> nn.Module:
    """`_Encoder`, the same in every process."""
    torch.manual_seed(0)
    network = _Encoder().eval()
    return _undecided(network, network.head, tokens(64, seed=0))


def images(count: int, seed: int) -> np.ndarray:
    """Noise, ``(N, 3, 64, 64)``."""
    return np.random.default_rng(seed).standard_normal((count, 3, 64, 64)).astype(np.float32)


def tokens(count: int, seed: int) -> np.ndarray:
    """Words, ``(N, 128)``."""
    return np.random.default_rng(seed).integers(0, WORDS, (count, LENGTH))


NETWORKS = {"convolutions": (convolutions, images), "attention": (attention, tokens)}


def task_of(name: str) -> Task:
    """The task of that name."""
    make, data = NETWORKS[name]
    network = make()
    validation, test = (_labelled(network, data(SAMPLES, seed)) for seed in (1, 2))
    return Task(network=make, validation=validation, test=test, name=name)


def _undecided(network: nn.Module, head: nn.Linear, inputs: np.ndarray) -> nn.Module:
    """The network with such a bias that no class is the answer to everything, as one is of an untrained network."""
    with torch.inference_mode():
        middle = network(torch.from_numpy(inputs)).mean(0)
    with torch.no_grad():
        head.bias -= middle.clone()
    return network


def _labelled(network: nn.Module, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inputs with what the network answers."""
    with torch.inference_mode():
        parts = [network(part).argmax(1) for part in torch.from_numpy(inputs).split(64)]
    return inputs, torch.cat(parts).numpy()
