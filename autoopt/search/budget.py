"""How much a search may use: wall time, a number of candidates, or both (whichever is used up first)."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from autoopt.errors import BudgetError

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_UNITS = {"d": "days?|d", "h": "hours?|h", "m": "minutes?|mins?|m", "s": "seconds?|secs?|s"}
_NUMBER = r"\d+(?:\.\d+)?"
_TIME = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER})\s*(?:{names})\s*)?" for unit, names in _UNITS.items()))
_COUNT = re.compile(r"(?P<count>\d+)\s*(?:candidates?)?")
_ALLOWED = 'Allowed are a time ("90s", "10m", "1h30m"), a number of candidates ("60 candidates") or both ("10m, 60").'


@dataclass(frozen=True)
class Budget:
    """Seconds of wall time and candidates decided; None is no limit. At least one of the two is set."""

    seconds: float | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is None and self.candidates is None:
            raise BudgetError(_refusal("nothing"))
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise BudgetError(_refusal(f"{self.seconds} seconds"))
        if self.candidates is not None and self.candidates < 1:
            raise BudgetError(_refusal(f"{self.candidates} candidates"))

    def __str__(self) -> str:
        parts = [] if self.seconds is None else [_clock_face(self.seconds)]
        if self.candidates is not None:
            parts.append(f"{self.candidates} candidate{'s' if self.candidates > 1 else ''}")
        return ", ".join(parts)


BudgetLike = str | int | timedelta | Mapping[str, float] | Budget
"""What `parse_budget` takes."""


def parse_budget(given: BudgetLike) -> Budget:
    """A budget from what people write.

    Args:
        given: "10m", "1h30m", "60 candidates", "10m, 60"; a whole number of candidates; a timedelta; a mapping with
            "seconds" and "candidates"; or a `Budget`.

    Raises:
        BudgetError: it is nothing, not above zero, or cannot be read.
    """
    match given:
        case Budget():
            return given
        case timedelta():
            return Budget(seconds=given.total_seconds())
        case str():
            return _parse_text(given)
        case Mapping():
            return _parse_mapping(given)
        case int() if not isinstance(given, bool):
            return Budget(candidates=given)
    raise BudgetError(_refusal(repr(given)))


def _parse_text(text: str) -> Budget:
    seconds: float | None = None
    candidates: int | None = None
    for part in (part.strip().lower() for part in re.split(r",|\+|\band\b", text)):
        count, span = _COUNT.fullmatch(part), _TIME.fullmatch(part)
        if part and count and candidates is None:
            candidates = int(count["count"])
        elif part and span and seconds is None:
            seconds = sum(float(number) * _SECONDS[unit] for unit, number in span.groupdict().items() if number)
        else:
            raise BudgetError(_refusal(f'"{text}"'))
    return Budget(seconds, candidates)


def _parse_mapping(given: Mapping[str, float]) -> Budget:
    candidates = given.get("candidates")
    if given.keys() - {"seconds", "candidates"} or (candidates is not None and candidates != int(candidates)):
        raise BudgetError(_refusal(repr(dict(given))))
    return Budget(given.get("seconds"), None if candidates is None else int(candidates))


def _refusal(given: str) -> str:
    return f"A budget of {given} cannot be used. {_ALLOWED}"


def _clock_face(seconds: float) -> str:
    whole = round(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number) or f"{seconds:g}s"


class BudgetClock:
    """How much of a budget is left."""

    def __init__(self, budget: Budget, *, used_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting; ``used_s`` was used before (by a job that is resumed)."""
        self.budget = budget
        self._clock = clock
        self._began = clock() - used_s

    @property
    def used_s(self) -> float:
        """Seconds since the start, without those that it was paused."""
        return self._clock() - self._began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What the context lasts is not counted."""
        began = self._clock()
        try:
            yield
        finally:
            self._began += self._clock() - began

    @property
    def left_s(self) -> float | None:
        """Seconds left, not below 0; None where time is no limit."""
        return None if self.budget.seconds is None else max(0.0, self.budget.seconds - self.used_s)

    def left(self, candidates: int) -> int | None:
        """How many more candidates, when so many have been decided; None where their number is no limit."""
        return None if self.budget.candidates is None else max(0, self.budget.candidates - candidates)

    def exhausted(self, candidates: int) -> bool:
        """Whether it is used up, when so many candidates have been decided."""
        return self.left_s == 0.0 or self.left(candidates) == 0
