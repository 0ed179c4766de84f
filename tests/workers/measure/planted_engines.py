"""Engines that misbehave, each in one way; an outside package to autoopt (see conftest)."""

from __future__ import annotations

import ctypes
import os
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
        self._calls = 0

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        outputs = inputs[0].reshape(len(inputs[0]), -1) @ self._weights
        self._calls += 1
        misbehave = getattr(self, f"_{self._fault}", None)
        if misbehave is not None:
            misbehave(outputs)
        time.sleep(4e-4 if self._fault == "streams" else 2e-4)
        return (outputs,)

    def _segfault(self, _: np.ndarray) -> None:
        ctypes.string_at(0)

    def _later(self, _: np.ndarray) -> None:
        if self._calls > 3000:
            ctypes.string_at(0)

    def _quitter(self, _: np.ndarray) -> None:
        os._exit(0)

    def _eater(self, _: np.ndarray) -> None:
        self._eaten = [os.urandom(1 << 20) * 1024 for _ in range(30)]  # 30 GB

    def _talker(self, _: np.ndarray) -> None:
        for _piece in range(1 << 10 if self._calls == 1 else 0):
            os.write(1, b"x" * (1 << 20))  # 1 GB

    def _hang(self, _: np.ndarray) -> None:
        time.sleep(300)

    def _raise(self, _: np.ndarray) -> None:
        message = "no kernel for this"
        raise RuntimeError(message)

    def _nan(self, outputs: np.ndarray) -> None:
        outputs[0, 0] = np.nan

    def _greedy(self, _: np.ndarray) -> None:
        self._compute_in_three_threads()

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


class Quitter(Planted):
    name = "planted_quitter"


class Eater(Planted):
    name = "planted_eater"


class Talker(Planted):
    name = "planted_talker"


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
