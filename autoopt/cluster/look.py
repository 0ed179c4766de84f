"""What this machine offers: found out in a process of its own, since looking loads every engine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from autoopt import interpreter
from autoopt.errors import ClusterError
from autoopt.records import digest, from_json, nvidia, to_json
from autoopt.records.environment import Environment, current

LIMIT_S = 180.0
_TAIL = 500
_FILE = "look.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Look:
    """What was found."""

    environment: Environment
    engines: Mapping[str, str]
    """The engines that offer something here, with their versions."""
    cuda: str | None
    """The first NVIDIA GPU's name."""
    refused: Mapping[str, str]
    """The engines that offer nothing here, with the reason and what mends it."""

    @property
    def cpu(self) -> str:
        """The processor's name."""
        return self.environment.cpu

    @property
    def autoopt(self) -> str:
        """The version."""
        return self.environment.packages.get("autoopt", "")


def look() -> Look:
    """Look at this machine; takes some seconds.

    Raises:
        ClusterError: an engine crashed or hung while it was looked at.
    """
    with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
        answer = Path(folder) / "answer.json"
        try:
            done = subprocess.run(
                interpreter.command("autoopt.cluster.look:main", str(answer)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LIMIT_S,
                check=False,
                env=interpreter.environment(),
            )
        except subprocess.TimeoutExpired:
            message = (
                f"an engine that is installed here did not answer within {LIMIT_S:g} s; `autoopt engines` shows which"
            )
            raise ClusterError(message) from None
        if not answer.exists():
            message = f"an engine that is installed here crashed while it was looked at: {done.stderr[-_TAIL:].strip()}"
            raise ClusterError(message)
        return from_json(Look, json.loads(answer.read_text()))


def remembered_look(folder: Path) -> Look:
    """What was found since the machine's start, with the same packages; else what is found now.

    Args:
        folder: of the user's own, where it is remembered.

    Raises:
        ClusterError: see `look`.
    """
    path, key = folder / _FILE, digest([boot(), sys.executable, sorted(_distributions())])
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["key"] == key:
            return from_json(Look, kept["look"])
    found = look()
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"key": key, "look": to_json(found)}))
    part.replace(path)
    return found


def _distributions() -> Iterator[str]:
    """All that is installed; engines may come from any package."""
    for found in metadata.distributions():
        yield f"{found.name} {found.version}"


def boot() -> str:
    """What is another one after each start of the machine."""
    return _BOOT.read_text().strip()


def main(arguments: list[str]) -> None:
    """In the process of its own."""
    (answer,) = arguments
    Path(answer).write_text(json.dumps(to_json(seen())))


def seen() -> Look:
    """The same, in this process."""
    from autoopt.workers.engines import offers

    found = offers()
    return Look(
        environment=current(),
        engines={name: offer.version or "unknown" for name, offer in found.items() if offer.available},
        cuda=None if (gpu := nvidia.gpu()) is None else gpu.name,
        refused={
            name: "; ".join(filter(None, (offer.reason or "it executes no precision here", offer.remedy)))
            for name, offer in found.items()
            if not offer.available
        },
    )
