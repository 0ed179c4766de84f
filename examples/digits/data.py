"""Handwritten digits (Alpaydin, Kaynak 1998; CC BY 4.0), as scikit-learn ships them: 1,797 grey images of 8 x 8, ten classes."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

PARTS = {"train": slice(0, 1000), "validation": slice(1000, 1400), "test": slice(1400, None)}


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, float32, (N, 1, 8, 8), in [0, 1]; labels, int64, (N,). ``part``: "train", "validation" or "test"."""
    images, labels = load_digits(return_X_y=True)
    # The file lists the writers one after the other: shuffled, so that every part has all of them.
    chosen = np.random.default_rng(0).permutation(len(labels))[PARTS[part]]
    return (images[chosen] / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels[chosen].astype(np.int64)
