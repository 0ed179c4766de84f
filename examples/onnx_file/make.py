"""Make the example's .onnx file: ``python examples/onnx_file/make.py``. It stands for a file that somebody else has exported.

A small convolutional network for scikit-learn's digits, trained for a few seconds; the batch is left free.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

ONNX = Path(__file__).with_name("digits.onnx")
TRAIN = 1200
EPOCHS = 30


def main() -> None:
    """Train and export."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:TRAIN] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels[:TRAIN])
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(TRAIN).split(50):
            loss = nn.functional.cross_entropy(network(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.onnx.export(
        network.eval(),
        (x[:2],),
        str(ONNX),
        dynamo=False,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    print(f"{ONNX}: {ONNX.stat().st_size} bytes")


if __name__ == "__main__":
    main()
