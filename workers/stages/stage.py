"""A stage: one content-addressed step of work. Its key says everything that its result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from autoopt.records import digest

# Raise it when what a stage leaves in its folder changes shape.
LAYOUT = 1


class Role(StrEnum):
    """Which of a node's slots a stage needs."""

    TRAINER = "trainer"
    BUILDER = "builder"
    FINISHER = "finisher"
    """Builds what is waited for: the first configs, the first changed networks, and what has been trained."""
    LANE = "lane"


@dataclass(frozen=True)
class Stage:
    """One step. ``parents`` are the keys of the folders that it reads, in the order in which its function expects them."""

    kind: str
    """"technique", "teacher", "original", "export", "build", "predict", "probe" or "measure"."""
    name: str
    """The technique, format, engine or split."""
    params: Mapping[str, Any]
    parents: tuple[str, ...]
    role: Role
    timeout_s: float
    salt: Mapping[str, Any]
    """What else the result depends on: versions, the machine."""
    kind_of_node: str | None = None
    """The kind of node that it must run on; None where any will do."""
    engine: str | None = None
    """The engine in whose own Python environment it runs, where that has one."""

    @property
    def key(self) -> str:
        """64 hexadecimal digits. Neither role nor time limit changes a result; what a node or an environment changes is in the salt."""
        return digest(
            {
                "layout": LAYOUT,
                "kind": self.kind,
                "name": self.name,
                "params": self.params,
                "parents": self.parents,
                "salt": self.salt,
            }
        )

    @property
    def label(self) -> str:
        """For people: the name of the task in the Ray dashboard, the stage in a failed outcome."""
        return f"{self.kind} {self.name}"
