"""Plugins that go wrong on purpose: they join through the entry points, as a third party's would."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from autoopt.records import Deployment, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Context, Technique


class _Planted(Engine):
    formats = ("module",)
    packages = ()
    preload = ()

    def offer(self) -> Offer:
        return Offer(self.name, "1.0", {"cpu": ("fp32",)})

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        (out / "artifact").write_text("planted")

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        raise AssertionError


class Hanging(_Planted):
    name = "hanging"

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        time.sleep(3600)
        raise AssertionError


class Dying(_Planted):
    name = "dying"

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class Raising(Technique):
    name = "raising"
    parameters = (Parameter("strength", 1, choices=(1,)),)

    def apply(self, model: Any, params: Any, context: Context) -> Any:
        message = "planted failure"
        raise RuntimeError(message)


class Diverging(Technique):
    """Leaves weights that are not numbers, as a training that diverges does."""

    name = "diverging"
    parameters = (Parameter("strength", 1, choices=(1,)),)

    def apply(self, model: Any, params: Any, context: Context) -> Any:
        import torch

        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        return model, {}
