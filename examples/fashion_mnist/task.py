"""Fashion-MNIST and a trained ResNet-20: ``autoopt run examples/fashion_mnist/task.py:task``."""

from pathlib import Path

import data
from model import ResNet
from safetensors.torch import load_file
from student import student

from autoopt import Task

WEIGHTS = Path(__file__).with_name("resnet20.safetensors")


def trained() -> ResNet:
    """The network with the weights that ``train.py`` has written."""
    if not WEIGHTS.is_file():
        message = f"{WEIGHTS} is missing: make it with 'python {WEIGHTS.with_name('train.py')}' (half an hour)"
        raise FileNotFoundError(message)
    network = ResNet()
    network.load_state_dict(load_file(WEIGHTS))
    return network


task = Task(
    network=trained,
    validation=data.load("validation"),
    test=data.load("test"),
    train=data.load("train"),
    student=student,
    name="fashion_mnist",
)
