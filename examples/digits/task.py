"""Handwritten digits, a network of a few seconds' training: ``autoopt run examples/digits/task.py:task --space quick``."""

import data
import model

from autoopt import Task

task = Task(
    network=model.trained,
    validation=data.load("validation"),
    test=data.load("test"),
    train=data.load("train"),
    student=model.student,
    name="digits",
)
