"""The values that one choice may take: a list, or an interval of numbers.

A number with a step is a list in disguise: what is finite is kept as one, so that equal candidates have equal values
(0.1 + 2 × 0.1 is not 0.3) and an order can be told from a mere set of names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = bool | int | float | str

MAX_LISTED = 1000
"""A range of more steps than this is an interval."""
_SHORT = 6
_DIGITS = 10
_MOVE = 0.125
"""A neighbour in an interval lies this share of its width away."""


@dataclass(frozen=True)
class Listed:
    """Some values, in the order of the file; the first is where a search begins."""

    values: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers that rise or fall: then nearness means something."""
        numbers = [value for value in self.values if not isinstance(value, bool | str)]
        if len(numbers) != len(self.values) or len(numbers) < 2:  # noqa: PLR2004 (one value has no order)
            return False
        rising = sorted(numbers)
        return numbers in (rising, rising[::-1])

    def contains(self, value: Value) -> bool:
        """Whether the value is one of them (True is not 1)."""
        return any(value == mine and isinstance(value, bool) is isinstance(mine, bool) for mine in self.values)

    def count(self) -> int | None:
        """How many values."""
        return len(self.values)

    def neighbours(self, value: Value) -> tuple[Value, ...]:
        """The values one step away; without an order, all others."""
        if not self.contains(value):
            return ()
        place = self.values.index(value)
        if not self.ordered:
            return tuple(other for index, other in enumerate(self.values) if index != place)
        return tuple(self.values[index] for index in (place - 1, place + 1) if 0 <= index < len(self.values))

    def spread(self) -> tuple[Value, ...]:
        """A few values that show the whole range: the middle first, then the ends, then what lies between (all of a short list)."""
        if not self.ordered:
            return self.values
        last = len(self.values) - 1
        middle = last // 2
        between = sorted(range(last), key=lambda place: abs(place - middle))
        further = between if len(self.values) <= _SHORT else [round(last / 4), round(3 * last / 4)]
        return tuple(self.values[place] for place in dict.fromkeys((middle, 0, last, *further)))


@dataclass(frozen=True)
class Interval:
    """All numbers from ``low`` to ``high``, both included; whole numbers where ``integer``."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def contains(self, value: Value) -> bool:
        """Whether the number lies inside."""
        if isinstance(value, bool | str) or (self.integer and value != int(value)):
            return False
        return self.low <= value <= self.high

    def count(self) -> int | None:
        """How many values; None for a continuum."""
        return int(self.high) - int(self.low) + 1 if self.integer else None

    def neighbours(self, value: Value) -> tuple[Value, ...]:
        """An eighth of the width to either side, where that is inside."""
        if not self.contains(value):
            return ()
        place = self._place(float(value))
        moved = (self.at(place + step) for step in (-_MOVE, _MOVE) if 0 <= place + step <= 1)
        return tuple(other for other in moved if other != value)

    def spread(self) -> tuple[Value, ...]:
        """The middle first, then the ends."""
        return tuple(dict.fromkeys(self.at(place) for place in (0.5, 0.0, 1.0)))

    def _place(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def at(self, place: float) -> int | float:
        """The number at a share of the width, in [0, 1]."""
        width = self.high - self.low
        value: float = self.low * (self.high / self.low) ** place if self.log else self.low + width * place
        value = min(max(value, self.low), self.high)
        return round(value) if self.integer else value


Domain: TypeAlias = Listed | Interval


def between(low: float, high: float, step: float | None, *, log: bool) -> Domain:
    """The domain that ``{low, high, step, log}`` in a file means.

    Raises:
        ValueError: the bounds cross, or a logarithmic range is not positive, or has a step.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        message = f"low {low} must not be above high {high}"
        raise ValueError(message)
    if log and (low <= 0 or step is not None):
        message = "a logarithmic range needs low above 0, and takes no step"
        raise ValueError(message)
    if step is not None and step <= 0:
        message = f"step must be above 0, not {step}"
        raise ValueError(message)
    if low == high:
        return Listed((low,))
    integer = isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int))
    if step is None and integer and not log:
        step = 1
    if step is None:
        return Interval(low, high, log=log, integer=integer)
    return _stepped(low, high, step, integer=integer)


def _stepped(low: float, high: float, step: float, *, integer: bool) -> Domain:
    steps = math.floor((high - low) / step + 1e-9)
    if steps >= MAX_LISTED:
        return Interval(low, high, integer=integer)
    values = (round(low + index * step, _DIGITS) for index in range(steps + 1))
    return Listed(tuple(int(value) if integer else float(value) for value in values))
