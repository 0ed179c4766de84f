"""Engines that misbehave, each in one way; an outside package to autoopt (see conftest)."""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path

import numpy as np

from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source


class PlantedSession(Session):
    def __init__(self, fault: str, deployment: Deployment, weights: np.ndarray) -> None:
        self._fault, self._deployment, self._weights = fault, deployment, weights
        self._helpers: list[threading.Thread] = []

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        outputs = inputs[0].reshape(len(inputs[0]), -1) @ self._weights
        if self._fault == "segfault":
            ctypes.string_at(0)
        if self._fault == "hang":
            time.sleep(300)
        if self._fault == "raise":
            message = "no kernel for this"
            raise RuntimeError(message)
        if self._fault == "nan":
            outputs[0, 0] = np.nan
        if self._fault == "greedy":
            self._compute_in_three_threads()
        self._calls = getattr(self, "_calls", 0) + 1
        if self._fault == "later" and self._calls > 3000:
            ctypes.string_at(0)
        time.sleep(4e-4 if self._fault == "streams" else 2e-4)
        return (outputs,)

    def effective(self) -> Effective:
        asked = self._deployment
        precision = "fp32" if self._fault == "fallback" else asked.precision
        return Effective("1", asked.hardware, precision, asked.threads)

    @property
    def streams(self) -> int:
        return 2 if self._fault == "streams" else 1

    def start(self, stream: int, inputs: tuple[np.ndarray, ...]) -> None:
        self._begun = getattr(self, "_begun", {})
        self._begun[stream] = (time.perf_counter(), inputs)

    def finish(self, stream: int) -> tuple[np.ndarray, ...]:
        begun, inputs = self._begun[stream]
        time.sleep(max(0.0, begun + 4e-4 - time.perf_counter()))
        return (inputs[0].reshape(len(inputs[0]), -1) @ self._weights,)

    def _compute_in_three_threads(self) -> None:
        # hashlib lets go of the interpreter's lock on long data, so that these threads really share the core.
        if not self._helpers:
            import hashlib

            def burn() -> None:
                data = bytes(10_000_000)
                while True:
                    hashlib.sha256(data).digest()

            self._helpers = [threading.Thread(target=burn, daemon=True) for _ in range(3)]
            for helper in self._helpers:
                helper.start()


class Planted(Engine):
    formats = ("module",)
    packages = ()
    preload = ()

    def offer(self) -> Offer:
        return Offer(self.name, version="1", precisions={"cpu": ("fp32", "int8")})

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        raise NotImplementedError

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        return PlantedSession(self.name.removeprefix("planted_"), deployment, np.load(path / "weights.npy"))


class Good(Planted):
    name = "planted_good"


class Streams(Planted):
    name = "planted_streams"


class Later(Planted):
    name = "planted_later"


class Segfault(Planted):
    name = "planted_segfault"


class Hang(Planted):
    name = "planted_hang"


class Raise(Planted):
    name = "planted_raise"


class Nan(Planted):
    name = "planted_nan"


class Greedy(Planted):
    name = "planted_greedy"


class Fallback(Planted):
    name = "planted_fallback"
