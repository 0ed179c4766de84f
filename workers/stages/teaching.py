"""What the original network makes of the training samples, for those that learn from it: its outputs and its features."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import nn

from autoopt.errors import FailureKind, StageError
from autoopt.records import Deployment
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.engines.base import Source
from autoopt.workers.formats.export import export_onnx
from autoopt.workers.refusal import unsupported
from autoopt.workers.stages.chunks import FEATURES, OUTPUTS
from autoopt.workers.techniques._features import WithFeatures, feature_module, kept_features, stored_features
from autoopt.workers.techniques._network import Tensors, outputs, split_inputs

if TYPE_CHECKING:
    from autoopt.workers.techniques.base import Context, Rows

BATCH = 16

Run: TypeAlias = Callable[[Tensors], Tensors]


def teach(network: nn.Module, context: Context, places: Rows, out: Path) -> None:
    """Write ``outputs.npy`` and, where the network has features, ``features.npy`` for these places of the training order."""
    name = feature_module(network, context)
    taught = network if name is None else WithFeatures(network, name)
    order = np.asarray(context.task.training_order)
    answers, kept = [], []
    with _runner(taught, context, out) as run:
        for start in range(0, len(places), BATCH):
            chosen = places[start : start + BATCH]
            answer, *rest = run(split_inputs(context, "train", order[chosen]))
            answers.append(answer.float().numpy())
            if name is not None:
                kept.append(stored_features(kept_features(rest[0], chosen)))
    if kept and sum(map(len, kept)) != len(places):
        message = f"{name} leaves features for {sum(map(len, kept))} samples of {len(places)}"
        raise unsupported(message)
    np.save(out / OUTPUTS, np.concatenate(answers))
    if kept:
        np.save(out / FEATURES, np.concatenate(kept))


@contextmanager
def _runner(network: nn.Module, context: Context, out: Path) -> Iterator[Run]:
    """Runs the network on up to ``BATCH`` samples: in ONNX Runtime, which is three times as fast, or else in PyTorch."""
    with tempfile.TemporaryDirectory(dir=out) as folder:
        try:
            run, close = _exported(network, context, Path(folder))
        except StageError as error:
            print(f"in PyTorch, since it cannot be exported: {error.message}", flush=True)
            yield lambda inputs: outputs(network, inputs, context)
        else:
            yield run
            close()


def _exported(network: nn.Module, context: Context, folder: Path) -> tuple[Run, Callable[[], None]]:
    engine, deployment = engine_named("onnxruntime"), Deployment("onnxruntime", batch=BATCH)
    offer = engine.offer()
    if not offer.available:
        raise StageError(FailureKind.UNSUPPORTED, f"ONNX Runtime is not offered here: {offer.reason}")
    exported, artifact = folder / "onnx", folder / "artifact"
    exported.mkdir()
    artifact.mkdir()
    export_onnx(network.eval(), context.signature, BATCH, exported)
    engine.build(Source("onnx", exported, context.signature), deployment, artifact)
    session = engine.load(artifact, deployment, context.signature)

    def run(inputs: Tensors) -> Tensors:
        count = len(inputs[0])
        padded = tuple(np.resize(tensor.numpy(), (BATCH, *tensor.shape[1:])) for tensor in inputs)
        # The session writes its next outputs to the same place.
        return tuple(torch.from_numpy(np.array(found[:count], copy=True)) for found in session(padded))

    return run, session.close
