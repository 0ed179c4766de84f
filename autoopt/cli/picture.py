"""A job's progress as it moves on a terminal: what has been decided, the front as a plot and a table, what runs now.

Drawn anew for the terminal's size at that moment. What does not fit goes, the plot first: on a small terminal the
table alone is left. Every mark is a character, so that nothing is lost without colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from autoopt.cli.output import duration, plain
from autoopt.cli.plot import LEAST_HEIGHT, Point, plot
from autoopt.records.job import FrontEntry, Progress, mark

MOST_ROWS, MOST_PLOT, MOST_RUNNING = 12, 18, 4
FEW_ROWS, LEAST_TABLE = 4, 3
"""Rows of the table that come before the plot, and its lines that come before what runs."""
BAR, WIDE = 24, 60
_HEADERS = ("", "speed-up", "ms")
_CONFIG, _BEST, _REFERENCE = "●", "★", "◆"
_ASCII = {_CONFIG: "o", _BEST: "*", _REFERENCE: "R"}


@dataclass(frozen=True)
class Picture:
    """For rich's console; ``height`` in lines, the terminal's by default."""

    progress: Progress
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw it for that console, as it is now."""
        unicode = not options.ascii_only
        # One line stays free: a picture as high as the terminal would scroll.
        height = (self.height or console.size.height) - 1
        head = _head(self.progress)[: max(1, height)]
        running = _running(self.progress.running, min(MOST_RUNNING, height - len(head) - LEAST_TABLE))
        left = height - len(head) - len(running)
        front = self.progress.front if left >= LEAST_TABLE else ()
        plotted = left - (1 + min(len(_listed(self.progress)), FEW_ROWS)) if front else 0
        drawn = _drawn(self.progress, options.max_width, min(plotted, MOST_PLOT), unicode=unicode)
        for line in (*head, *drawn):
            yield _line(line, unicode=unicode)
        if front:
            yield from _table(self.progress, left - len(drawn), width=options.max_width, unicode=unicode)
        for line in running:
            yield _line(line, unicode=unicode)


def _line(text: str, *, unicode: bool) -> Text:
    # No str: a description may hold what rich would take for markup.
    return Text(text if unicode else plain(text, _ASCII), no_wrap=True, overflow="ellipsis" if unicode else "crop")


def _head(progress: Progress) -> list[str]:
    kinds = {"measured": progress.measured, "eliminated": progress.eliminated, "failed": progress.failed}
    ended = ", ".join(f"{count} {name}" for name, count in kinds.items() if count)
    parts = [f"{progress.phase}: {progress.decided} decided" + (f" ({ended})" if ended else "")]
    if progress.best is not None:
        parts.append(f"best {progress.best.speedup:.3g}×" + ("" if progress.goal_met else ", none meets the goal yet"))
    lines = [" · ".join(parts), _time(progress)]
    if progress.dashboard:
        # As its tasks are named there.
        named = f" · job {mark(progress.job)}" if progress.job else ""
        lines.append(f"Ray dashboard: {progress.dashboard}{named}")
    return lines


def _time(progress: Progress) -> str:
    used = duration(progress.seconds_used)
    if progress.seconds_left is None:
        return f"{used} used"
    share = progress.seconds_used / max(progress.seconds_used + progress.seconds_left, 1e-9)
    full = round(BAR * min(1.0, share))
    return f"{'█' * full}{'░' * (BAR - full)} {used} used, {duration(progress.seconds_left)} left"


def _drawn(progress: Progress, width: int, height: int, *, unicode: bool) -> Sequence[str]:
    if not progress.front or height < LEAST_HEIGHT + 1:
        return ()
    front = [_point(entry, _BEST if _is_best(entry, progress) else _CONFIG) for entry in progress.front]
    on_front = {entry.candidate_id for entry in progress.front}
    beside = ((progress.reference, _REFERENCE), (progress.best, _BEST))
    others = [_point(entry, glyph) for entry, glyph in beside if entry and entry.candidate_id not in on_front]
    lines = plot(front, others, width, height - 1, progress.metric, unicode=unicode)
    marks = f"  {_BEST} recommended  {_CONFIG} on the front  {_REFERENCE} reference; faster to the left"
    return [*lines, marks] if lines else ()


def _is_best(entry: FrontEntry, progress: Progress) -> bool:
    return progress.best is not None and entry.candidate_id == progress.best.candidate_id


def _point(entry: FrontEntry, glyph: str) -> Point:
    return Point(entry.latency_ms, entry.score, glyph)


def _table(progress: Progress, lines: int, *, width: int, unicode: bool) -> Iterator[RenderableType]:
    """The front so far, in so many lines, and how much of it is not shown."""
    shown = _shown(progress, min(MOST_ROWS, max(1, lines - 1)))
    rows = [_row(entry, progress) for entry in shown]
    names = [name for name in (*_HEADERS, progress.metric, "drop") if width >= WIDE or name in _HEADERS]
    table = Table(box=None, pad_edge=False, padding=(0, 1), expand=True)
    for name in names:
        table.add_column(_line(name, unicode=unicode), justify="right", no_wrap=True)
    table.add_column("front so far", no_wrap=True, overflow="ellipsis" if unicode else "crop", ratio=1)
    for entry, row in zip(shown, rows, strict=True):
        cells = (*row[: len(names)], _served_first(entry.summary))
        table.add_row(
            *(_line(cell, unicode=unicode) for cell in cells), style="bold" if _is_best(entry, progress) else ""
        )
    yield table
    if len(shown) < len(_listed(progress)):
        yield _line(f"… and {len(_listed(progress)) - len(shown)} more", unicode=unicode)


def _listed(progress: Progress) -> Sequence[FrontEntry]:
    best = progress.best
    if best is None or any(_is_best(entry, progress) for entry in progress.front):
        return progress.front
    return sorted((*progress.front, best), key=lambda entry: entry.latency_ms)


def _shown(progress: Progress, room: int) -> Sequence[FrontEntry]:
    """As many as there is room for, a line for the others, the best among them, though it may lie off the front."""
    front = _listed(progress)
    if len(front) <= room:
        return front
    kept = front[: max(1, room - 1)]
    best = next((entry for entry in front if _is_best(entry, progress)), None)
    return kept if best is None or best in kept else (*kept[:-1], best)


def _row(entry: FrontEntry, progress: Progress) -> tuple[str, ...]:
    return (
        _BEST if _is_best(entry, progress) else _REFERENCE if progress.reference == entry else "",
        f"{entry.speedup:.3g}×",
        f"{entry.latency_ms:.3g}",
        f"{entry.score:.4g}",
        f"{entry.score_drop:.2g}",
    )


def _served_first(summary: str) -> str:
    """The engine before the network: a line has no room for everything, and the networks of a front often begin alike."""
    network, _, served = summary.rpartition(" | ")
    return f"{served} | {network}" if network else summary


def _running(names: Sequence[str], most: int) -> list[str]:
    """In so many lines."""
    if not names or most < 1:
        return []
    shown = names if len(names) <= most else names[: max(1, most - 1)]
    rest = f"… and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    lines = [f"{'now: ' if index == 0 else '     '}{name}" for index, name in enumerate(shown)]
    if rest and len(lines) < most:
        return [*lines, f"     {rest}"]
    return [*lines[:-1], f"{lines[-1]} {rest}".rstrip()]
