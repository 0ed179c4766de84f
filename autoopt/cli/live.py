"""A job's progress: a moving picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from autoopt.cli.output import duration, plain, speaks_unicode
from autoopt.records.job import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LINES_EVERY_S = 10.0


class Shows(Protocol):
    """Takes a job's progress and shows it."""

    def __call__(self, progress: Progress) -> None:
        """May be called from several threads."""


@contextmanager
def shown() -> Iterator[Shows]:
    """A picture on stderr that lasts as long as the block: stdout is kept for results.

    Lines where stderr is no terminal, or one on which nothing can be drawn over.
    """
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield _Lines()
        return
    drawing = _Drawing(console)
    with Live(console=console, refresh_per_second=4, transient=True, get_renderable=drawing.newest):
        yield drawing


class _Drawing:
    """Holds the newest progress, for whoever draws."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._size = console.size
        self._progress = Progress()

    def __call__(self, progress: Progress) -> None:
        self._progress = progress

    def newest(self) -> RenderableType:
        """The picture. After the terminal's size has changed on an empty screen: what was drawn has been wrapped by the terminal."""
        from autoopt.cli.picture import Picture

        if self._console.size != self._size:
            self._size = self._console.size
            self._console.clear()
        return Picture(self._progress)


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
            _print(f"Ray dashboard: {progress.dashboard}")
        due = progress.decided != self._decided and time.monotonic() - self._printed_at >= LINES_EVERY_S
        if progress.phase != self._phase or due:
            self._phase, self._decided, self._printed_at = progress.phase, progress.decided, time.monotonic()
            _print(summary(progress))


def _print(line: str) -> None:
    print(line if speaks_unicode(sys.stderr) else plain(line), file=sys.stderr, flush=True)
