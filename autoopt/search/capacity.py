"""How much of a cluster a job may use at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from autoopt.workers.node import SPARE


@dataclass(frozen=True)
class Capacity:
    """How much of everything a job may use at a time."""

    lanes: int
    trainers: int
    spare: int
    """So many more trainings on cores that lanes lend."""

    @classmethod
    def of(cls, slots: Mapping[str, float]) -> Capacity:
        """From resources, a node's or a cluster's."""
        spare = round(slots.get(SPARE, 0))
        return cls(round(slots.get("lane", 0)), max(1, round(slots.get("trainer", 0)) - spare), spare)

    def shared_by(self, jobs: int) -> Capacity:
        """What each of so many jobs may use: together a little more than there is rather than less, so that nothing stands idle."""
        return Capacity(*(math.ceil(count / max(1, jobs)) for count in (self.lanes, self.trainers, self.spare)))
