"""A job's progress: a moving picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from autoopt.cli.output import duration
from autoopt.records.job import Progress

if TYPE_CHECKING:
    from rich.console import Group

LINES_EVERY_S = 10.0
_ROWS = 12


class Shows(Protocol):
    """Takes a job's progress and shows it."""

    def __call__(self, progress: Progress) -> None:
        """May be called from several threads."""


@contextmanager
def shown() -> Iterator[Shows]:
    """A picture on stderr that lasts as long as the block: stdout is kept for results."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield lambda progress: live.update(picture(progress))


def summary(progress: Progress) -> str:
    """``searching: 12 decided (7 measured, 3 eliminated, 2 failed) · front 4 · best 9.3× · 40 s, 3 min 20 s left``."""
    kinds = {"measured": progress.measured, "eliminated": progress.eliminated, "failed": progress.failed}
    ended = ", ".join(f"{count} {name}" for name, count in kinds.items() if count)
    parts = [f"{progress.phase}: {progress.decided} decided" + (f" ({ended})" if ended else "")]
    if progress.front:
        parts.append(f"front {len(progress.front)}")
    if progress.best is not None:
        parts.append(f"best {progress.best.speedup:.3g}×")
    left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
    return " · ".join([*parts, duration(progress.seconds_used) + left])


def picture(progress: Progress) -> Group:
    """The summary, the front so far, the dashboard's address."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("", "speed-up", "ms", progress.metric, "drop"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("front so far", overflow="fold", ratio=1)
    for entry in progress.front[:_ROWS]:
        best = progress.best is not None and entry.candidate_id == progress.best.candidate_id
        table.add_row(
            "★" if best else "",
            f"{entry.speedup:.3g}×",
            f"{entry.latency_ms:.3g}",
            f"{entry.score:.4g}",
            f"{entry.score_drop:.2g}",
            Text(entry.summary),  # no str: a description may hold what rich would take for markup
            style="bold" if best else "",
        )
    parts: list[Text | Table] = [Text(summary(progress))]
    if progress.front:
        parts.append(table)
    if len(progress.front) > _ROWS:
        parts.append(Text(f"… and {len(progress.front) - _ROWS} more"))
    if progress.dashboard:
        parts.append(Text(f"Ray dashboard: {progress.dashboard}", style="dim"))
    return Group(*parts)


class _Lines:
    """A line when the phase changes, and every ten seconds when something was decided."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._phase = ""
        self._decided = -1
        self._printed_at = 0.0
        self._dashboard: str | None = None

    def __call__(self, progress: Progress) -> None:
        with self._turn:
            self._show(progress)

    def _show(self, progress: Progress) -> None:
        if progress.dashboard and progress.dashboard != self._dashboard:
            self._dashboard = progress.dashboard
            print(f"Ray dashboard: {progress.dashboard}", file=sys.stderr, flush=True)
        due = progress.decided != self._decided and time.monotonic() - self._printed_at >= LINES_EVERY_S
        if progress.phase != self._phase or due:
            self._phase, self._decided, self._printed_at = progress.phase, progress.decided, time.monotonic()
            print(summary(progress), file=sys.stderr, flush=True)
