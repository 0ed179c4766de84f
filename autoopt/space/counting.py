"""How large a space is, without walking through all of it.

The same walk as ever, by a chooser that turns only the choices on which something depends (engine, precision, whether a
technique is used, …) and multiplies by the number of values at all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoopt.space.domains import Domain, Interval, Value
from autoopt.space.resolved import Space
from autoopt.space.walk import compose

_BRANCHING = ("hardware", "precision", "quantizer")


@dataclass(frozen=True)
class Size:
    """A number of candidates; a lower bound where a choice is a continuum (counted as a few of its values)."""

    count: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.count:,}" if self.exact else f"more than {self.count:,}"


def size(space: Space) -> Size:
    """The number of different candidates."""
    watched = {
        fact for step in space.steps for when in (step.when, *(p.when for p in step.parameters)) for fact in when
    }
    watched |= {"engine", *(step.technique for step in space.steps)}
    wheels: list[list[int]] = []
    total = 0
    while True:
        counter = _Counter(watched, [place for place, _ in wheels])
        compose(space, counter)
        total += math.prod(counter.sizes)
        wheels = counter.wheels
        while wheels and wheels[-1][0] + 1 >= wheels[-1][1]:
            wheels.pop()
        if not wheels:
            break
        wheels[-1][0] += 1
    exact = all(p.domain.count() is not None for step in space.steps for p in step.parameters)
    return Size(total, exact)


class _Counter:
    """Turns the watched choices, notes the sizes of the others."""

    def __init__(self, watched: set[str], start: list[int]) -> None:
        self._watched = watched
        self._start = start
        self.wheels: list[list[int]] = []
        self.sizes: list[int] = []

    def __call__(self, name: str, domain: Domain, _default: Value) -> Value:
        values = domain.spread() if isinstance(domain, Interval) else domain.values
        last = name.rsplit(".", 1)[-1]
        if name not in self._watched and last not in self._watched and last not in _BRANCHING:
            self.sizes.append(domain.count() or len(values))
            return values[0]
        index = len(self.wheels)
        place = self._start[index] if index < len(self._start) else 0
        self.wheels.append([place, len(values)])
        return values[place]
