"""What makes a task unusable, said before any work starts: what was given, what is allowed, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from autoopt.errors import TaskError
from autoopt.records import Signature, TensorSpec
from autoopt.task.data import Columns, narrow
from autoopt.task.losses import Loss
from autoopt.task.metrics import Metric
from autoopt.task.network import Original
from autoopt.task.onnx_file import OnnxInput
from autoopt.task.scan import Scan

MAX_OVERLAP = 0.01
"""The share of the smaller split's samples that may also be in another: real data sets hold a few duplicates."""

CLASSIFYING_METRICS = ("accuracy", "top5", "f1_macro")


def make_signature(sample: Columns, declared: tuple[OnnxInput, ...] | None) -> Signature:
    """The signature that a sample of the data gives; an ONNX file gives the names.

    Raises:
        TaskError: the file's inputs are others than the data's.
    """
    arrays = [narrow(array) for array in sample.arrays]
    specs = [TensorSpec(n, a.shape[1:], a.dtype.name) for n, a in zip(sample.names, arrays, strict=True)]
    if declared is None:
        return Signature(sample.structure, tuple(specs))
    if sample.structure == "dict":
        by_name = {spec.name: spec for spec in specs}
        specs = [by_name[each.name] for each in declared if each.name in by_name]
    matched = len(specs) == len(declared) and all(map(_matches, declared, specs))
    if not matched:
        message = (
            f"the ONNX file takes {', '.join(map(_told_onnx, declared))}; the data have {', '.join(map(_told, specs)) or 'other names'} "
            "(without the batch). Give the inputs in the file's order, of its types and shapes."
        )
        raise TaskError(message)
    named = tuple(TensorSpec(d.name, s.shape, s.dtype) for d, s in zip(declared, specs, strict=True))
    return Signature(sample.structure, named)


def _matches(declared: OnnxInput, spec: TensorSpec) -> bool:
    shape = declared.shape[1:]
    return (
        declared.dtype == spec.dtype
        and len(shape) == len(spec.shape)
        and all(size in (None, given) for size, given in zip(shape, spec.shape, strict=True))
    )


def _told_onnx(declared: OnnxInput) -> str:
    return f"{declared.name} ({', '.join(str(size or '?') for size in declared.shape)}) {declared.dtype}"


def _told(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.shape} {spec.dtype}"


def check_example(example: Columns, signature: Signature) -> None:
    """The example's inputs have the data's names, shapes and types.

    Raises:
        TaskError: they have not.
    """
    arrays = [narrow(array) for array in example.arrays]
    given = [TensorSpec(n, a.shape[1:], a.dtype.name) for n, a in zip(example.names, arrays, strict=True)]
    same = sorted((spec.shape, spec.dtype) for spec in given) == sorted((s.shape, s.dtype) for s in signature.tensors)
    if not same or any(not array.ndim for array in arrays):
        message = (
            f"the example is {', '.join(map(_told, given))}, the validation data are "
            f"{', '.join(map(_told, signature.tensors))} (without the batch, which comes first). "
            "Give one batch of the same, or no example: then the first validation sample is used."
        )
        raise TaskError(message)


def check_runs(network: Original, inputs: tuple[np.ndarray, ...], signature: Signature) -> np.ndarray:
    """The network's first output on one batch.

    Raises:
        TaskError: it raises (its own words are told), or the outputs are not one for each sample.
    """
    try:
        outputs = network.run(inputs, signature)
    except TaskError:
        raise
    except Exception as error:  # the user's own network: whatever it raises is told
        shapes = ", ".join(f"{array.shape} {array.dtype}" for array in inputs)
        message = (
            f"the network does not run on its example, inputs {shapes}: {type(error).__name__}: {error}. "
            "Check the data's shapes and types, or the order of the inputs."
        )
        raise TaskError(message) from error
    if outputs.ndim == 0 or len(outputs) != len(inputs[0]):
        message = (
            f"the network's first output is {outputs.shape} for {len(inputs[0])} samples; "
            "its first axis must be the batch. Return the outputs first, one for each sample."
        )
        raise TaskError(message)
    return outputs


