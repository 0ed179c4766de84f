"""Candidates that were postponed: probed, worth training, but others train first.

They hold no process and no slot, so that others are probed meanwhile and the trainer's next network is chosen from many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoopt.records import Eliminated, StageRun
from autoopt.search.elimination import Judge
from autoopt.search.telling import Asked
from autoopt.workers.entry import Postponed, Standing


@dataclass(frozen=True)
class _Entry:
    asked: Asked
    postponed: Postponed


class WaitingRoom:
    """By candidates' numbers. Not thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    def enter(self, asked: Asked, postponed: Postponed) -> None:
        """Wait from now on."""
        self._entries[asked.number] = _Entry(asked, postponed)

    def call(self, judge: Judge, seconds_left: float | None) -> Asked | None:
        """The one that promises most by second of training leaves the room; None where none is worth it now."""
        best = self._best(judge, seconds_left)
        return None if best is None else self._entries.pop(best).asked

    def best(self, judge: Judge, seconds_left: float | None) -> Standing | None:
        """Who would be called."""
        best = self._best(judge, seconds_left)
        return None if best is None else self._entries[best].postponed.standing

    def _best(self, judge: Judge, seconds_left: float | None) -> int | None:
        judged = {
            number: judge.judge(entry.postponed.standing, seconds_left) for number, entry in self._entries.items()
        }
        worthy = {number: each.promise for number, each in judged.items() if each.eliminated is None}
        return max(worthy, key=lambda number: worthy[number]) if worthy else None

    def dismiss(self, judge: Judge, seconds_left: float | None) -> dict[int, Eliminated]:
        """Who has no chance any more leaves the room: by the front as it is now, or for want of time."""
        ended = {}
        for number, entry in self._entries.items():
            eliminated = judge.judge(entry.postponed.standing, seconds_left).eliminated
            if eliminated is not None:
                ended[number] = replace(eliminated, stages=entry.postponed.stages)
        for number in ended:
            del self._entries[number]
        return ended

    def close(self) -> dict[int, Eliminated]:
        """Everybody leaves the room: the search is over."""
        entries, self._entries = self._entries, {}
        return {number: _never_called(entry.postponed) for number, entry in entries.items()}


def _never_called(postponed: Postponed) -> Eliminated:
    reason = "those that promise more were trained first, until the search was over"
    standing = postponed.standing
    return Eliminated("budget", reason, standing.speedup, standing.score, postponed.stages)


def merged(earlier: tuple[StageRun, ...], later: tuple[StageRun, ...]) -> tuple[StageRun, ...]:
    """What a candidate's stages cost over both its visits: the second one finds the first one's in the store."""
    known = {run.key for run in earlier}
    return (*earlier, *(run for run in later if run.key not in known))
