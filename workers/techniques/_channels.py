"""How many channels of each group stay: a small calculation on importances, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_SHARE = 0.05
"""No group gets thinner than this share of itself, whatever the global ranking says."""


@dataclass(frozen=True)
class Choice:
    """What is asked for."""

    ratio: float
    """The fraction of the channels that goes, in [0, 1)."""
    ranked_together: bool
    """Whether one ranking holds for all groups."""
    round_to: int
    """What the number of channels kept is a multiple of."""


@dataclass(frozen=True)
class Group:
    """Channels that go together."""

    root: str
    """The module whose output channels they are."""
    importance: torch.Tensor
    """``(channels,)``, of mean 1."""
    repeats: int = 1
    """Equal parts (heads, convolution groups) from each of which the same channels must go."""

    @property
    def units(self) -> torch.Tensor:
        """The importance of what is removed at once: ``(channels / repeats,)``."""
        return self.importance.view(self.repeats, -1).mean(0)

    def channels(self, units: torch.Tensor) -> list[int]:
        """The channels of these units, in every part."""
        size = len(self.importance) // self.repeats
        return sorted(int(unit) + part * size for part in range(self.repeats) for unit in units)


def removals(groups: Sequence[Group], choice: Choice) -> dict[str, list[int]]:
    """The channels to remove by root module; groups of which nothing goes are left out."""
    if choice.ratio == 0 or not groups:
        return {}
    threshold = _threshold(groups, choice.ratio) if choice.ranked_together else None
    found = {}
    for group in groups:
        units = group.units
        wanted = int((units > threshold).sum()) if threshold is not None else round(len(units) * (1 - choice.ratio))
        kept = _rounded(wanted, len(units), _step(choice.round_to, group.repeats))
        if kept < len(units):
            found[group.root] = group.channels(torch.argsort(units, stable=True)[: len(units) - kept])
    return found


def _threshold(groups: Sequence[Group], ratio: float) -> float:
    # A unit that stands for several channels weighs as many.
    ranked, order = torch.sort(torch.cat([group.units for group in groups]), stable=True)
    weights = torch.cat([torch.full((len(group.units),), float(group.repeats)) for group in groups])[order]
    below = torch.cumsum(weights, 0) <= ratio * weights.sum()
    count = int(below.sum())
    return float(ranked[count - 1]) if count else -1.0


def _step(round_to: int, repeats: int) -> int:
    return round_to // gcd(round_to, repeats)


def _rounded(wanted: int, units: int, step: int) -> int:
    """The multiple of ``step`` nearest to ``wanted``, at least one step, at most ``units``."""
    least = max(step, int(units * LEAST_SHARE))
    return min(units, max(least, round(wanted / step) * step))
