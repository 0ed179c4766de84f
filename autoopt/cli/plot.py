"""The front as a plot in characters: latency to the right on a log axis, score upwards, the front as a staircase.

The line is drawn with braille dots, eight to a character, or with full stops where the terminal has ASCII only; a config is a
character of its own, so that the plot says the same without colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

# Bits of a braille character, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800
_NICE = (1.0, 2.0, 5.0)
LEAST_WIDTH, LEAST_HEIGHT = 40, 7
"""Characters and lines: in less there is nothing to see."""


@dataclass(frozen=True)
class Point:
    """A config."""

    latency_ms: float
    score: float
    glyph: str


def plot(
    front: Sequence[Point], others: Sequence[Point], width: int, height: int, score: str, *, unicode: bool = True
) -> list[str]:
    """``height`` lines of at most ``width`` characters; none where there is no room or nothing to draw.

    Args:
        front: joined by a staircase, the fastest first.
        others: drawn, too; of two that share a character the later one is seen, and of all the front's.
        width: in characters.
        height: in lines, the axes included.
        score: what the score is called.
        unicode: whether more than ASCII can be shown.
    """
    front, others = list(filter(_drawable, front)), list(filter(_drawable, others))
    points = [*others, *front]
    if not points or width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return []
    low, high = _padded([point.score for point in points], least=1e-3 * max(abs(points[0].score), 1e-9))
    left, right = _padded([math.log10(point.latency_ms) for point in points], least=0.15)
    rows = height - 3
    marks = {row: f"{high - (row + 0.5) / rows * (high - low):.4g}" for row in (0, rows // 2, rows - 1)}
    gutter = max(map(len, marks.values()))
    columns = width - gutter - 2

    def across(latency_ms: float) -> float:
        return (math.log10(latency_ms) - left) / (right - left)

    def down(value: float) -> float:
        return (high - value) / (high - low)

    cells = _stairs([(across(p.latency_ms), down(p.score)) for p in front], columns, rows, unicode=unicode)
    for point in points:
        cells[_at(down(point.score), rows)][_at(across(point.latency_ms), columns)] = point.glyph
    upright, corner, level = ("│", "└", "─") if unicode else ("|", "+", "-")
    lines = [" " * (gutter + 1) + upright + " " + score]
    lines += [f"{marks.get(row, ''):>{gutter}} {upright}" + "".join(cells[row]) for row in range(rows)]
    lines.append(" " * (gutter + 1) + corner + level * columns)
    ticks = _ticks([(_at(across(value), columns), f"{value:g}") for value in _nice(10**left, 10**right)], columns)
    lines.append(" " * (gutter + 2) + ticks)
    return [line.rstrip()[:width] for line in (*lines[:-1], _written(lines[-1], " ms", width - 3))]


def _drawable(point: Point) -> bool:
    return math.isfinite(point.latency_ms) and point.latency_ms > 0 and math.isfinite(point.score)


def _padded(values: Sequence[float], least: float) -> tuple[float, float]:
    """A range with some air around the values, never empty."""
    low, high = min(values), max(values)
    air = max(0.08 * (high - low), least)
    return low - air, high + air


def _stairs(corners: Iterable[tuple[float, float]], columns: int, rows: int, *, unicode: bool) -> list[list[str]]:
    """Cells with a line from each corner to the right, as far as the next one, and up to it; all within 0 and 1."""
    fine = (2 * columns, 4 * rows) if unicode else (columns, rows)
    dots = [(_at(x, fine[0]), _at(y, fine[1])) for x, y in corners]
    drawn: set[tuple[int, int]] = set()
    for (x, y), (next_x, next_y) in pairwise(dots):
        drawn |= {(column, y) for column in range(x, next_x + 1)}
        drawn |= {(next_x, row) for row in range(min(y, next_y), max(y, next_y) + 1)}
    if not unicode:
        return [["." if (column, row) in drawn else " " for column in range(columns)] for row in range(rows)]
    bits = [[0] * columns for _ in range(rows)]
    for column, row in drawn:
        bits[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    return [[chr(_BRAILLE + cell) if cell else " " for cell in line] for line in bits]


def _at(share: float, cells: int) -> int:
    return min(cells - 1, max(0, int(share * cells)))


def _nice(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in _NICE if low <= step * 10.0**decade <= high]


def _ticks(marks: Sequence[tuple[int, str]], columns: int) -> str:
    """The marks below the axis, as far as they do not touch."""
    line, free_from = " " * columns, 0
    for column, text in marks:
        begin = max(0, column - len(text) // 2)
        if begin >= free_from and begin + len(text) <= columns - 3:
            line = _written(line, text, begin)
            free_from = begin + len(text) + 1
    return line


def _written(line: str, text: str, begin: int) -> str:
    padded = line.ljust(begin)
    return padded[:begin] + text + padded[begin + len(text) :]
