"""Train the demo's network: ``python examples/fashion_mnist/train.py`` (about half an hour on two cores).

SGD with one cycle of the learning rate (Smith 2018), shifted and mirrored images. The last epoch's weights are kept:
no epoch is chosen by its accuracy, so the validation split stays unseen.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import data
import torch
from model import ResNet
from safetensors.torch import save_file
from torch.nn import functional as F

WEIGHTS = Path(__file__).with_name("resnet20.safetensors")


def augment(x: torch.Tensor) -> torch.Tensor:
    """x: (N, 1, 28, 28); each image shifted by up to 2 pixels, every second one mirrored."""
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    dy, dx = torch.randint(0, 5, (2,)).tolist()
    x = padded[:, :, dy : dy + 28, dx : dx + 28]
    mirrored = torch.rand(len(x)) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


@torch.no_grad()
def accuracy(model: torch.nn.Module, part: str) -> float:
    """The share of right answers on a split, in [0, 1]."""
    images, labels = data.load(part)
    model.eval()
    right = 0
    for start in range(0, len(images), 500):
        logits = model(torch.from_numpy(images[start : start + 500]))
        right += int((logits.argmax(1).numpy() == labels[start : start + 500]).sum())
    return right / len(images)


def train(epochs: int, batch: int, peak_rate: float, seed: int) -> ResNet:
    """A trained network, with an epoch's loss and time printed as it goes."""
    torch.manual_seed(seed)
    images, labels = (torch.from_numpy(array) for array in data.load("train"))
    model = ResNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), peak_rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(images) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=epochs * steps, pct_start=0.2)
    for epoch in range(epochs):
        started = time.monotonic()
        model.train()
        total = 0.0
        for chosen in torch.randperm(len(images))[: steps * batch].split(batch):
            x = augment(images[chosen]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1:2d}/{epochs}  loss {total / steps:.4f}  {seconds:.0f} s", flush=True)
    return model


def main() -> None:
    """Train, save the weights, and write beside them how they came to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peak-rate", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    started = time.monotonic()
    model = train(options.epochs, options.batch, options.peak_rate, options.seed)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, options.out)
    facts = {
        "command": "python examples/fashion_mnist/train.py "
        f"--epochs {options.epochs} --batch {options.batch} --peak-rate {options.peak_rate} --seed {options.seed}",
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "validation_accuracy": accuracy(model, "validation"),
        "test_accuracy": accuracy(model, "test"),
    }
    options.out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
