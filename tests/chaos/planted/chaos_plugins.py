"""Engines that go wrong on purpose, each as an engine can: they join through the entry points, as a third party's would."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from autoopt.records import Deployment, Signature
from autoopt.workers.engines.base import Engine, Offer, Session, Source

MOST_BYTES = 4_000_000_000
"""An engine that nobody stops must not take the machine that tests it."""


class _Planted(Engine):
    formats = ("module",)
    packages = ()
    preload = ()

    def offer(self) -> Offer:
        return Offer(self.name, "1.0", {"cpu": ("fp32",)})

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        (out / "artifact").write_text("planted")

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        self.go_wrong()
        message = f"nobody stopped {self.name}"
        raise AssertionError(message)

    def go_wrong(self) -> None:
        raise NotImplementedError


class Segfaulting(_Planted):
    name = "segfaulting"

    def go_wrong(self) -> None:
        print("segfaulting: about to", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class Hanging(_Planted):
    name = "hanging"

    def go_wrong(self) -> None:
        print("hanging: about to", flush=True)
        time.sleep(3600)


class Hungry(_Planted):
    """Takes memory without end, 50 MB at a time, and touches it."""

    name = "hungry"

    def go_wrong(self) -> None:
        print("hungry: about to", flush=True)
        taken = []
        while len(taken) * 50_000_000 < MOST_BYTES:
            taken.append(b"\1" * 50_000_000)
            time.sleep(0.02)


class Flooding(_Planted):
    """Writes without end while it builds."""

    name = "flooding"

    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        print("flooding: about to", flush=True)
        with (out / "artifact").open("wb") as file:
            while file.tell() < MOST_BYTES:
                file.write(bytes(20_000_000))
                time.sleep(0.02)


class Babbling(_Planted):
    """Prints what is no text, without end."""

    name = "babbling"

    def go_wrong(self) -> None:
        while True:
            sys.stdout.buffer.write(os.urandom(1 << 16))