def check_same_samples(scans: Mapping[str, Scan]) -> None:
    """Every split has inputs and targets of the validation split's shapes and types.

    Raises:
        TaskError: one has not.
    """
    expected = scans["validation"]
    for scan in scans.values():
        if (scan.inputs, scan.targets) != (expected.inputs, expected.targets):
            message = (
                f"{scan.name} has inputs {scan.inputs} and targets {scan.targets}, validation has inputs "
                f"{expected.inputs} and targets {expected.targets}: bring them to the same shapes and types"
            )
            raise TaskError(message)


def check_overlap(scans: Mapping[str, Scan]) -> tuple[str, ...]:
    """Remarks on the few samples that two splits share.

    Raises:
        TaskError: they share more than 1 % of the smaller one.
    """
    pairs = (("validation", "test"), ("train", "validation"), ("train", "test"))
    return tuple(
        remark
        for one, other in pairs
        if one in scans and other in scans and (remark := _overlap(scans[one], scans[other]))
    )


def _overlap(one: Scan, other: Scan) -> str:
    smaller, larger = (one, other) if one.length <= other.length else (other, one)
    shared = int(np.isin(smaller.rows, larger.rows).sum())
    if not shared:
        return ""
    told = f"{shared} of the {smaller.length} samples of {smaller.name} ({shared / smaller.length:.2%}) are also in {larger.name}"
    if shared > MAX_OVERLAP * smaller.length:
        message = (
            f"{told}; at most {MAX_OVERLAP:.0%} may be (a few duplicates are natural). "
            "Accuracy on data seen before says nothing: give disjoint splits."
        )
        raise TaskError(message)
    return told


def check_outputs(outputs: np.ndarray) -> None:
    """The original network's outputs on validation are numbers.

    Raises:
        TaskError: some are NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1))
    if len(bad):
        message = (
            f"the network's outputs are NaN or infinite for {len(bad)} of {len(outputs)} validation samples, first for "
            f"{bad[0]}: check its weights and how the inputs are normalized"
        )
        raise TaskError(message)


def check_classes(scans: Mapping[str, Scan], outputs: np.ndarray, metric: str, loss: str) -> None:
    """Integer targets are classes that the outputs have a score for.

    Args:
        scans: the splits.
        outputs: some of the network's outputs, (N, classes, ...).
        metric: the metric's name where it is a built-in one.
        loss: likewise.

    Raises:
        TaskError: a class is out of range.
    """
    if outputs.ndim == 1 or (metric not in CLASSIFYING_METRICS and loss != "cross_entropy"):
        return
    classes = outputs.shape[1]
    for scan in scans.values():
        low, high = scan.target_range or (0, 0)
        if low < 0 or high >= classes:
            message = (
                f"{scan.name} has targets from {low} to {high}, the network scores {classes} classes: allowed are "
                f"0 to {classes - 1}. Number the classes from 0, or give the network that belongs to these data."
            )
            raise TaskError(message)


def check_loss(loss: Loss, outputs: np.ndarray, targets: np.ndarray) -> None:
    """The loss of a few outputs is a number that can be minimized.

    Args:
        loss: of `autoopt.task.losses.resolve_loss`.
        outputs: (n, ...).
        targets: (n, ...).

    Raises:
        TaskError: it raises, or gives something else than one number.
    """
    import torch

    try:
        value = loss(torch.from_numpy(np.array(outputs)), torch.from_numpy(np.array(targets)))
        number = float(value)
    except Exception as error:  # the user's own function: whatever it raises is told
        message = (
            f"the loss fails on outputs {outputs.shape} {outputs.dtype} and targets {targets.shape} {targets.dtype}: "
            f"{type(error).__name__}: {error}. Give loss=function(outputs, targets) of tensors, returning one number."
        )
        raise TaskError(message) from error
    if not math.isfinite(number):
        message = f"the loss of the original network is {number} on its first samples; it must be finite"
        raise TaskError(message)


def check_score(metric: Metric, outputs: np.ndarray, targets: np.ndarray) -> float:
    """The original network's score.

    Raises:
        TaskError: the metric raises, gives another shape, or NaN.
    """
    score = metric.score(outputs, targets)
    if not math.isfinite(score):
        message = (
            f"the metric {metric.name!r} gives {score} for the original network on validation; it must give a finite "
            "number. Check for divisions by zero and empty classes in it."
        )
        raise TaskError(message)
    return score
