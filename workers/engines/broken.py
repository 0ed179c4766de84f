"""An engine that stands in for one which could not be loaded: it offers nothing and says why."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Never

from autoopt.records import Deployment, Signature
from autoopt.workers.engines.base import Engine, Offer, Source
from autoopt.workers.refusal import unsupported


class Broken(Engine):
    """What every broken engine shares; `broken` makes one."""

    name = "broken"
    formats = ()
    packages = ()
    preload = ()
    reason: ClassVar[str] = ""

    def offer(self) -> Offer:
        """Nothing, and why."""
        return Offer(self.name, reason=self.reason, remedy="repair or uninstall the package that provides it")

    def build(self, source: Source, deployment: Deployment, out: Path) -> Never:  # noqa: ARG002 (the seam's arguments)
        """Refuse."""
        message = f"the engine {self.name} cannot be used: {self.reason}"
        raise unsupported(message)

    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Never:  # noqa: ARG002 (likewise)
        """Refuse."""
        message = f"the engine {self.name} cannot be used: {self.reason}"
        raise unsupported(message)


def broken(name: str, reason: str) -> Engine:
    """The stand-in for the engine ``name``."""
    made = type("Broken", (Broken,), {"name": name, "reason": reason})()
    assert isinstance(made, Engine)
    return made
