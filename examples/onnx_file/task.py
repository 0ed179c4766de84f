"""A network that comes as an .onnx file, with arrays to judge it by: ``autoopt run examples/onnx_file/task.py:task``.

There are no training data, so only techniques that need none are tried.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from autoopt import Task

ONNX = Path(__file__).with_name("digits.onnx")
SEEN = 1200  # by the network, when it was trained
VALIDATION = 1500

if not ONNX.is_file():
    message = f"{ONNX} is missing: make it with 'python {ONNX.with_name('make.py')}' (seconds)"
    raise FileNotFoundError(message)

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)

task = Task(
    network=ONNX,
    validation=(images[SEEN:VALIDATION], labels[SEEN:VALIDATION]),
    test=(images[VALIDATION:], labels[VALIDATION:]),
    name="onnx_file",
)
