"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; MIT licence): 60,000 + 10,000 grey images of 28 x 28, ten classes.

Found in this order: the folder that ``FASHION_MNIST`` names, Debian's package ``dataset-fashion-mnist``,
a download from the data set's own home into the user's cache. The files' checksums are verified wherever they come from.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
SHA256 = {
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}
MEAN, STD = 0.2860, 0.3530
VALIDATION = 5_000


class Arrays(NamedTuple):
    """images: float32, (N, 1, 28, 28), normalized; labels: int64, (N,)."""

    images: np.ndarray
    labels: np.ndarray


def folder() -> Path:
    """The folder that holds the four files; downloads them where neither the user nor Debian has them."""
    named = os.environ.get("FASHION_MNIST")
    if named:
        return Path(named).expanduser()
    if DEBIAN_FOLDER.is_dir():
        return DEBIAN_FOLDER
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "autoopt" / "fashion-mnist"
    cache.mkdir(parents=True, exist_ok=True)
    for name in SHA256:
        if not (cache / name).exists():
            _download(f"{HOME}/{name}", cache / name)
    return cache


def _download(url: str, target: Path) -> None:
    part = target.with_suffix(".part")
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 (a constant address)
            part.write_bytes(response.read())
    except OSError as error:
        message = (
            f"cannot download {url}: {error}. Set FASHION_MNIST to a folder with the data set's four .gz files, "
            "or install Debian's package dataset-fashion-mnist."
        )
        raise FileNotFoundError(message) from error
    part.rename(target)


def _read(name: str) -> np.ndarray:
    path = folder() / name
    if not path.is_file():
        message = f"{path} is missing; FASHION_MNIST must name a folder with {', '.join(SHA256)}."
        raise FileNotFoundError(message)
    packed = path.read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SHA256[name]:
        message = f"{path} has SHA-256 {found}, expected {SHA256[name]}: delete it or fetch it again."
        raise ValueError(message)
    raw = gzip.decompress(packed)
    # IDX: two zero bytes, the type (8: unsigned byte), the number of dimensions, then each as a big-endian int32.
    dimensions = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def load(part: str) -> Arrays:
    """``part``: "train" (55,000), "validation" (5,000: the last of the original training set) or "test" (10,000)."""
    prefix = "t10k" if part == "test" else "train"
    images = _read(f"{prefix}-images-idx3-ubyte.gz")
    labels = _read(f"{prefix}-labels-idx1-ubyte.gz")
    chosen = {"train": slice(0, -VALIDATION), "validation": slice(-VALIDATION, None), "test": slice(None)}[part]
    pixels = images[chosen].astype(np.float32)[:, None] / 255
    return Arrays((pixels - np.float32(MEAN)) / np.float32(STD), labels[chosen].astype(np.int64))
