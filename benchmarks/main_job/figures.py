"""The figures of a finished job, from its folder alone: what the main job's benchmark and the README quote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from autoopt.front import Front
from autoopt.jobfolder import JobFolder
from autoopt.jobs import job as open_job


def figures(folder: Path) -> dict[str, Any]:
    """Counts, speed-ups with their intervals, and where the wall time went."""
    job = JobFolder(folder)
    front = open_job(folder).front
    progress = job.state().progress
    wall_s = progress.seconds_used
    timeline = [json.loads(line) for line in (job.logs / "stages.jsonl").read_text().splitlines()]
    spans = [(run["started_at"], run["started_at"] + run["seconds"]) for run in timeline]
    began = datetime.fromisoformat(job.spec().created_at).timestamp()
    measured = sorted(run["started_at"] + run["seconds"] for run in timeline if run["kind"] == "measure")
    return {
        "decided": progress.decided,
        "measured": progress.measured,
        "eliminated": progress.eliminated,
        "failed": progress.failed,
        "wall_s": round(wall_s, 1),
        "orchestration_share": round(1 - covered_s(spans) / wall_s, 3),
        # The reference is measured first; the next one is the first that beats it.
        "first_config_s": round(measured[1] - began, 1) if len(measured) > 1 else None,
        **(_of_front(front) if front is not None else {}),
    }


def _of_front(front: Front) -> dict[str, Any]:
    pick = front.pick(max_accuracy_drop=0.01)
    gain = pick.speedup_vs_lossless
    return {
        "front": len(front),
        "recommended": pick.config.describe(),
        "goal_met": pick.met,
        "split": pick.config.split,
        "speedup": _interval(pick.config.speedup),
        "accuracy_drop_points": [round(100 * value, 2) for value in vars(pick.config.score_drop).values()],
        "speedup_vs_lossless": _interval(gain) if gain else None,
        "sentence": pick.sentence(),
    }


def _interval(estimate: Any) -> list[float]:
    return [round(value, 2) for value in (estimate.value, estimate.low, estimate.high)]


def covered_s(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in at least one of the spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
