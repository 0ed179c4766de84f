"""The null engine: gives zeros of the right shape, and costs nothing. For testing what surrounds the engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.common import require_offered
from autoopt.workers.refusal import refusing

if TYPE_CHECKING:
    from torch import nn

FILE = "null.json"


class Null(Engine):
    """Does nothing."""

    name = "null"
    formats = ("module",)
    packages = ()
    preload = ()
    build_fields = ("batch",)

    def offer(self) -> Offer:
        """Everything, everywhere."""
        return Offer(self.name, version="1", precisions={"cpu": ("fp32", "bf16", "fp16", "int8", "int8_dynamic")})

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Note the outputs' shapes and types."""
        from autoopt.workers import formats

        require_offered(self.offer(), deployment)
        outputs = _outputs(formats.load(source), source.signature, deployment.batch)
        (out / FILE).write_text(json.dumps(outputs))

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> NullSession:  # noqa: ARG002 (the seam's arguments)
        """Open an artifact."""
        outputs = json.loads((path / FILE).read_text())
        return NullSession(tuple(np.zeros(shape, dtype) for shape, dtype in outputs), deployment)


class NullSession(Session):
    """Gives zeros."""

    def __init__(self, outputs: tuple[np.ndarray, ...], deployment: Deployment) -> None:
        self._outputs = outputs
        self._deployment = deployment

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:  # noqa: ARG002 (the seam's arguments)
        """Zeros, whatever is given."""
        return self._outputs

    def effective(self) -> Effective:
        """What was asked: there is nothing that could differ."""
        asked = self._deployment
        return Effective("1", asked.hardware, asked.precision, asked.threads)


def _outputs(module: nn.Module, signature: Signature, batch: int) -> list[tuple[list[int], str]]:
    import torch

    from autoopt.workers import formats

    with refusing("the network does not run on its example input"), torch.inference_mode():
        outputs = formats.call_module(module, formats.example_inputs(signature, batch), signature)
    return [(list(output.shape), str(output.dtype).removeprefix("torch.")) for output in outputs]
