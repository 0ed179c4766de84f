"""Train the example's network: ``python examples/digits/train.py`` (seconds).

The last epoch's weights are kept: no epoch is chosen by its accuracy, so the validation split stays unseen.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import data
import torch
from model import WEIGHTS, ResNet
from safetensors.torch import save_file
from torch.nn import functional as F

EPOCHS = 30
BATCH = 50


def shift(x: torch.Tensor) -> torch.Tensor:
    """x: (N, 1, 8, 8), moved by up to one pixel."""
    padded = F.pad(x, (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2,)).tolist()
    return padded[:, :, dy : dy + 8, dx : dx + 8]


def train() -> ResNet:
    """A trained network, the same in every run on one machine."""
    torch.manual_seed(0)
    images, labels = map(torch.from_numpy, data.load("train"))
    model = ResNet()
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(model(shift(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: torch.nn.Module, part: str) -> float:
    """The share of right answers on a split, in [0, 1]."""
    images, labels = map(torch.from_numpy, data.load(part))
    return round(float((model(images).argmax(1) == labels).float().mean()), 4)


def main() -> None:
    """Train, save the weights, and write beside them how they came to be."""
    model = train()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, WEIGHTS)
    facts = {
        "command": "python examples/digits/train.py",
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "validation_accuracy": accuracy(model, "validation"),
        "test_accuracy": accuracy(model, "test"),
    }
    WEIGHTS.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
