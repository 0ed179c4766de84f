"""What the shell shows: the front as a table, and the line that moves while a job runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoopt.front import Config, Front, Pick
from autoopt.front.words import figure, interval, number
from autoopt.report.prose import duration

if TYPE_CHECKING:
    from rich.table import Table


def front_table(front: Front, pick: Pick | None = None) -> Table:
    """The front for rich's console, the fastest first, with the recommended config, which a star marks."""
    from rich.table import Table
    from rich.text import Text

    words = front.words
    split = "test" if front.confirmed else "validation"
    table = Table(title=f"Pareto front, measured on the {split} split", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("#", justify="right", style="dim")
    table.add_column("config", overflow="fold", ratio=1)
    under_load = any(config.rate is not None for config in front)
    for name in (
        "speed-up",
        "requests/s" if under_load else "ms",
        f"drop{', points' if words.in_points else ''}",
        words.metric,
        "MB",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for config in front.listed_with(pick):
        # Text, not str: descriptions may hold what rich would take for markup.
        table.add_row(
            _mark(config, front, pick),
            str(config.number),
            Text(config.describe()),
            f"{figure(config.speedup, '×')} [dim]({interval(config.speedup)})[/dim]",
            figure(config.rate or config.latency_ms) if config.rate or not under_load else "",
            f"{figure(words.scaled(config.score_drop))} [dim]({interval(words.scaled(config.score_drop))})[/dim]",
            words.score(config.score),
            number(config.size_mb),
            style="bold" if pick is not None and config.id == pick.config.id else "",
        )
    return table


def _mark(config: Config, front: Front, pick: Pick | None) -> str:
    if pick is not None and config.id == pick.config.id:
        return "★"
    return "◆" if config.id == front.reference.id else ""


def progress_line(
    counts: dict[str, int], front: Sequence[Config], best: Config | None, elapsed_s: float, left_s: float | None = None
) -> str:
    """``12 decided (7 measured, 3 eliminated, 2 failed) · front 4 · best 9.3× · 40 s, 3 min 20 s left``.

    Args:
        counts: candidates by outcome, such as `autoopt.report.census.totals` gives them.
        front: the front so far.
        best: the config that would be recommended now.
        elapsed_s: since the start of the job.
        left_s: of the budget; None where it is not one of time.
    """
    ended = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    parts = [f"{sum(counts.values())} decided" + (f" ({ended})" if ended else ""), f"front {len(front)}"]
    if best is not None:
        parts.append(f"best {figure(best.speedup, '×')}")
    left = "" if left_s is None else f", {duration(max(0.0, left_s))} left"
    return " · ".join([*parts, duration(elapsed_s) + left])
