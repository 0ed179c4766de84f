"""A task that costs nothing: a linear layer on random numbers."""

from __future__ import annotations

import numpy as np
from torch import nn

from autoopt import Task


def _split(seed: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, 8)).astype(np.float32), rng.integers(0, 4, samples)


task = Task(network=nn.Linear(8, 4), validation=_split(1, 64), test=_split(2, 64), train=_split(3, 32), name="service")
